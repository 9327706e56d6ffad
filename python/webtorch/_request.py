"""Requests of custom handlers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from webtorch._errors import HTTPError

Headers = Sequence[tuple[str, str]]


class RequestHeaders(Mapping[str, str]):
    """The headers of a request by name, in any case.

    The values of several headers with one name are joined with commas.
    """

    def __init__(self, items: Headers) -> None:
        self._items = tuple(items)
        self._values: dict[str, str] = {}
        for name, value in self._items:
            key = name.lower()
            known = self._values.get(key)
            self._values[key] = value if known is None else f"{known}, {value}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def items_as_sent(self) -> Headers:
        """Return names and values in the order and case in which the client sent them."""
        return self._items


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a custom handler; it may be kept after the call.

        @webtorch.handler
        def echo(request: webtorch.Request) -> bytes:
            return bytes(request.body)

    Attributes:
        method: Method of HTTP, for example `GET`.
        path: The decoded path, without the arguments.
        args: The part of the target after the `?`, as the client sent it; empty without one.
        headers: The headers by name, in any case.
        body: The decoded body, a read-only view of memory that is not copied.
        variables: The nginx variables that the handler is declared with, by name; None stands for
            a variable that is not set.

    """

    method: str
    path: str
    args: str
    headers: RequestHeaders
    body: memoryview
    variables: Mapping[str, str | None] = field(default_factory=dict)

    def query(self) -> dict[str, list[str]]:
        """Return the decoded arguments by name, each with all of its values."""
        return parse_qs(self.args, keep_blank_values=True)

    def json(self) -> Any:
        """Parse the body as JSON.

        Raises:
            HTTPError: The body is not JSON; the status is 400.

        """
        try:
            return json.loads(bytes(self.body))
        except (ValueError, RecursionError) as error:
            raise HTTPError(HTTPStatus.BAD_REQUEST, f"invalid JSON: {error}") from None
