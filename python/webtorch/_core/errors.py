"""Errors that handlers answer to their clients."""

import re
from http import HTTPStatus
from typing import Any

from webtorch._core.headers import Headers, check_headers

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class HTTPError(Exception):
    """An error that is answered to the client; handlers of all kinds can raise it.

        if request.headers.get("Authorization") is None:
            raise webtorch.HTTPError(401, headers={"WWW-Authenticate": "Bearer"})

        raise webtorch.HTTPError(422, [{"field": "age", "message": "below 18"}], code="too_young")

    The response is JSON: `error` is a text, `code` is for programs, and `detail` is there if the
    detail is not a text. Any other exception is answered with 500, and its text is written to the
    error log only.

    Args:
        status: Status of HTTP, 400 to 599.
        detail: What is wrong: a text, or any value that JSON can hold. By default the text is that
            of the status.
        headers: Headers of the response, a mapping or pairs of names and values; by default none.
        code: Up to 64 letters, digits, `_`, `.` and `-` for programs. By default it follows from
            the status, as `unauthorized` does from 401, and is `handler_error` for others.
        message: The text beside a detail that is none.

    Raises:
        TypeError: The value of a header is not a str.
        ValueError: The status is not one of an error, or the code or a header is not allowed.

    """

    def __init__(
        self,
        status: int,
        detail: Any = None,
        *,
        headers: Headers = (),
        code: str | None = None,
        message: str | None = None,
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"status {status} is not one of an error, 400 to 599")
        if code is not None and not _CODE.fullmatch(code):
            raise ValueError(f"code {code!r} is not one of up to 64 letters, digits, '_.-'")
        check_headers(headers)
        if message is None:
            message = detail if isinstance(detail, str) else _phrase(status)
        super().__init__(message)
        self.status = int(status)
        self.message = message
        self.detail = message if detail is None else detail
        self.headers = headers
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Let processes of a pool raise it, and subclasses whose arguments are others."""
        return _restore, (type(self), self.args), self.__dict__


def _restore(kind: type[HTTPError], args: tuple[Any, ...]) -> HTTPError:
    error = kind.__new__(kind, *args)
    error.args = args  # those of OSError are set by its __init__ alone
    return error


def _phrase(status: int) -> str:
    """Return the text of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"
