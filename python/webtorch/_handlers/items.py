"""Items of generators as they are sent: lines of JSON, events, text and bytes."""

from collections.abc import Sequence
from typing import Any

from webtorch._core.headers import media_type
from webtorch._handlers import json_encoding
from webtorch._handlers.response import BINARY, TEXT, encode

LINES = "application/x-ndjson"
EVENTS = "text/event-stream"

_BYTES = (bytes, bytearray, memoryview)


class ItemWriter:
    """Encodes the items of one generator.

    The media type of the answer is that of the handler, else it follows from the first item: text
    and bytes are sent as they are, other values are lines of JSON, or events if the client prefers
    these.

    Args:
        content_type: The media type that the handler is declared with; None: none.
        accept: The request's header Accept.

    """

    def __init__(self, content_type: str | None, accept: str = "") -> None:
        self._declared = content_type
        self._accept = accept
        self._is_events = False
        self._count = 0

    def begin(self, content_type: str | None, items: Sequence[Any] | None) -> str:
        """Return the media type of the answer.

        Args:
            content_type: The one of its head, None: none.
            items: The first item, if it is there.

        """
        kind = content_type or self._declared
        if kind is None:
            kind = self._kind_of(items[0]) if items else self._kind_of({})
        self._is_events = media_type(kind) == EVENTS
        return kind

    def _kind_of(self, item: Any) -> str:
        if isinstance(item, str):
            return TEXT
        if isinstance(item, _BYTES):
            return BINARY
        return EVENTS if prefers_events(self._accept) else LINES

    def write(self, item: Any) -> bytes:
        """Return an item as it is sent.

        Raises:
            TypeError: JSON cannot hold it.

        """
        if isinstance(item, str):
            return encode(item)
        if isinstance(item, _BYTES):
            return bytes(item)
        line = json_encoding.encode(item)
        if not self._is_events:
            return line + b"\n"
        number, self._count = self._count, self._count + 1
        return b"id: %d\ndata: %b\n\n" % (number, line)


def prefers_events(accept: str) -> bool:
    """Return whether a client names events, and values no other type of lines higher."""
    events = 0.0
    others = 0.0
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if name == EVENTS:
            events = max(events, quality)
        elif name in (LINES, "application/ndjson", "application/jsonl", "application/json"):
            others = max(others, quality)
    return events > 0 and events >= others
