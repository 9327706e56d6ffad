"""Explains the score of a request: its fields, their tokens, and what these weigh."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import torch

from webtorch._core.text import printable
from webtorch.detect._fields import FieldClassifier
from webtorch.detect._reading import Field, Fields, Request, read

_SHOWN = 8  # tokens of a window
_LEAST = 0.1  # weight of a token that is shown
_VALUE, _CONTEXT = 60, "its place, name, length and punctuation"


def main(arguments: list[str]) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m webtorch.detect explain",
        description="Shows how FieldClassifier scores a request: its fields, the worst first, "
        "their tokens, and what these weigh in the logit of the field.",
    )
    parser.add_argument(
        "request",
        help="a file with a request as it is sent over HTTP/1.1, - for standard input, or a URL",
    )
    parser.add_argument("--weights", type=Path, help="a file of FieldClassifier.save")
    parser.add_argument("--threshold", type=float, default=0.5, help="by default 0.5")
    parser.add_argument("--all", action="store_true", help="all fields, not only the worst five")
    options = parser.parse_args(arguments)
    try:
        request = request_of(options.request)
        classifier = FieldClassifier.pretrained(options.weights)
        lines = list(explain(classifier, request, options.threshold, None if options.all else 5))
    except (OSError, ValueError, ImportError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print("\n".join(lines))


def request_of(source: str) -> Request:
    """Return the request of a file, of standard input, or of a URL.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no request.

    """
    if "://" in source:
        parts = urlsplit(source)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2].encode()
        return Request(b"GET", target.encode(), [(b"Host", host)])
    return parse(sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes())


def parse(data: bytes) -> Request:
    """Return the request of a message of HTTP/1.1; lines may end without a carriage return.

    Raises:
        ValueError: It is not one.

    """
    line, _, rest = data.lstrip(b"\r\n").partition(b"\n")
    method, _, target = line.strip().partition(b" ")
    target = target.strip().rpartition(b" HTTP/")[0] or target.strip()
    if not method.isalpha() or not target or b" " in target:
        raise ValueError("the first line is not a method, a target and HTTP/1.1")
    headers = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        if not line.strip():
            break
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise ValueError(f"this line is not a header: {_plain(line)}")
        headers.append((name.strip(), value.strip()))
    chunked = any(
        name.lower() == b"transfer-encoding" and value.lower().endswith(b"chunked")
        for name, value in headers
    )
    return Request(method, target, headers, _unchunked(rest) if chunked else rest)


def explain(
    classifier: FieldClassifier, request: Request, threshold: float = 0.5, most: int | None = None
) -> Iterator[str]:
    """Yield lines about the score of a request.

    Args:
        classifier: What scores it.
        request: The request.
        threshold: The least score that is denied; by default 0.5.
        most: Fields that are shown at most; None, the default: all.

    Raises:
        ImportError: The library with the C of the features is not there.

    """
    found = read(request)
    yield f"{_plain(request.method)} {_plain(request.target)}"
    if found.flaws:
        yield f"unusual: {', '.join(found.flaws)}"
    if found.unread:
        why = ", ".join(found.unread)
        yield f"not all is read ({why}): if the rest is not denied, it goes by on_unread"
    with torch.no_grad():
        score, worst, kind = classifier(found.numbers, found.windows)
        logits, weights = classifier.explain(found.numbers, found.windows)
    value = float(score)
    verdict = "allow"
    if value >= threshold:
        name = bytes(kind[0].tolist()).rstrip(b"\0").decode()
        verdict = f"deny, {name} in {_field_of(found, int(worst)).name}"
    yield f"score {value:.3f}, threshold {threshold:g}: {verdict}"

    order = logits.argsort(descending=True).tolist()
    seen: set[str] = set()
    left = len(order) if most is None else most
    for window in order:
        field = _field_of(found, window)
        if field.name in seen or not left:
            continue
        seen.add(field.name)
        left -= 1
        logit = float(logits[window])
        yield ""
        about = f" ({', '.join([field.place, *field.about])})" if field.place else ""
        yield f"{_plain(field.name.encode())}{about}: logit {logit:+.1f}, alone {_score(logit):.3f}"
        yield from _tokens(found, field, window, weights)


def _tokens(found: Fields, field: Field, window: int, weights: torch.Tensor) -> Iterator[str]:
    """Yield lines about the tokens of a window, and what all else of it weighs."""
    inside = found.windows[0] == window
    weight: dict[tuple[int, int], float] = {}
    for (begin, length), each in zip(
        found.spans[inside].tolist(), weights[inside].tolist(), strict=True
    ):
        key = (begin, length) if length else (0, 0)
        weight[key] = weight.get(key, 0) + each
    rest = weight.pop((0, 0), 0.0)
    if weight:
        first, last = min(weight)[0], max(sum(each) for each in weight)
        shown = field.value[first:last]
        yield f"  {_plain(shown[:_VALUE])}{'...' if len(shown) > _VALUE else ''}"
    chosen = sorted(weight, key=lambda each: -abs(weight[each]))[:_SHOWN]
    for begin, length in sorted(chosen):
        if abs(weight[begin, length]) >= _LEAST:
            text = _plain(field.value[begin : begin + length])
            yield f"  {weight[begin, length]:+7.2f}  {text if text.strip() else 'blank'}"
    yield f"  {rest:+7.2f}  {_CONTEXT if field.place else 'its method, and what is unusual'}"


def _field_of(found: Fields, window: int) -> Field:
    """Return the field of a window; the last one is of the request as a whole."""
    if window == int(found.windows[0, -1]):
        return Field("request", "", b"", [], window)
    return [each for each in found.fields if each.window <= window][-1]


def _score(logit: float) -> float:
    return float(torch.tensor(logit).sigmoid())


def _unchunked(data: bytes) -> bytes:
    """Return a body of chunks as one, as far as it is well-formed."""
    body = b""
    while data:
        line, _, data = data.partition(b"\n")
        try:
            size = int(line.partition(b";")[0].strip(), 16)
        except ValueError:
            break
        if size <= 0:
            break
        body += data[:size]
        data = data[size:].removeprefix(b"\r").removeprefix(b"\n")
    return body


def _plain(data: bytes) -> str:
    """Return a text from a client without what controls the terminal."""
    return printable(data.decode("utf-8", "replace"))
