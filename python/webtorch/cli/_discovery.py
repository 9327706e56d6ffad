"""The process that imports applications and reports their functions.

It imports PyTorch once and forks for each application, so that a changed file is imported from
scratch within milliseconds. It never runs a tensor operation itself, whose threads would not
survive the fork.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from webtorch.cli._errors import Failure
from webtorch.cli._functions import Function
from webtorch.cli._samples import sample, texts
from webtorch.cli._target import Target

if TYPE_CHECKING:
    from webtorch._handlers import RequestFunction
    from webtorch._model import Model


@dataclass(frozen=True)
class Application:
    """What is known of an application after its module was imported.

    Attributes:
        functions: Its functions, in the order of their definitions.
        files: Its modules' files, to be watched.
        state: Bytes of the tensors of its models.
        failure: Why it cannot be served, with a traceback; empty if it can.

    """

    functions: tuple[Function, ...] = ()
    files: tuple[Path, ...] = ()
    state: int = 0
    failure: str = ""


class Discovery:
    """Imports applications in a process of its own.

    Args:
        preload: Modules that all applications share, imported once.

    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import main; main()", *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for the command, which closes this process
            process_group=0,
        )

    def __enter__(self) -> "Discovery":
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process, if it has not ended yet."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        self._process.terminate()
        self._process.wait()
        _pipe(self._process.stdout).close()

    def read(self, target: Target) -> Application:
        """Import an application.

        Raises:
            Failure: The process has ended, after a message of its own.

        """
        try:
            order = _pipe(self._process.stdin)
            order.write(json.dumps({"root": str(target.root), "module": target.module}) + "\n")
            order.flush()
            answer = _pipe(self._process.stdout).readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Failure("the application cannot be imported.")
        found = json.loads(answer)
        return Application(
            tuple(map(Function.of_json, found["functions"])),
            tuple(map(Path, found["files"])),
            found["state"],
            found["failure"],
        )


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


# --- the process ---


def main() -> None:
    """Answer orders until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import importlib

    import torch._dynamo  # noqa: F401 - made by each optimizer otherwise, in a second

    import webtorch._handlers
    import webtorch._model
    import webtorch._openapi  # noqa: F401

    for name in sys.argv[1:]:
        importlib.import_module(name)

    for line in sys.stdin:
        order = json.loads(line)
        answers.write(_in_child(order) + "\n")
        answers.flush()


def _in_child(order: Mapping[str, str]) -> str:
    """Import an application in a child; return its answer, a document in a line."""
    readable, writable = os.pipe()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.close(readable)
            # what the code prints, workers print again: here it matters for a failure alone
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            status = 1
            try:
                with os.fdopen(writable, "w") as answer:
                    json.dump(_import(Path(order["root"]), order["module"]), answer)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        os.close(writable)
        with os.fdopen(readable) as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        printed = output.read().decode(errors="replace")
    try:
        found = json.loads(text)
    except ValueError:
        # a crash, or os._exit() of the code
        code = os.waitstatus_to_exitcode(status)
        how = f"was ended by signal {-code}" if code < 0 else f"exited with status {code}"
        found = _answer(failure=f"the process {how} while it imported {order['module']}")
    if found["failure"] and printed:
        found["failure"] = printed.rstrip("\n") + "\n" + found["failure"]
    return json.dumps(found)


def _answer(
    functions: Sequence[Function] = (),
    files: Sequence[str] = (),
    state: int = 0,
    failure: str = "",
) -> dict[str, Any]:
    return {
        "functions": [one.to_json() for one in functions],
        "files": [*files],
        "state": state,
        "failure": failure,
    }


def _import(root: Path, name: str) -> dict[str, Any]:
    """Import a module in this process and describe what it has."""
    import importlib

    from webtorch import _process
    from webtorch._model import models

    _process.checks = True
    sys.path.insert(0, str(root))
    before = set(sys.modules)
    functions: list[Function] = []
    failure = ""
    failed: list[str] = []
    try:
        functions = _functions(importlib.import_module(name))
        if not functions:
            failure = (
                f"{name} has no functions under @webtorch.infer, @webtorch.train, "
                "@webtorch.stream, @webtorch.generate or @webtorch.handler"
            )
    except BaseException as error:
        failure = explain(error, root)
        failed = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError) and error.filename:
            failed.append(error.filename)
    loaded = [getattr(sys.modules[one], "__file__", None) for one in set(sys.modules) - before]
    files = {file for file in [*loaded, *failed] if file and Path(file).is_relative_to(root)}
    return _answer(functions, sorted(files), sum(map(_size, models.values())), failure)


def _functions(module: Any) -> list[Function]:
    """Describe the handlers of a module.

    Raises:
        SignatureError: One of them cannot be served; a note has its place.

    """
    from webtorch._handlers import RequestFunction, TensorFunction

    found = []
    for name, value in vars(module).items():
        if name.startswith("_") or not isinstance(value, TensorFunction | RequestFunction):
            continue
        summary = next(iter((value.__doc__ or "").strip().splitlines()), "")
        try:
            if isinstance(value, RequestFunction):
                value.bind()
                found.append(_of_requests(name, value, summary))
                continue
            value.check_is_called()
            schema = value.wire_schema
        except TypeError as error:
            # a handler may be an object that is called
            if code := getattr(value.__wrapped__, "__code__", None):  # type: ignore[union-attr]
                place = f'File "{code.co_filename}", line {code.co_firstlineno}, in {name}'
                error.add_note(f"  {place}")
            raise
        found.append(
            Function(
                name,
                value.kind.name.lower(),
                tuple(value.methods),
                schema.batched,
                tuple(map(_tensor, schema.inputs)),
                tuple(map(_tensor, schema.outputs)),
                summary,
            )
        )
    return found


def _of_requests(name: str, handler: "RequestFunction", summary: str) -> Function:
    """Describe a handler of requests, with examples of what it needs."""
    from webtorch._openapi import Operation, document

    described = document([Operation(f"/{name}", handler)])
    components = described["components"]["schemas"]
    query: list[tuple[str, str]] = []
    body = None
    for entry in described["paths"][f"/{name}"].values():
        query = [
            (each["name"], text)
            for each in entry.get("parameters", ())
            if each["required"]
            for text in texts(sample(each["schema"], components))
        ]
        sent = entry.get("requestBody", {})
        if sent.get("required"):
            schema = sent["content"]["application/json"]["schema"]
            body = json.dumps(sample(schema, components), ensure_ascii=False)
    return Function(
        name, "handler", tuple(handler.methods), summary=summary, query=tuple(query), body=body
    )


def _tensor(spec: Any) -> Any:
    from webtorch.cli._functions import Tensor

    dtype = getattr(spec.dtype, "__name__", str(spec.dtype)).removeprefix("torch.")
    return Tensor(spec.name, dtype, tuple(spec.shape))


def _size(model: "Model") -> int:
    """Return the bytes of a model's parameters and buffers, for a trained one with its optimizer's.

    Optimizers keep up to two tensors for each parameter; with a lock there are copies of all.
    """
    tensors = [*model.module.parameters(), *model.module.buffers()]
    size: int = sum(one.numel() * one.element_size() for one in tensors)
    return size * (4 if model.optimizer else 1) * (2 if model.strict else 1)


def explain(error: BaseException, root: Path) -> str:
    """Return a traceback that begins where the application's code does."""
    found = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = found
    while part is not None:
        frames = [*part.stack]
        first = next(
            (i for i, frame in enumerate(frames) if Path(frame.filename).is_relative_to(root)),
            len(frames),
        )
        part.stack = traceback.StackSummary.from_list(frames[first:])
        part = part.__cause__ or part.__context__
    return "".join(found.format()).rstrip("\n")
