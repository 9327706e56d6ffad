"""Coroutines of handlers, step by step."""

from collections.abc import Callable, Coroutine, Generator
from typing import Any

import torch

from webtorch._core import pytorch


class Steps(Coroutine[Any, Any, None]):
    """A coroutine of a handler, as a task of asyncio runs it.

    The grad mode belongs to the thread: each step sets that of the coroutine and puts back that of
    the thread. Nothing that the coroutine raises ends the loop.

    Args:
        coroutine: The coroutine.

    """

    __slots__ = ("_grad", "coroutine", "is_cancelled")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine
        self._grad = False
        self.is_cancelled = False

    def send(self, value: Any) -> Any:
        """Run the next step."""
        return self._step(self.coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the next step."""
        return self._step(self.coroutine.throw, *error)

    def close(self) -> None:
        """Close the coroutine, as one that is garbage."""
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("a call of a handler is not awaited")

    def __getattr__(self, name: str) -> Any:
        # cr_frame and the like, which asyncio's debugging and other libraries read
        return getattr(self.coroutine, name)

    def _returned(self, value: Any) -> None:
        """Take what the coroutine has returned."""
        raise NotImplementedError

    def _raised(self, error: BaseException) -> None:
        """Take what it has raised."""
        raise NotImplementedError

    def _ended(self) -> None:
        """Do what follows both."""
        raise NotImplementedError

    def _step(self, step: Callable[..., Any], *values: Any) -> Any:
        pytorch.set_grad_enabled(self._grad)
        try:
            return step(*values)
        except StopIteration as stop:
            self._returned(stop.value)
        except BaseException as error:
            self._raised(error)
        finally:
            self._grad = torch.is_grad_enabled()
            pytorch.set_grad_enabled(False)
        self._ended()
        raise StopIteration
