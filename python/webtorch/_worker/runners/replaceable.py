"""A runner whose handler is replaced when its code changes on disk."""

from collections.abc import Callable
from typing import Any


class Replaceable:
    """Has a handler that takes over the state of the one before it."""

    handler: Any

    def prepare(self, handler: Any) -> Callable[[], None]:
        """Return a function that takes another handler with the same schema instead."""

        def replace() -> None:
            handler.take_over(self.handler)
            self.handler = handler

        return replace
