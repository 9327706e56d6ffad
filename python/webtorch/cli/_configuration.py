"""The configuration of nginx for an application."""

import grp
import json
import os
import pwd
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from webtorch.cli._discovery import Application
from webtorch.cli._nginx import Nginx
from webtorch.cli._target import Target

SMALLEST_ZONE = 16 << 20
"""Bytes of a zone beside those of the models: counters, and models that are changed."""

NOT_FOUND = {"error": "there is no such function, / lists them", "code": "not_found"}

OPENAPI = "/openapi.json"
"""Address of the document of the functions."""

CONNECTIONS = 4096
"""Connections of a worker, if it may have as many files."""

PIECE = 1000
"""Characters of a word or a line: nginx refuses those of more than 4096 bytes."""

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class ServeSettings:
    """What a user may choose."""

    host: str
    port: int
    workers: str
    zone: str
    checkpoint: Path | None
    preload: tuple[str, ...]
    max_body_size: str
    access_log: str
    log_level: str
    certificate: Path | None
    key: Path | None

    @property
    def url(self) -> str:
        """The address for a client on this host."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{_bracketed(host)}:{self.port}"


def write(settings: ServeSettings, target: Target, application: Application, nginx: Nginx) -> str:
    """Return a configuration; its relative paths are below the prefix (nginx -p)."""
    lines = [
        *_main(settings, nginx),
        "http {",
        *_indent(_http(settings, target, application, nginx)),
        "",
        "    server {",
        *_indent(_server(settings, nginx), 2),
        *_indent(_locations(target, application), 2),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _main(settings: ServeSettings, nginx: Nginx) -> Iterator[str]:
    if nginx.module:
        yield f"load_module {_quoted(nginx.module)};"
        yield ""
    if os.geteuid() == 0:
        # else it would be "nobody", who may not be able to read the application
        yield f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name};"
    # a connection of a request may have another one, or a file
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = CONNECTIONS if most == resource.RLIM_INFINITY else min(CONNECTIONS, most // 2)
    yield f"worker_processes {settings.workers};"
    yield f"worker_rlimit_nofile {2 * connections};"
    yield "pid nginx.pid;"
    yield f"error_log stderr {settings.log_level};"
    yield ""
    yield "events {"
    yield f"    worker_connections {connections};"
    yield "    multi_accept on;  # a busy worker accepts all connections that wait"
    yield "}"
    yield ""


def _http(
    settings: ServeSettings, target: Target, application: Application, nginx: Nginx
) -> Iterator[str]:
    if nginx.mime_types:
        yield f"include {_quoted(nginx.mime_types)};"
    yield f"access_log {settings.access_log};"
    yield "server_tokens off;"
    yield "sendfile on;"
    yield "tcp_nopush on;"
    yield "keepalive_requests 1000000;"
    yield f"client_max_body_size {settings.max_body_size};"
    yield "client_body_buffer_size 1m;"
    for name in TEMPORARY:
        yield f"{name}_temp_path {name};"
    yield ""
    if not nginx.is_bundled:
        yield f"webtorch_python {_quoted(_python())};"
    yield f"webtorch_path {_quoted(target.root)};"
    if settings.preload:
        yield f"webtorch_preload torch {' '.join(settings.preload)};"
    size = _zone(settings, application)
    if size:
        yield f"webtorch_zone models:{size};  # workers share the models, and reloads keep them"
    if settings.checkpoint:
        yield f"webtorch_checkpoint {_quoted(settings.checkpoint)};"


def _server(settings: ServeSettings, nginx: Nginx) -> Iterator[str]:
    address = f"{_bracketed(settings.host)}:{settings.port}"
    if settings.certificate is None:
        yield f"listen {address};"
        return
    if nginx.version >= (1, 25, 1):
        yield f"listen {address} ssl;"
        yield "http2 on;"
    else:
        yield f"listen {address} ssl http2;"
    yield f"ssl_certificate {_quoted(settings.certificate)};"
    yield f"ssl_certificate_key {_quoted(settings.key or settings.certificate)};"


def _locations(target: Target, application: Application) -> Iterator[str]:
    for function in application.functions:
        yield ""
        if function.has_tensors:
            for piece in _pieces(f"{function.kind}: {function.signature()}"):
                yield f"# {piece}"
        yield f"location = /{function.name} {{"
        yield f"    webtorch_handler {target.module}:{function.name};"
        yield "}"
    yield ""
    yield f"location = {OPENAPI} {{"
    yield "    webtorch_openapi;"
    yield "}"
    if all(function.name != "status" for function in application.functions):
        yield ""
        yield "# webtorch status, and a page for browsers"
        yield "location = /status {"
        yield "    allow 127.0.0.1;"
        yield "    allow ::1;"
        yield "    deny all;"
        yield "    webtorch_status;"
        yield "}"
    index = {one.name: f"{one.kind} {one.signature()}" for one in application.functions}
    yield ""
    yield "location = / {"
    yield "    default_type application/json;"
    first, *others = _pieces(json.dumps(index, ensure_ascii=False))
    yield f"    set $functions '{first}';"
    for piece in others:
        yield f"    set $functions '${{functions}}{piece}';"
    yield "    return 200 '$functions\\n';"
    yield "}"
    yield ""
    yield "location / {"
    yield "    default_type application/json;"
    yield f"    return 404 '{json.dumps(NOT_FOUND)}\\n';"
    yield "}"
    if any(function.has_tensors for function in application.functions):
        yield ""
        yield "# the Open Inference Protocol"
        yield "location /v2 {"
        yield "    webtorch_inference_protocol;"
        yield "}"


def _pieces(text: str) -> list[str]:
    return [text[begin : begin + PIECE] for begin in range(0, len(text), PIECE)]


def _zone(settings: ServeSettings, application: Application) -> str:
    """Return the size of the zone; empty: there is none."""
    if settings.zone == "off" and not settings.checkpoint:
        return ""
    if settings.zone not in ("auto", "off"):
        return settings.zone
    if not application.state and not settings.checkpoint:
        return ""
    # twice, as a reload may change the models; pages that are not used take no memory
    size = SMALLEST_ZONE + 2 * application.state
    return f"{-(-size >> 20)}m"


def _python() -> str:
    """Return what `webtorch_python` needs: the virtual environment, or the interpreter."""
    return sys.prefix if sys.prefix != sys.base_prefix else sys.executable


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host or "*"


def _quoted(value: str | Path) -> str:
    """Quote a path for nginx, in which a dollar cannot be written otherwise."""
    text = str(value)
    if all(c.isalnum() or c in "/._-+=@," for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _indent(lines: Iterator[str] | Sequence[str], depth: int = 1) -> Iterator[str]:
    for line in lines:
        yield "    " * depth + line if line else ""
