"""Networks that `torch.compile` makes code for, so that no request waits for the compiler."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from webtorch import _process
from webtorch._eval_copy import EvalCopy

log = logging.getLogger("webtorch")

BACKEND = "inductor"
"""The compiler, a backend of torch.compile."""

MAX_INPUTS = 4096
"""Kinds of inputs of a network that are compiled for; others run as without the compiler."""

MAX_WAITING = 256
"""Kinds of inputs of all networks that wait for the compiler."""

_CONSTANTS = (bool, int, float, str, type(None))

in_background = False
"""Whether calls do not wait for the compiler: in workers. Set before requests are taken."""


class Counter(Protocol):
    """Counts what is compiled."""

    def compile(self) -> None:
        """Count a graph that was compiled."""


class _Thread(threading.local):
    compiles = False


_thread = _Thread()
"""Whether calls of this thread wait for the compiler all the same."""


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Let calls of this thread wait for the compiler in workers, too."""
    before, _thread.compiles = _thread.compiles, True
    try:
        yield
    finally:
        _thread.compiles = before


class Compiled:
    """Calls a network in evaluation mode, compiled for the kinds of its inputs.

    The compiler takes seconds to minutes. In a worker, a call with inputs of a kind that is not
    known yet runs as without it, and a thread compiles for that kind. Code for several rows serves
    other numbers of rows, but not always all of them, so each number is tried in that thread first.
    Calls with gradients, and with other arguments than tensors and constants by position, are not
    compiled.

    Args:
        name: Name of the model, for the log.
        evaluation: The network, in evaluation mode.
        counter: Counts what is compiled.

    """

    def __init__(self, name: str, evaluation: EvalCopy, counter: Counter) -> None:
        self._name = name
        self._eager = evaluation
        self._counter = counter
        self._known: set[tuple[Any, ...]] = set()
        self._asked: set[tuple[Any, ...]] = set()
        self._is_refused = False
        # the compiler of PyTorch is imported by the first call
        self._run: Callable[..., Any] = torch.compile(evaluation.module, backend=self._compile)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self._eager.module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        if self._is_refused or kwargs or torch.is_grad_enabled():
            return self._eager(*args, **kwargs)
        kinds = tuple(map(_kind, args))
        if kinds in self._known:
            return self._run(*args)
        if not self._may_ask(kinds):
            return self._eager(*args)
        if in_background and not _thread.compiles:
            if _compiler.ask(self, kinds):
                self._asked.add(kinds)
            return self._eager(*args)
        self.prepare(kinds)
        return self(*args)

    def _may_ask(self, kinds: tuple[Any, ...]) -> bool:
        return (
            kinds not in self._asked
            and None not in kinds
            and len(self._asked) < MAX_INPUTS
            and not _process.is_check()
        )

    def prepare(self, kinds: tuple[Any, ...]) -> None:
        """Compile for inputs of some kinds; what fails is logged once."""
        self._asked.add(kinds)
        try:
            with torch.no_grad():
                self._run(*map(_example, kinds))
        except Exception as error:
            self._is_refused = True
            # what the compiler raised, without PyTorch's advice
            cause = getattr(error, "inner_exception", error)
            reason = " ".join(f"{type(cause).__name__}: {cause}".split())
            log.warning('model "%s" is run without torch.compile: %s', self._name, reason[:1000])
            return
        self._known.add(kinds)

    def _compile(self, graph: Any, inputs: Any, **options: Any) -> Callable[..., Any]:
        """Compile a graph, as the backend of torch.compile."""
        from torch._dynamo.backends.registry import lookup_backend

        if in_background and not _thread.compiles:
            # a guard that does not depend on the inputs: a setting of PyTorch was changed
            self._tell_again(inputs)
        compiled: Callable[..., Any] = lookup_backend(BACKEND)(graph, inputs, **options)
        self._counter.compile()
        return compiled

    def _tell_again(self, inputs: Any) -> None:
        shapes = [tuple(each.shape) for each in inputs if isinstance(each, Tensor)]
        log.warning(
            'model "%s" is compiled again while a call waits, for tensors of %s',
            self._name,
            shapes[-1] if shapes else "no shape",
        )


class _Compiler:
    """The thread that compiles for kinds of inputs that calls have had."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[Compiled, tuple[Any, ...]]] = queue.Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self, compiled: Compiled, kinds: tuple[Any, ...]) -> bool:
        """Let it compile; return False if too many wait."""
        try:
            self._waiting.put_nowait((compiled, kinds))
        except queue.Full:
            return False
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    # a daemon: a worker does not wait for the compiler when it exits
                    self._thread = threading.Thread(
                        target=self._work, name="webtorch-compiler", daemon=True
                    )
                    self._thread.start()
        return True

    def _work(self) -> None:
        with compiling():
            while True:
                compiled, kinds = self._waiting.get()
                compiled.prepare(kinds)


_compiler = _Compiler()


def _kind(value: Any) -> Any:
    """Return what the code that is compiled for an argument depends on; None: it is not."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device, value.is_inference()
    return (type(value), value) if isinstance(value, _CONSTANTS) else None


def _example(kind: Any) -> Any:
    """Return an argument of a kind; the rows of a tensor are zeros, and their number may vary."""
    if len(kind) == 2:
        return kind[1]
    shape, stride, dtype, device, is_inference = kind
    with torch.inference_mode(is_inference):
        made = torch.empty_strided(shape, stride, dtype=dtype, device=device).zero_()
    if shape and shape[0] > 1:
        torch._dynamo.maybe_mark_dynamic(made, 0)
    return made
