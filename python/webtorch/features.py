"""Features of requests, computed in Python for training.

    from webtorch import features

    texts = [features.text("/search", "q=red+shoes"), features.text("/login", body="user=a")]
    rows = features.ngrams(texts, 1024)

The results are those of ngx_webtorch_features.c in nginx, see docs/features.md. Only NumPy is
needed.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from webtorch._features import path_tokens
from webtorch._features.path_tokens import Parameter, Tokens

__all__ = [
    "CLIENT",
    "NGRAM",
    "OUTCOME",
    "REQUEST",
    "SITE",
    "TEXT_SIZE",
    "Tokens",
    "ngrams",
    "request",
    "text",
    "tokens",
]

TEXT_SIZE = 16384
"""Bytes of a text, and bytes read of each of its parts."""

NGRAM = 4
"""Bytes of the longest n-grams; there are n-grams of all lengths from 1."""

_KINDS = 16

_METHODS = ("get", "head", "post", "put", "delete")
_VERSIONS = ("http_1_0", "http_1_1", "http_2")
_HEADERS = (
    "user_agent",
    "accept",
    "accept_language",
    "accept_encoding",
    "referer",
    "cookie",
    "authorization",
)
_CLASSES = (
    ("digits", b"0123456789"),
    ("letters", b"abcdefghijklmnopqrstuvwxyz"),
    ("spaces", b" "),
    ("controls", bytes(range(32)) + b"\x7f"),
    ("high", bytes(range(128, 256))),
    ("quotes", b"'\"`"),
    ("angles", b"<>"),
    ("parentheses", b"()"),
    ("braces", b"{}[]"),
    ("slashes", b"/\\"),
    ("dots", b"."),
    ("semicolons", b";:"),
    ("equals", b"=&"),
    ("pipes", b"|$^~!"),
    ("dashes", b"-_#"),
    ("others", b"%*+,?@"),
)

REQUEST: tuple[str, ...] = (
    *_METHODS,
    "other_method",
    *_VERSIONS,
    "tls",
    "host",
    "host_is_address",
    *_HEADERS,
    "headers",
    "path",
    "query",
    "body",
    "user_agent_length",
    "cookie_length",
    "arguments",
    "text",
    "escapes",
    "double_escapes",
    *(name for name, _ in _CLASSES),
)
"""The columns of the feature `request`."""

CLIENT: tuple[str, ...] = (
    "requests",
    "age",
    "rate_fast",
    "rate_slow",
    "gap",
    "gap_mean",
    "gap_deviation",
    "urls",
    "urls_share",
    "queries_share",
    "assets_share",
    "errors_share",
    "failures_share",
    "bodies_share",
    "cookies_share",
    *(f"kind_{index}" for index in range(_KINDS)),
)
"""The columns of the feature `client`."""

SITE: tuple[str, ...] = (
    "rate_fast",
    "rate_slow",
    "clients",
    "new_share",
    "errors_share",
    "failures_share",
    "time",
    "denied_share",
)
"""The columns of the feature `site`."""

OUTCOME: tuple[str, ...] = (
    *(f"status_{first}xx" for first in range(2, 6)),
    "time",
    "sent",
    "upstream",
    "upstream_time",
    "aborted",
    "denied",
    "score",
    "scored",
    "dry_run",
)
"""The columns of the feature `outcome`."""

_QUERY = b"\x1d"
_BODY = b"\x1e"

_ESCAPE = re.compile(rb"%([0-9a-fA-F]{2})")

_BASIS = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
_POSITIVE = np.uint32(0x7FFFFFFF)

# the class of each byte
_CLASS_OF = np.zeros(256, np.uint8)
for _index, (_, _members) in enumerate(_CLASSES):
    _CLASS_OF[list(_members)] = _index


def text(path: bytes | str, query: bytes | str = b"", body: bytes | str = b"") -> bytes:
    """Return the text of a request, from which n-grams and bytes are taken.

    Args:
        path: The target before the first `?`, percent-encoded, as a client sends it.
        query: The target after the first `?`, percent-encoded; by default empty.
        body: The body as a client sends it; by default empty.

    Returns:
        The text, at most 16384 bytes; docs/features.md describes it.

    """
    return _text(_bytes(path), _bytes(query), _bytes(body))[0]


def ngrams(
    texts: Sequence[bytes], size: int, dtype: DTypeLike = np.int32
) -> NDArray[np.signedinteger[Any]]:
    """Return the numbers of the first n-grams of texts, -1 where a text has no more.

    Args:
        texts: Texts of `text()`.
        size: Numbers in a row, 1 to 65536.
        dtype: int32, the default, or int64.

    Returns:
        Numbers from 0 to 2147483647, or -1, `[texts, size]`.

    """
    rows = np.full((len(texts), size), -1, dtype)
    for row, string in zip(rows, texts, strict=True):
        numbers = _ngrams(string[: -(-size // NGRAM) + NGRAM - 1])[:size]
        row[: len(numbers)] = numbers
    return rows


def tokens(requests: Sequence[Sequence[bytes | str]], size: int | None = None) -> Tokens:
    """Return requests as tokens, see docs/features.md.

    Args:
        requests: Path, query and body of each request, as `text()` takes them.
        size: Tokens in a row, 1 to 16384; by default the least of 128, 512, 2048, 8192 and 16384
            that the longest request fits in.

    """
    texts = [_parameters(*(_bytes(part) for part in parts)) for parts in requests]
    return path_tokens.cut(texts, size)


def request(
    method: str,
    path: bytes | str,
    query: bytes | str = b"",
    body: bytes | str = b"",
    *,
    headers: Mapping[str, str] | None = None,
    version: str = "1.1",
    tls: bool = False,
) -> NDArray[np.float32]:
    """Return the feature `request` of a request: float32 `[len(REQUEST)]`.

    Args:
        method: Method of HTTP, for example "GET".
        path: Path as `text()` takes it.
        query: Query as `text()` takes it; by default empty.
        body: Body as `text()` takes it, of which all bytes are counted; by default empty.
        headers: Headers by name, in any case, without repetition; by default none.
        version: Version of HTTP: "0.9", "1.0", "1.1", the default, or "2".
        tls: Whether the connection is encrypted; by default False.

    """
    path, query, body = _bytes(path), _bytes(query), _bytes(body)
    string, escapes, double_escapes = _text(path, query, body)
    sent = {name.lower().replace("-", "_"): value for name, value in (headers or {}).items()}
    host = sent.get("host", "")
    verb = method.lower() if method.upper() == method else ""

    flags = {
        verb if verb in _METHODS else "other_method",
        _VERSIONS[0 if version in ("0.9", "1.0") else 1 if version == "1.1" else 2],
        *(name for name in _HEADERS if name in sent),
    }
    flags |= {"tls"} if tls else set()
    flags |= {"host"} if host else set()
    flags |= {"host_is_address"} if _is_address(host) else set()

    counts = [
        len(sent),
        len(path),
        len(query),
        len(body),
        len(sent.get("user_agent", "").encode()),
        len(sent.get("cookie", "").encode()),
        query.count(b"&") + query.count(b"="),
        len(string),
        escapes,
        double_escapes,
        *np.bincount(_CLASS_OF[np.frombuffer(string, np.uint8)], minlength=len(_CLASSES)),
    ]
    facts = [float(name in flags) for name in REQUEST[: len(REQUEST) - len(counts)]]
    return np.array([*facts, *np.log1p(counts)], np.float32)


def _bytes(string: bytes | str) -> bytes:
    return string.encode() if isinstance(string, str) else string


def _text(path: bytes, query: bytes, body: bytes) -> tuple[bytes, int, int]:
    """Return the text, and the numbers of escapes that were decoded first and second."""
    parts = [_decode(path, False), _decode(query, True), _decode(body, True)]
    string = parts[0][0] + _QUERY + parts[1][0] + _BODY + parts[2][0]
    return string[:TEXT_SIZE], sum(part[1] for part in parts), sum(part[2] for part in parts)


def _decode(part: bytes, plus: bool) -> tuple[bytes, int, int]:
    part = part[:TEXT_SIZE]
    if plus:
        part = part.replace(b"+", b" ")
    part, once = _ESCAPE.subn(_byte, part)
    part, twice = _ESCAPE.subn(_byte, part)
    return part.lower(), once, twice


def _parameters(path: bytes, query: bytes = b"", body: bytes = b"") -> list[Parameter]:
    """Return the path, whose name is the path itself, and the parameters of a request, decoded.

    They are cut at the `&` and `=` of the encoded request, within the first TEXT_SIZE bytes.
    """
    text = _decode(path, False)[0]
    parameters = [Parameter(text[:TEXT_SIZE], text[:TEXT_SIZE])]
    marks: list[int] = []
    for part in (query, body):
        text += _QUERY
        begin, known = len(text), len(marks)
        for number, argument in enumerate(part[:TEXT_SIZE].split(b"&")):
            if number:
                marks.append(len(text))
                text += b"&"
            name, equals, value = argument.partition(b"=")
            text += _decode(name, True)[0]
            if equals:
                marks.append(len(text))
                text += b"=" + _decode(value, True)[0]
        text = text[:TEXT_SIZE]
        marks = [mark for mark in marks if mark < TEXT_SIZE][: path_tokens.MAX_MARKS]
        if begin < len(text):
            parameters += _cut_form(text, begin, marks[known:])
    return parameters


def _cut_form(text: bytes, begin: int, marks: list[int]) -> Iterator[Parameter]:
    """Return the parameters in the rest of a text, cut at the marks of its separators."""
    equals = len(text)
    for mark in [*marks, len(text)]:
        if text[mark : mark + 1] == b"=":
            equals = mark
            continue
        yield Parameter.cut(text[begin:mark], min(equals, mark) - begin)
        begin, equals = mark + 1, len(text)


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 16)])


def _ngrams(string: bytes) -> NDArray[np.uint32]:
    """Return the numbers of all n-grams of a text, in order."""
    data = np.frombuffer(string, np.uint8)
    numbers = np.zeros((len(data), NGRAM), np.uint32)
    is_there = np.zeros((len(data), NGRAM), bool)
    hashes = np.full(len(data), _BASIS)
    for length in range(1, min(NGRAM, len(data)) + 1):
        count = len(data) - length + 1
        hashes = (hashes[:count] ^ data[length - 1 :]) * _PRIME
        numbers[:count, length - 1] = hashes & _POSITIVE
        is_there[:count, length - 1] = True
    return numbers[is_there]


def _is_address(host: str) -> bool:
    bracketed = re.match(r"\[(.*)\]", host)
    try:
        ipaddress.ip_address(bracketed[1] if bracketed else host.partition(":")[0])
    except ValueError:
        return False
    return True
