"""Requests of custom handlers."""

import codecs
import http.cookies
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from webtorch._core.errors import HTTPError
from webtorch._core.headers import Headers, RequestHeaders
from webtorch._core.trace_context import Trace, parse
from webtorch._handlers.forms import Files, Form, Query, read_form

_INSTEAD = {
    "client": 'variables["remote_addr"], of @webtorch.handler(variables=["remote_addr"])',
    "content_type": 'headers.get("Content-Type")',
    "data": "body",
    "query_params": "query()",
    "query_string": "args",
    "url": "path and args",
}
"""What requests have in place of attributes of other frameworks."""

_decode_json = msgspec.json.Decoder().decode


class Request:
    r"""A request to a custom handler; it may be kept after the call.

        @webtorch.handler
        def echo(request: webtorch.Request) -> bytes:
            return bytes(request.body)

    nginx makes the requests that handlers get. Tests make their own, as in
    `Request("POST", "/flowers", body=b'{"name": "iris"}')`.

    Args:
        method: Method of HTTP, by default GET.
        path: The decoded path; by default `/`. What follows a `?` is the arguments, if there are
            no `args`.
        args: The arguments as a client sends them; by default none.
        headers: A mapping or pairs of names and values; by default none.
        body: The body; by default empty.
        variables: Variables of nginx by name; by default none.
        path_params: Named captures of the location by name; by default none.

    Attributes:
        method: Method of HTTP, for example `GET`.
        path: The decoded path, without the arguments.
        args: The part of the target after the `?`, as the client sent it; empty without one.
        headers: The headers by name, in any case.
        body: The decoded body, a read-only view of memory. A large one is not copied.
        variables: The nginx variables that the handler is declared with, by name; None stands for
            a variable that is not set.
        path_params: The named captures of the location's regular expression, by name, as `id` is
            one of `location ~ ^/flowers/(?<id>\d+)$`.

    """

    __slots__ = (
        "_cookies",
        "_form",
        "_trace",
        "args",
        "body",
        "headers",
        "method",
        "path",
        "path_params",
        "variables",
    )

    method: str
    path: str
    args: str
    headers: RequestHeaders
    body: memoryview
    variables: Mapping[str, str | None]
    path_params: Mapping[str, str]
    _cookies: Mapping[str, str]
    _form: tuple[Form, Files]
    _trace: Trace | None

    def __init__(
        self,
        method: str = "GET",
        path: str = "/",
        args: str = "",
        headers: Headers = (),
        body: bytes | bytearray | memoryview = b"",
        variables: Mapping[str, str | None] | None = None,
        path_params: Mapping[str, str] | None = None,
    ) -> None:
        self.method = method
        self.path, self.args = path, args
        if not args:
            self.path, _, self.args = path.partition("?")
        self.headers = headers if isinstance(headers, RequestHeaders) else RequestHeaders(headers)
        self.body = memoryview(body).toreadonly()
        self.variables = {} if variables is None else variables
        self.path_params = {} if path_params is None else path_params

    def __reduce__(self) -> tuple[Any, ...]:
        """Give another process, as one of a pool, a copy."""
        headers = [*self.headers.items_as_sent()]
        values = dict(self.variables), dict(self.path_params)
        # a decoded path may have a "?" of its own
        target = {"path": self.path, "args": self.args}
        return Request, (self.method, "", "", headers, bytes(self.body), *values), (None, target)

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.path!r}, {self.args!r}, {len(self.body)} bytes)"

    def __getattr__(self, name: str) -> Any:
        """Read an attribute that was not asked for before."""
        if name == "_cookies":
            value: Any = _read_cookies(self.headers.get("Cookie", ""))
        elif name == "_trace":
            value = parse(self.headers.get("traceparent", ""))
        elif name == "_form":
            value = read_form(self.headers.get("Content-Type", ""), self.body)
        else:
            use = f": use {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise AttributeError(f"a request has no {name!r}{use}")
        setattr(self, name, value)
        return value

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies by name; of two with one name the first."""
        return self._cookies

    @property
    def files(self) -> Files:
        """The files of the form that the body is, by the names of their fields.

        Raises:
            HTTPError: As `form()` does.

        """
        return self._form[1]

    @property
    def trace_id(self) -> str | None:
        """The trace of the header `traceparent`, 32 hexadecimal digits; None without one."""
        return self._trace.trace_id if self._trace else None

    @property
    def span_id(self) -> str | None:
        """The caller's span in the trace, 16 hexadecimal digits; None without one."""
        return self._trace.span_id if self._trace else None

    @property
    def is_sampled(self) -> bool | None:
        """Whether the caller records the trace; None without one."""
        return self._trace.is_sampled if self._trace else None

    def query(self) -> Query:
        """Return the decoded arguments of the query, by name."""
        return Query(parse_qsl(self.args, keep_blank_values=True, errors="surrogateescape"))

    def form(self) -> Form:
        """Return the fields of the form that the body is, by name.

        The body is of `multipart/form-data` or `application/x-www-form-urlencoded`. Fields are
        text, files are in `files`. A body that is empty has no fields.

        Raises:
            HTTPError: The body is of another type (415), malformed (400), or has more than 1000
                fields or a name of more than 8192 bytes (413, 400).

        """
        return self._form[0]

    def json(self) -> Any:
        """Parse the body as JSON.

        Raises:
            HTTPError: The body is not JSON; the status is 400.

        """
        try:
            return _decode_json(without_mark(self.body))
        except (ValueError, RecursionError) as error:
            raise invalid_json(error) from None


def without_mark(body: memoryview) -> memoryview:
    """Return JSON without the byte order mark that some clients begin it with."""
    return body[3:] if bytes(body[:3]) == codecs.BOM_UTF8 else body


def invalid_json(error: BaseException | str) -> HTTPError:
    """Return the error for a body that is not JSON."""
    return HTTPError(HTTPStatus.BAD_REQUEST, f"invalid JSON: {error}", code="malformed_body")


def _read_cookies(text: str) -> dict[str, str]:
    """Read a header Cookie as browsers write it: `name=value; name=value`."""
    cookies: dict[str, str] = {}
    for pair in text.split(";"):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            cookies.setdefault(name.strip(), http.cookies._unquote(value.strip()))
    return cookies
