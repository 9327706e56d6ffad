"""Networks that `torch.compile` makes code for, so that no request waits for the compiler."""

import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from webtorch._core import process
from webtorch._models.eval_copy import EvalCopy

log = logging.getLogger("webtorch")

BACKEND = "inductor"
"""The compiler, a backend of torch.compile."""

MAX_INPUTS = 4096
"""Kinds of inputs of a network that are compiled for; others run as without the compiler."""

MAX_WAITING = 256
"""Kinds of inputs of all networks that wait for the compiler."""

MAX_GRAPHS = 64
"""Graphs of a network, of several numbers of rows and sizes."""

# each number would be a kind of its own
_CONSTANTS = (bool, str, type(None))

_numbers = itertools.count()

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


class _StaleError(RuntimeError):
    """The compiler would run in a call that must not wait for it."""


class Compiled:
    """Calls a network in evaluation mode, compiled for the kinds of its inputs.

    The compiler takes seconds to minutes. In a worker, a call with inputs of a kind that is not
    known yet runs as without it, and a thread compiles for that kind. Code for several rows serves
    other numbers of rows, but not always all of them, so each number is tried in that thread first.
    Calls with gradients, and with other arguments than tensors and constants by position, are not
    compiled. A network must be one graph: code that depends on values would be compiled in the call
    that has them.

    Args:
        name: Name of the model, for the log.
        evaluation: The network, in evaluation mode.
        counter: Counts what is compiled.

    """

    def __init__(self, name: str, evaluation: EvalCopy, counter: Counter) -> None:
        # in the check of a configuration, too: then the master imports it for all workers
        import torch._dynamo  # noqa: F401

        self._name = name
        self._eager = evaluation
        self._counter = counter
        self._known: set[tuple[Any, ...]] = set()
        self._asked: set[tuple[Any, ...]] = set()
        self._is_refused = False
        self._run: Callable[..., Any] | None = None

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self._eager.module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        if self._is_refused or kwargs or torch.is_grad_enabled():
            return self._eager(*args, **kwargs)
        kinds = tuple(map(_kind, args))
        if kinds in self._known and self._run:
            return self._call(self._run, args)
        if not self._may_ask(kinds):
            return self._eager(*args)
        if in_background and not _thread.compiles:
            if _compiler.ask(self, kinds):
                self._asked.add(kinds)
            return self._eager(*args)
        self.prepare(kinds)
        return self(*args)

    def prepare(self, kinds: tuple[Any, ...]) -> None:
        """Compile for inputs of some kinds; what fails is logged once."""
        from torch._dynamo import config

        self._asked.add(kinds)
        try:
            if self._run is None:
                self._run = self._make()
            # a network beyond the limit would run as it is, without a word
            with (
                config.patch(recompile_limit=MAX_GRAPHS, fail_on_recompile_limit_hit=True),
                compiling(),
                torch.no_grad(),
            ):
                self._run(*map(_example, kinds))
        except Exception as error:
            # what the compiler raised, without PyTorch's advice
            self._refuse(getattr(error, "inner_exception", error))
            return
        self._known.add(kinds)

    def _make(self) -> Callable[..., Any]:
        network = self._eager.module

        def run(*args: Any) -> Any:
            return network(*args)

        # PyTorch keeps graphs by code, and networks of a class share that of its forward()
        run.__code__ = run.__code__.replace(co_name=f"run_{next(_numbers)}")
        made: Callable[..., Any] = torch.compile(run, backend=self._compile, fullgraph=True)
        return made

    def _call(self, run: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return run(*args)
        except Exception as error:
            if not isinstance(getattr(error, "inner_exception", None), _StaleError):
                raise
            self._refuse(error.inner_exception)  # type: ignore[attr-defined]
            return self._eager(*args)

    def _may_ask(self, kinds: tuple[Any, ...]) -> bool:
        return (
            kinds not in self._asked
            and None not in kinds
            and len(self._asked) < MAX_INPUTS
            and not process.is_check()
        )

    def _compile(self, graph: Any, inputs: Any, **options: Any) -> Callable[..., Any]:
        """Compile a graph, as the backend of torch.compile."""
        from torch._dynamo.backends.registry import lookup_backend

        if not _thread.compiles:
            raise _StaleError("its code depends on more than its inputs, such as a count of calls")
        compiled: Callable[..., Any] = lookup_backend(BACKEND)(graph, inputs, **options)
        self._counter.compile()
        return compiled

    def _refuse(self, error: Exception) -> None:
        self._is_refused = True
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        log.warning('model "%s" is run without torch.compile: %s', self._name, reason[:1000])


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
