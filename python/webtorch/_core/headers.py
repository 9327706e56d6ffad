"""Headers of requests and answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
"""Names and values: a mapping, or pairs, in which a name may be several times."""

# written by nginx, which knows the connection and the body
_OF_NGINX = {
    "connection", "content-length", "date", "keep-alive", "proxy-connection", "server", "te",
    "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip
_OF_FILES = {"accept-ranges", "content-range", "last-modified"}

# all others are lists, or Set-Cookie, and may come in several lines
_ONCE = {
    "access-control-allow-credentials", "access-control-allow-origin", "access-control-max-age",
    "age", "content-disposition", "content-location", "content-range", "content-type", "etag",
    "expires", "last-modified", "location", "retry-after", "strict-transport-security",
    "x-accel-charset", "x-accel-limit-rate", "x-accel-redirect",
}  # fmt: skip

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def media_type(content_type: str) -> str:
    """Return the type and subtype of a Content-Type in lower case, without parameters."""
    return content_type.partition(";")[0].strip().lower()


class RequestHeaders(Mapping[str, str]):
    """The headers of a request by name, in any case.

    The values of several headers with one name are joined with commas, those of Cookie with
    semicolons.
    """

    def __init__(self, items: Headers = ()) -> None:
        self._items = tuple(pairs(items))
        found: dict[str, list[str]] = {}
        for name, value in self._items:
            found.setdefault(name.lower(), []).append(value)
        self._values = {
            key: ("; " if key == "cookie" else ", ").join(values) for key, values in found.items()
        }

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def items_as_sent(self) -> Sequence[tuple[str, str]]:
        """Return names and values in the order and case in which the client sent them."""
        return self._items


def pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    """Return names and values of a mapping or of pairs."""
    return headers.items() if isinstance(headers, Mapping) else headers


def check_headers(
    headers: Headers, content_type: str | None = None, is_file: bool = False
) -> tuple[list[tuple[str, str]], str | None]:
    """Check headers of an answer.

    Args:
        headers: A mapping or pairs of names and values.
        content_type: The content type that is given apart from them, if any.
        is_file: Whether they are those of a file that nginx sends.

    Returns:
        All headers but Content-Type, and the content type.

    Raises:
        TypeError: The value of a header is not a str.
        ValueError: A header is not allowed, or not as often as it is there.

    """
    others = []
    once = set()
    if content_type is not None:
        _check_header("Content-Type", content_type)
        once.add("content-type")
    for name, value in pairs(headers):
        _check_header(name, value)
        key = name.lower()
        if is_file and key in _OF_FILES:
            raise ValueError(f"nginx writes the {name} of a file")
        if key == "x-accel-redirect" and not value.startswith(("/", "@")):
            raise ValueError(f"the header {name} has neither a path nor a @location in it")
        if key in once:
            raise ValueError(f"the header {name} is sent twice")
        if key in _ONCE:
            once.add(key)
        if key == "content-type":
            content_type = value
        else:
            others.append((name, value))
    return others, content_type


def _check_header(name: str, value: str) -> None:
    """Refuse a header that would be parsed as another one, or that nginx writes."""
    if not isinstance(name, str) or not name or not _TOKEN.issuperset(name):
        raise ValueError(f"{name!r} is not a name of a header")
    if name.lower() in _OF_NGINX:
        raise ValueError(f"the header {name} is written by nginx")
    if not isinstance(value, str):
        raise TypeError(
            f"the value of the header {name} is of type {type(value).__name__}, not str"
        )
    if any((ord(c) < 0x20 and c != "\t") or ord(c) == 0x7F for c in value):
        raise ValueError(f"the header {name} has control characters in its value")
