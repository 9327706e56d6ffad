"""The client of `webtorch.testing`."""

import gzip
import importlib
import os
import re
import sys
import threading
import types
import zlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from webtorch._core.headers import Headers, pairs
from webtorch._handlers.functions import Handler, RequestFunction, TensorFunction
from webtorch._handlers.lookup import handlers_of
from webtorch._schema.schema import SignatureError
from webtorch._streams.streams import StreamFunction
from webtorch.cli._target import Target
from webtorch.testing import _served
from webtorch.testing._messages import File, Message, Response
from webtorch.testing._native import Answer
from webtorch.testing._served import Loop, Served

Location = tuple[re.Pattern[str], Served]

MAX_REDIRECTS = 10
"""Internal redirects of a request, as in nginx."""


class Client:
    """Calls the functions of an application as HTTP requests do, in this process.

        client = Client("app.py")
        response = client.post("/output", json=[[0.5, 0.5]])
        assert response.json() == [[0.25]]

    Bodies are decoded, checked, put into batches and encoded by the code that nginx's workers run.
    What needs a server is not here: queues, timeouts, threads, TLS, CORS, streams, the inference
    protocol, a zone and other directives.

    Args:
        app: A module, the path of a file or a directory with app.py or main.py, the name of a
            module, or functions by name.
        locations: Functions, or their names in the application, by location: a path, or
            `~ ` and a regular expression with named captures. By default each function is at
            its name, as with `webtorch serve`.
        variables: Variables of nginx that functions of requests ask for, by name; those of the
            request, as `remote_addr`, `uri` and `http_host`, are known.
        headers: Headers that all requests have.
        max_body_size: Largest body in bytes, as `client_max_body_size`; by default 16 MB.
        raise_server_exceptions: Whether an exception that would be answered with 500 is raised in
            the test, which is the default.

    Raises:
        ImportError: The library of formats is missing, or the module's name is that of another
            application in this process.
        SignatureError: A function cannot be served.
        TypeError: A location is that of a stream.

    """

    def __init__(
        self,
        app: types.ModuleType | str | Path | Mapping[str, Handler],
        *,
        locations: Mapping[str, Handler | str] | None = None,
        variables: Mapping[str, str] | None = None,
        headers: Headers | None = None,
        max_body_size: int = 16 << 20,
        raise_server_exceptions: bool = True,
    ) -> None:
        functions = _functions(app)
        self._locations = [
            _location(place, functions[found] if isinstance(found, str) else found)
            for place, found in (locations or _own_locations(functions)).items()
        ]
        self._variables = dict(variables or {})
        self._headers = [*pairs(headers or ())]
        self._limit = max_body_size
        self._raises = raise_server_exceptions
        self._loop = Loop()
        # as a worker, it makes one call at a time
        self._lock = threading.RLock()

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None,
        headers: Headers | None = None,
        json: Any = None,
        content: bytes | str | None = None,
        data: Mapping[str, Any] | None = None,
        files: Mapping[str, File] | None = None,
    ) -> Response:
        """Send a request.

        Args:
            method: Method of HTTP.
            url: Path with a query, or an absolute address.
            params: More arguments of the query.
            headers: Headers, beside those of all requests.
            json: A value that is sent as JSON; tensors and arrays are sent as lists.
            content: The body itself; its type is the header Content-Type.
            data: Fields of a form.
            files: Files of a form by the names of their fields: contents, a path, or a tuple of a
                name, contents and a media type.

        Raises:
            Exception: The function raised it, and `raise_server_exceptions` is not False.
            ValueError: There are several bodies.

        """
        message = self._message(
            method,
            url,
            params=params,
            headers=headers,
            json=json,
            content=content,
            data=data,
            files=files,
        )
        return self._send([message])[0]

    def get(self, url: str, **options: Any) -> Response:
        """Send a GET; the options are those of `request`."""
        return self.request("GET", url, **options)

    def head(self, url: str, **options: Any) -> Response:
        """Send a HEAD; the options are those of `request`."""
        return self.request("HEAD", url, **options)

    def post(self, url: str, **options: Any) -> Response:
        """Send a POST; the options are those of `request`."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> Response:
        """Send a PUT; the options are those of `request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> Response:
        """Send a PATCH; the options are those of `request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> Response:
        """Send a DELETE; the options are those of `request`."""
        return self.request("DELETE", url, **options)

    def options(self, url: str, **options: Any) -> Response:
        """Send an OPTIONS; the options are those of `request`."""
        return self.request("OPTIONS", url, **options)

    def batch(self, url: str, requests: Sequence[Mapping[str, Any]]) -> list[Response]:
        """Send requests that arrive together: a function of tensors gets their rows in a call.

            first, second = client.batch("/output", [{"json": [[1, 0]]}, {"json": [[0, 1]]}])

        Requests with other sizes of variable axes, or without other optional tensors, are in
        another call, as in nginx.

        Args:
            url: Path of all requests.
            requests: The options of `request` for each; `method` is POST unless it is given.

        Raises:
            Exception: The function raised it, and `raise_server_exceptions` is not False.

        """
        messages = []
        for options in requests:
            others = {name: value for name, value in options.items() if name != "method"}
            messages.append(self._message(options.get("method", "POST"), url, **others))
        return self._send(messages)

    def _message(
        self, method: str, url: str, headers: Headers | None = None, **options: Any
    ) -> Message:
        given = [*pairs(headers or ())]
        names = {name.lower() for name, _ in given}
        ours = [(name, value) for name, value in self._headers if name.lower() not in names]
        return Message(method, url, headers=[*ours, *given], **options)

    def _send(self, messages: Sequence[Message]) -> list[Response]:
        if not messages:
            return []
        served, captures = self._find(messages[0].path)
        if served is None:
            return [_not_found() for _ in messages]
        with self._lock:
            for _, one in self._locations:
                one.failures.errors.clear()
            if isinstance(served.handler, TensorFunction):
                found = self._send_tensors(served, messages)
            else:
                found = [self._send_request(served, one, captures, 0) for one in messages]
            errors = [error for _, one in self._locations for error in one.failures.errors]
            if self._raises and errors:
                raise errors[0]
        return [
            Response(one.status_code, one.headers.items_as_sent(), b"", [])
            if message.method == "HEAD"
            else one
            for message, one in zip(messages, found, strict=True)
        ]

    def _find(self, path: str) -> tuple[Served | None, dict[str, str | None]]:
        for pattern, served in self._locations:
            if match := pattern.search(path):
                return served, match.groupdict()
        return None, {}

    def _refused(self, served: Served, message: Message) -> Response | None:
        """Return the error of a request that is refused by its headers, or inflate its body."""
        if message.method not in served.methods:
            return _served.error(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "method_not_allowed",
                'this address does not serve the method, see the header "Allow"',
                [("Allow", ", ".join(served.methods))],
            )
        if len(message.body) > self._limit:
            return _too_large()
        coding = message.headers.get("content-encoding", "identity").lower()
        if coding == "identity" or not message.body:
            return None
        if coding not in ("gzip", "x-gzip", "deflate"):
            return _served.error(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "unknown content encoding: send gzip or deflate, or the body uncompressed",
                [("Accept-Encoding", "gzip, deflate")],
            )
        try:
            inflate = zlib.decompress if coding == "deflate" else gzip.decompress
            message.body = inflate(message.body)
        except (OSError, EOFError, zlib.error) as error:
            text = f"the body is not {coding}: {error}"
            return _served.error(HTTPStatus.BAD_REQUEST, "malformed_body", text)
        return _too_large() if len(message.body) > self._limit else None

    def _send_tensors(self, served: Served, messages: Sequence[Message]) -> list[Response]:
        if any(message.method == "OPTIONS" for message in messages):
            raise NotImplementedError("OPTIONS of a function of tensors needs nginx")
        refused = [self._refused(served, message) for message in messages]
        accepted = [
            message for message, error in zip(messages, refused, strict=True) if error is None
        ]
        answers = iter(served.run(accepted, self._limit))
        return [error or next(answers) for error in refused]

    def _send_request(
        self, served: Served, message: Message, captures: Mapping[str, str | None], depth: int
    ) -> Response:
        if (error := self._refused(served, message)) is not None:
            return error
        variables = {**_variables(message), **self._variables, **captures}
        lower = {name.lower(): value for name, value in variables.items()}
        failed = len(served.failures.errors)
        answer = served.call(message, lower, self._loop)
        if not answer.status or len(served.failures.errors) > failed:
            return _served.handler_failed()
        if answer.failure is not None:
            return _served.failed(answer)
        if answer.redirect:
            return self._redirect(message, answer, depth)
        if answer.tensor is not None:
            return served.tensor(message, answer)
        return _respond(answer, served.handler)

    def _redirect(self, message: Message, answer: Answer, depth: int) -> Response:
        """Answer with what another location answers."""
        served, captures = self._find(answer.redirect.partition("?")[0])
        if served is None or depth == MAX_REDIRECTS:
            return _not_found()
        if isinstance(served.handler, TensorFunction):
            return self._send_tensors(served, [message])[0]
        message.path, _, message.args = answer.redirect.partition("?")
        return self._send_request(served, message, captures, depth + 1)


def _respond(answer: Answer, handler: Handler) -> Response:
    kind = answer.content_type
    body = answer.body or b""
    if answer.file is not None:
        found = _served.read_file(answer.file)
        if found is None:
            return _served.handler_failed()
        body, guessed = found
        kind = kind or guessed
    if isinstance(handler, RequestFunction) and handler.is_generator:
        body = b"".join(answer.items)
        ours = [("Content-Type", kind)] if kind else []
        return Response(answer.status, [*ours, *answer.headers], body, answer.items)
    return _served.response(answer.status, kind, body, answer.headers)


def _functions(app: Any) -> dict[str, Handler]:
    if isinstance(app, Mapping):
        return dict(app)
    if not isinstance(app, types.ModuleType):
        # the name of a module may be that of an installed package
        is_path = isinstance(app, os.PathLike) or os.sep in str(app) or str(app).endswith(".py")
        target = Target.find(str(app))
        if str(target.root) not in sys.path:
            sys.path.insert(0, str(target.root))
        app = importlib.import_module(target.module)
        if is_path:
            _check_module(app, target)
    return handlers_of(app)


def _check_module(module: types.ModuleType, target: Target) -> None:
    """Raise ImportError if an import has found another file than that of an application."""
    place = target.root.joinpath(*target.module.split("."))
    files = [place.with_suffix(".py"), place / "__init__.py"]
    expected = next((file.resolve() for file in files if file.is_file()), None)
    found = getattr(module, "__file__", None)
    if expected and found and Path(found).resolve() != expected:
        # modules that both applications import may have the same names, too
        raise ImportError(
            f'the module "{target.module}" of this process is {found}, not {expected}: rename one '
            "of the files, or run their tests in processes of their own"
        )


def _own_locations(functions: Mapping[str, Handler]) -> dict[str, Handler]:
    return {
        f"/{name}": found
        for name, found in functions.items()
        if not isinstance(found, StreamFunction)
    }


def _location(place: str, handler: Handler) -> Location:
    name = getattr(handler, "__qualname__", place)
    if isinstance(handler, TensorFunction):
        try:
            handler.check_is_called()
        except SignatureError as error:
            raise SignatureError(f'function "{name}": {error}') from error
    if not place.startswith("~"):
        path = place.removeprefix("=").strip()
        return re.compile(re.escape(path) + r"\Z"), Served(name, handler)
    flags = re.IGNORECASE if place.startswith("~*") else re.NOFLAG
    text = place.lstrip("~*").strip()
    pattern = re.compile(re.sub(r"\(\?<(?![=!])", "(?P<", text), flags)
    return pattern, Served(name, handler, [*pattern.groupindex])


def _variables(message: Message) -> dict[str, str | None]:
    """Return nginx's variables of a request."""
    found: dict[str, str | None] = {
        "args": message.args,
        "query_string": message.args,
        "content_length": message.headers.get("content-length"),
        "content_type": message.headers.get("content-type"),
        "host": message.headers.get("host", "").partition(":")[0],
        "remote_addr": "127.0.0.1",
        "request_method": message.method,
        "request_uri": message.uri,
        "scheme": "http",
        "server_protocol": "HTTP/1.1",
        "uri": message.path,
    }
    for name, value in message.headers.items():
        found[f"http_{name.replace('-', '_')}"] = value
    for pair in filter(None, message.args.split("&")):
        name, _, value = pair.partition("=")
        found.setdefault(f"arg_{name.lower()}", value)
    return found


def _not_found() -> Response:
    return _served.error(HTTPStatus.NOT_FOUND, "not_found", "there is nothing at this address")


def _too_large() -> Response:
    text = 'the body is larger than "client_max_body_size" allows'
    return _served.error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text)
