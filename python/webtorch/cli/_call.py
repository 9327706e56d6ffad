"""`webtorch call`."""

import http.client
import io
import json
import mimetypes
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from webtorch.cli._errors import CommandError
from webtorch.cli._options import header_option, insecure_option, option
from webtorch.cli._tls import tls_context

TYPES = {
    ".json": "application/json",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".safetensors": "application/vnd.safetensors",
    ".pt": "application/x-pytorch",
    ".pth": "application/x-pytorch",
    ".bin": "application/octet-stream",
}
"""Media types of files of tensors, by suffix."""


@click.command()
@click.argument("url")
@click.argument("data", nargs=-1)
@option("--method", "-X", help="Method: by default POST if there is DATA, or else GET.")
@header_option
@option("--accept", help="Media type or suffix of the answer, for example npy.")
@option("--content-type", help="Media type of a file, if its suffix does not say it.")
@option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="File for the answer's body.",
)
@option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    help="Seconds to wait.",
)
@insecure_option
def call(
    url: str,
    data: tuple[str, ...],
    method: str | None,
    header: tuple[str, ...],
    accept: str | None,
    content_type: str | None,
    output: Path | None,
    timeout: float,
    insecure: bool,
) -> None:
    """Call a function at URL with DATA, and print its answer.

    DATA is JSON, @FILE (JSON, .npy, .npz, .safetensors, .pt, an image), - for standard input, or
    NAME=JSON for each tensor of a function. The exit status is 1 if the answer is an error.

    \b
    webtorch call http://127.0.0.1:8000/double '[[1, 2]]'
    webtorch call http://127.0.0.1:8000/add 'a=[[1, 2]]' 'b=[[3, 4]]'
    webtorch call http://127.0.0.1:8000/classify @cat.jpg
    webtorch call http://127.0.0.1:8000/double @x.npy --accept npy -o y.npy
    """  # noqa: D301 - click takes it for "do not wrap"
    url = full_url(url)
    headers, body = prepare(data, header, accept, content_type)
    request = urllib.request.Request(
        url, body, headers, method=method or ("GET" if body is None else "POST")
    )
    status, answered, answer = send(request, timeout, insecure)
    if status >= 400:
        click.echo(answer.decode(errors="replace").rstrip("\n"), err=True)
        hint = ": give DATA, see --help" if status == 405 and not data else ""
        raise CommandError(f"{url} answered {status}{hint}.")
    if output and str(output) != "-":
        output.write_bytes(answer)
        return
    _print(answer, answered.get_content_type(), bool(output))


def full_url(url: str) -> str:
    """Return an address with a scheme.

    Raises:
        CommandError: It is malformed.

    """
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(urllib.request.Request(url).full_url)
    except ValueError as error:
        raise CommandError(f"{url}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise CommandError(f"{url} is not an address of http or https.")
    return url


def prepare(
    data: tuple[str, ...], header: tuple[str, ...], accept: str | None, content_type: str | None
) -> tuple[dict[str, str], bytes | None]:
    """Return the headers and the body of a request; None: it has none.

    Raises:
        UsageError: The data or a header is malformed.
        CommandError: A file cannot be read.

    """
    headers = {}
    body = None
    if data:
        body, kind = _body(data)
        headers["Content-Type"] = content_type or kind
    if accept:
        headers["Accept"] = TYPES.get(f".{accept}", accept)
    for line in header:
        name, colon, value = line.partition(":")
        if not colon:
            raise click.BadParameter(f'"{line}" is not NAME: VALUE', param_hint="--header")
        headers[name.strip()] = value.strip()
    return headers, body


def _body(data: tuple[str, ...]) -> tuple[bytes, str]:
    """Return the body that DATA means, and its media type."""
    if len(data) > 1 or _is_named(data[0]):
        document = {}
        for one in data:
            name, equals, text = one.partition("=")
            if not equals:
                raise click.UsageError(f'"{one}" is not NAME=JSON, as several DATA have to be.')
            document[name] = _parse(text)
        return json.dumps(document).encode(), TYPES[".json"]
    (text,) = data
    if text == "-":
        return sys.stdin.buffer.read(), TYPES[".json"]
    if text.startswith("@"):
        path = Path(text[1:])
        body = path.read_bytes()
        kind = TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0]
        return body, kind or TYPES[".bin"]
    _parse(text)
    return text.encode(), TYPES[".json"]


def _is_named(text: str) -> bool:
    return text.partition("=")[0].isidentifier() and "=" in text


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{text} is not JSON ({error}).") from error


def send(
    request: urllib.request.Request, timeout: float = 60.0, insecure: bool = False
) -> tuple[int, Message, bytes]:
    """Send a request; return the status, the headers and the body of its answer.

    Raises:
        CommandError: There is no answer of HTTP, or the address is malformed.

    """
    handler = urllib.request.HTTPSHandler(context=tls_context(insecure))
    opener = urllib.request.build_opener(handler)
    try:
        try:
            answer = opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers, answer.read()
    except (ValueError, http.client.InvalidURL) as error:
        raise CommandError(f"{request.full_url}: {error}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        text = getattr(reason, "strerror", None) or reason
        raise CommandError(f"{request.full_url}: {text}") from error
    except http.client.HTTPException as error:
        # the text of some of them is only a part of the answer
        raise CommandError(f"{request.full_url}: {error!r}") from error


def _print(answer: bytes, kind: str, raw: bool) -> None:
    """Print an answer; arrays are shown as NumPy does, unless the output is a pipe."""
    stream = sys.stdout.buffer
    if not raw and sys.stdout.isatty() and kind in (TYPES[".npy"], TYPES[".npz"]):
        import numpy as np

        found = np.load(io.BytesIO(answer), allow_pickle=False)
        arrays = {"output": found} if isinstance(found, np.ndarray) else dict(found)
        for name, array in arrays.items():
            click.echo(f"{name}: {array.dtype} {list(array.shape)}\n{array}")
        return
    stream.write(answer)
    if not raw and (kind.startswith("text/") or kind == TYPES[".json"]):
        stream.write(b"" if answer.endswith(b"\n") else b"\n")
    stream.flush()
