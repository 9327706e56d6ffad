"""The process that imports applications and reports their functions.

It imports PyTorch once and forks for each application, so that a changed file is imported from
scratch within milliseconds. It never runs a tensor operation itself, whose threads would not
survive the fork.
"""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from webtorch.cli._errors import CommandError
from webtorch.cli._functions import Function
from webtorch.cli._parent import end_with
from webtorch.cli._samples import sample, texts
from webtorch.cli._target import Target

if TYPE_CHECKING:
    from webtorch._handlers.functions import RequestFunction
    from webtorch._models.model import Model

LIMIT = 60.0
"""Seconds that the import of an application may take, as in nginx."""


@dataclass(frozen=True)
class Application:
    """What is known of an application after its module was imported.

    Attributes:
        functions: Its functions, in the order of their definitions.
        files: Its modules' files, to be watched, with those that an import has missed.
        state: Bytes of the tensors of its models.
        failure: Why it cannot be served, with a traceback; empty if it can.

    """

    functions: tuple[Function, ...] = ()
    files: tuple[Path, ...] = ()
    state: int = 0
    failure: str = ""


class Discovery:
    """Imports applications in a process of its own, which ends with this one.

    Args:
        preload: Modules that all applications share, imported once.
        limit: Seconds that the import of an application may take.

    """

    def __init__(self, preload: Sequence[str] = (), limit: float = LIMIT) -> None:
        self._limit = limit
        program = f"from {__name__} import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(os.getpid()), *preload],
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
        """End the process and, if it imports an application, that import with all its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).close()
        # a thread that reads it has got the end of the file
        _pipe(self._process.stdout).close()

    def read(self, target: Target) -> Application:
        """Import an application.

        Raises:
            CommandError: The process has ended, after a message of its own.

        """
        order = {"root": str(target.root), "module": target.module, "limit": self._limit}
        try:
            orders = _pipe(self._process.stdin)
            orders.write(json.dumps(order) + "\n")
            orders.flush()
            answer = _pipe(self._process.stdout).readline()
        except (BrokenPipeError, ValueError):  # it was closed, says the latter
            answer = ""
        if not answer:
            raise CommandError("the application cannot be imported.")
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
    # a child that imports an application, and processes that it has started, end as well
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    end_with(int(sys.argv[1]))()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import importlib

    import torch._dynamo  # noqa: F401 - made by each optimizer otherwise, in a second

    import webtorch._handlers.decorators
    import webtorch._models.model
    import webtorch._openapi.documents  # noqa: F401

    for name in sys.argv[2:]:
        importlib.import_module(name)

    for line in sys.stdin:
        order = json.loads(line)
        answers.write(_in_child(order, answers) + "\n")
        answers.flush()


def _in_child(order: Mapping[str, Any], answers: IO[str]) -> str:
    """Import an application in a child; return its answer, a document in a line."""
    readable, writable = os.pipe()
    with tempfile.TemporaryFile() as output:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                end_with(parent, signal.SIGKILL)()
                _prepare_child(output.fileno(), {readable, answers.fileno()})
                _run_child(order, writable)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(1)
        os.close(writable)
        # a second for what ends the child at the limit
        text = _read_line(readable, order["limit"] + 1)
        if text is None:
            os.kill(pid, signal.SIGKILL)
        os.close(readable)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if text is None:
        found = _answer(failure=_slow(order))
    else:
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


def _read_line(descriptor: int, limit: float) -> bytes | None:
    """Read a line, or what there is until the end; return None if it takes longer.

    The end may never come: a process that the code has started can have the pipe, too.
    """
    end = time.monotonic() + limit
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0, end - time.monotonic()))
        if not ready:
            return None
        part = os.read(descriptor, 65536)
        if not part:
            break
        text += part
    return text


def _slow(order: Mapping[str, Any]) -> str:
    return f"{order['module']} was not imported within {order['limit']:g} s"


# --- its children ---


def _prepare_child(output: int, others: set[int]) -> None:
    """Detach a child from the pipes of the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for descriptor in others:
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # what the code prints, workers print again: here it matters for a failure alone
    os.dup2(output, 1)
    os.dup2(output, 2)


def _run_child(order: Mapping[str, Any], writable: int) -> None:
    """Import an application, write the answer, and exit."""
    importing = _Importing(Path(order["root"]), order["module"])

    def answer(found: Mapping[str, Any]) -> None:
        try:
            with os.fdopen(writable, "w") as pipe:
                pipe.write(json.dumps(found) + "\n")
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)

    def give_up(_: int, frame: FrameType | None) -> None:
        answer(importing.interrupted(frame, _slow(order)))

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, order["limit"])
    found = importing.run()
    signal.setitimer(signal.ITIMER_REAL, 0)
    answer(found)


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


class _Importing:
    """The import of a module in this process.

    Args:
        root: The directory that modules are imported from.
        name: Name of the module.

    """

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name
        self._before = set(sys.modules)

    def run(self) -> dict[str, Any]:
        """Import the module and describe what it has."""
        import importlib

        from webtorch._core import process
        from webtorch._models.model import models

        process.checks = True
        sys.path.insert(0, str(self._root))
        try:
            functions = _functions(importlib.import_module(self._name))
        except BaseException as error:
            failed = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            if isinstance(error, SyntaxError) and error.filename:
                failed.append(error.filename)
            failed += _missing(error, self._root)
            return _answer(files=self._files(failed), failure=explain(error, self._root))
        state = sum(map(_size, models.values()))
        failure = ""
        if not functions:
            failure = (
                f"{self._name} has no functions under @webtorch.infer, @webtorch.train, "
                "@webtorch.stream, @webtorch.generate or @webtorch.handler"
            )
        return _answer(functions, self._files(), state, failure)

    def interrupted(self, frame: FrameType | None, reason: str) -> dict[str, Any]:
        """Describe an import that has not ended, and where it is."""
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame))
        stack.reverse()
        failed = [each.filename for each in stack]
        lines = _of_root(stack, self._root).format()
        text = "".join(["Traceback (most recent call last):\n", *lines, reason])
        return _answer(files=self._files(failed), failure=text)

    def _files(self, failed: Sequence[str] = ()) -> list[str]:
        """Return the files below the root of the modules that were loaded, and of others."""
        names = set(sys.modules) - self._before
        loaded = [getattr(sys.modules[one], "__file__", None) for one in names]
        found = {file for file in (*loaded, *failed) if file}
        return sorted(file for file in found if Path(file).is_relative_to(self._root))


def _missing(error: BaseException, root: Path) -> list[str]:
    """Return the files that would have been imported, had they been there."""
    found: list[Path] = []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ImportError) and cause.name:
            names = cause.name.split(".")
            # the message alone has what a package lacks
            if part := re.match(r"cannot import name '(\w+)' from ", str(cause)):
                names.append(part[1])
            path = root.joinpath(*names)
            found += [path.with_name(f"{path.name}.py"), path / "__init__.py"]
        cause = cause.__cause__ or cause.__context__
    return [str(file) for file in found if not file.exists()]


def _functions(module: Any) -> list[Function]:
    """Describe the handlers of a module.

    Raises:
        SignatureError: One of them cannot be served; a note has its place.

    """
    from webtorch._handlers.functions import RequestFunction
    from webtorch._handlers.lookup import handlers_of

    found = []
    for name, value in handlers_of(module).items():
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
    from webtorch._openapi.documents import Operation, document

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
        part.stack = _of_root(part.stack, root)
        part = part.__cause__ or part.__context__
    return "".join(found.format()).rstrip("\n")


def _of_root(stack: traceback.StackSummary, root: Path) -> traceback.StackSummary:
    """Return a stack without what is before the first frame of the application's code."""
    frames = [*stack]
    first = next(
        (i for i, frame in enumerate(frames) if Path(frame.filename).is_relative_to(root)),
        len(frames),
    )
    return traceback.StackSummary.from_list(frames[first:])
