"""Coroutines of handlers that take longer than `webtorch_slow` allows."""

import linecache
import logging
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

log = logging.getLogger("webtorch")

INTERVAL = 1.0
"""Seconds between two messages of a handler."""

MAX_FRAMES = 64

# of each handler: the time of its last message, and how many were left out since then
_reported: dict[str, tuple[float, int]] = {}


def report(name: str, seconds: float, coroutine: Any) -> None:
    """Log a coroutine that runs for too long, and the lines at which it and others await.

    Args:
        name: Name of the handler, `module:function`.
        seconds: For how long it runs.
        coroutine: The coroutine.

    """
    now = time.monotonic()
    last, more = _reported.get(name, (-INTERVAL, 0))
    if now - last < INTERVAL:
        _reported[name] = last, more + 1
        return
    _reported[name] = now, 0
    before = f", after {more} more that were slow" if more else ""
    lines = [
        f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}: '
        + linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        for frame in reversed([*_frames(coroutine)])
    ]
    log.warning(
        'handler "%s" is slow: its coroutine runs for %d ms with 1 rows of 1 requests%s; it '
        "awaits (most recent call first):\n%s",
        name,
        seconds * 1000,
        before,
        "\n".join(lines),
    )


def _frames(awaitable: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine, a generator, and what they await, the first one first."""
    for _ in range(MAX_FRAMES):
        for prefix in ("cr", "ag", "gi"):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                name = "gi_yieldfrom" if prefix == "gi" else f"{prefix}_await"
                awaitable = getattr(awaitable, name, None)
                break
        else:
            break
