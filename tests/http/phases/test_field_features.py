"""The features `numbers` and `windows`: the fields of a request as a model gets them."""

import gzip
import json
from base64 import b64encode

import pytest

from fields import row
from nginx import Nginx, quit_cleanly, wait_for
from wire import connections

APP = '''
import torch
from jaxtyping import Float64, Int32, Int64, UInt8
from torch import Tensor

import webtorch


@webtorch.infer
def score(
    numbers: Int32[Tensor, "batch n"], windows: Int64[Tensor, "batch n"]
) -> Float64[Tensor, "batch 1"]:
    """Return a number of six digits that depends on all of a row."""
    assert numbers.shape == windows.shape
    sums = (numbers.long() * (windows + 1)).sum(1, keepdim=True)
    return (sums % 99991).double()


@webtorch.infer
def first(numbers: Int32[Tensor, "batch 3"]) -> Float64[Tensor, "batch 1"]:
    return (numbers.long().sum(1, keepdim=True) % 99991).double()


@webtorch.infer
def where(
    numbers: Int32[Tensor, "batch n"],
    windows: Int64[Tensor, "batch n"],
    bytes: UInt8[Tensor, "batch 1024"],
) -> tuple[Float64[Tensor, "batch 1"], Int64[Tensor, "batch 1"], UInt8[Tensor, "batch 8"]]:
    """Return a window that the request asks for, and a kind."""
    text = "".join(map(chr, bytes[0].tolist()))
    chosen, kind = text.split("at=")[1].split(chr(30))[0].split(",")
    window = int(windows.max()) if chosen == "last" else int(chosen)
    name = [*kind.encode(), *[0] * 8][:8]
    return (
        torch.tensor([[1.0]]).double(),
        torch.tensor([[window]]),
        torch.tensor([name], dtype=torch.uint8),
    )
'''

SERVER = """
add_header Score "$webtorch_access_verdict $webtorch_access_score" always;
location / { webtorch_access app:score body=16k threshold=1e9; ECHO }
location /strict/ { webtorch_access app:score body=16k threshold=1e9 on_error=deny; ECHO }
location /unread/ {
    webtorch_access app:score body=16k threshold=1e9 on_unread=deny;
    location /unread/allow/ {
        webtorch_access app:score body=16k threshold=1e9 on_error=deny on_unread=allow;
        add_header Score "$webtorch_access_verdict $webtorch_access_score" always;
        add_header Kind $webtorch_access_kind always;
        ECHO
    }
    location /unread/any/ {
        webtorch_access app:score body=16k threshold=0 on_unread=allow;
        add_header Score "$webtorch_access_verdict $webtorch_access_score" always;
        ECHO
    }
    location /unread/dry/ {
        webtorch_access app:score body=16k threshold=1e9 on_unread=deny dry_run;
        add_header Score "$webtorch_access_verdict $webtorch_access_score" always;
        ECHO
    }
    ECHO
}
location /first/ { webtorch_access app:first threshold=1e9; ECHO }
location /where/ {
    webtorch_access app:where body=16k max_batch=1 dry_run;
    add_header Where "$webtorch_access_field $webtorch_access_kind" always;
    ECHO
}
location = /ok { add_header Passed 1; return 200; }
""".replace("ECHO", "proxy_pass http://127.0.0.1:$server_port/ok;")


@pytest.fixture(scope="module")
def shared_server():
    server = Nginx(SERVER, APP)
    try:
        server.start()
        yield server
        quit_cleanly(server)
    finally:
        server.stop()


def message(method, target, headers, body=b"") -> bytes:
    lines = [b"%s %s HTTP/1.1" % (method, target), *(b"%s: %s" % each for each in headers)]
    return b"\r\n".join([*lines, b"", body])


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        (b"GET", b"/a%20b/c?id=1%27+or+1&q=red+shoes", [(b"Cookie", b"a=<b>; c=d")], b""),
        (b"PUT", b"/" + b"x" * 3000, [(b"X-Api", b"${jndi:x}"), (b"Referer", b"/?a=%27")], b""),
        (b"POST", b"/", [(b"Content-Type", b"application/json")], b'{"a": ["<script>", 1]}'),
        (b"POST", b"/", [(b"Content-Type", b"application/json")], b'{"a": ' * 20 + b'"b"'),
        (
            b"POST",
            b"/",
            [(b"Content-Type", b"multipart/form-data; boundary=x")],
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
        ),
        (b"POST", b"/", [(b"Content-Type", b"text/plain")], b"some words, " * 1000),
        (b"POST", b"/", [(b"Authorization", b"Basic " + b64encode(b"a:b"))], b"c=d&e=f"),
    ],
    ids=["target", "headers", "json", "json_cut", "multipart", "long", "form"],
)
def test_fields_are_those_of_the_library(server, library, method, target, headers, body):
    headers = [(b"Host", b"localhost"), *headers]
    if body:
        headers.append((b"Content-Length", str(len(body)).encode()))
    numbers, windows = row(library, method, target, headers, body)
    expected = sum(a * (b + 1) for a, b in zip(numbers, windows, strict=True)) % 99991
    with connections(server, 1) as (wire,):
        wire.send(message(method, target, headers, body))
        answer = wire.answer()
    verdict, score = answer.headers["score"].split()
    assert (verdict, int(score)) == ("allow", expected)


def test_fields_of_a_fixed_size(server, library):
    headers = [(b"Host", b"localhost")]
    numbers, _ = row(library, b"GET", b"/first/", headers)
    with connections(server, 1) as (wire,):
        wire.send(message(b"GET", b"/first/", headers))
        assert wire.answer().headers["score"] == f"allow {sum(numbers[:3]) % 99991}"


@pytest.mark.parametrize(
    "body", [json.dumps({"a": "b"}).replace("{", '{"x": ' * 90 + "{").encode(), b"[" * 200]
)
def test_fields_that_are_too_deep_are_an_error(server, body):
    kinds = {"Content-Type": "application/json"}
    answer = server.post("/", data=body, headers=kinds)
    assert (answer.status_code, answer.headers["Score"].split()[0]) == (200, "error")
    assert server.post("/strict/", data=body, headers=kinds).status_code == 403


JSON = {"Content-Type": "application/json"}
UNREAD = {
    "depth": (JSON, b"[" * 70),
    "charset": ({"Content-Type": "text/plain; charset=utf-7"}, b"x"),
    "encoding": ({"Content-Encoding": "br"}, b"x"),
    "malformed": ({"Content-Encoding": "gzip"}, b"x"),
    "cut": ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=" + b"x" * 16383),
    "cut_gzip": ({"Content-Encoding": "gzip"}, gzip.compress(b"x" * 16385)),
    "cut_upload": (
        {"Content-Type": "multipart/form-data; boundary=x"},
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b.png"\r\n\r\n'
        + b"\x89PNG\r\n\x1a\n"
        + bytes(range(256)) * 100,
    ),
    "many": (JSON, json.dumps({"a": "".join(chr(33 + i * i % 90) for i in range(16000))}).encode()),
}


@pytest.mark.parametrize("what", UNREAD)
def test_fields_read_before_error_are_scored(server, what):
    """A client cannot switch the score off: the rest counts, and then on_unread."""
    headers, body = UNREAD[what]
    answer = server.post("/unread/allow/?a=b", data=body, headers=headers)
    verdict, score = answer.headers["Score"].split()
    assert (answer.status_code, verdict) == (200, "error")
    assert float(score) > 0
    assert answer.headers["Kind"] == "unread"
    assert server.post("/unread/?a=b", data=body, headers=headers).status_code == 403
    answer = server.post("/unread/any/?a=b", data=body, headers=headers)
    assert (answer.status_code, answer.headers["Score"].split()[0]) == (403, "deny")
    answer = server.post("/unread/dry/?a=b", data=body, headers=headers)
    assert (answer.status_code, answer.headers["Score"].split()[0]) == (200, "error")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b"a=" + b"x" * 16382),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"x" * 16384)),
        ({"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100),
        ({"Content-Type": "application/octet-stream"}, bytes(range(128, 256)) * 200),
    ],
    ids=["whole", "whole_gzip", "picture", "bytes"],
)
def test_body_without_further_fields_is_read(server, headers, body):
    answer = server.post("/unread/dry/", data=body, headers=headers)
    assert answer.headers["Score"].split()[0] == "allow"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("0,sqli", "path sqli"),
        ("1,lfi", "path.1 lfi"),
        ("2,xss", "query.q xss"),
        ("last,scanner9", "request scanner9"),
        ("9999,xss", " xss"),
        ("-1,xss", " xss"),
        ("body,nosql", "body.user.name nosql"),
        ("0,", "path "),
    ],
    ids=["path", "part", "query", "request", "large", "negative", "body", "no_kind"],
)
def test_field_and_kind_of_a_denial(server, chosen, expected):
    body = {"a": ["x y"], "user": {"name": "one two"}}
    if chosen.startswith("body"):
        # fields have a window each: path, a part of it, query, headers, "a"
        names = [
            server.post(f"/where/a%20b?q=a+b&at={each},", json=body).headers["Where"].strip()
            for each in range(3, 12)
        ]
        chosen = chosen.replace("body", str(3 + names.index("body.user.name")))
    answer = server.post(f"/where/a%20b?q=a+b&at={chosen}", json=body)
    assert answer.status_code == 200
    assert answer.headers["Where"].strip() == expected.strip()
    assert server.get("/").headers.get("Where") is None


TRAITS = """
import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

import webtorch

seen = []


@webtorch.infer
def score(
    windows: Int64[Tensor, "batch n"], traits: Int32[Tensor, "batch 4 n"],
    location: Int64[Tensor, "batch 1"], target: Float32[Tensor, "batch 1"],
) -> Float32[Tensor, "batch 1"]:
    assert (traits[:, 0].gather(1, windows[:, -1:]) > 0).all()
    return target


@webtorch.infer
def log(
    names: UInt8[Tensor, "batch 64"], location: Int64[Tensor, "batch 1"],
    outcome: Float32[Tensor, "batch 13"],
) -> Float32[Tensor, "batch 13"]:
    for row, where, end in zip(names, location, outcome, strict=True):
        text = bytes(row.tolist()).rstrip(b"\\0").decode().split("\\0")
        seen.append([text, int(where), int(end[12])])
    return outcome


@webtorch.infer
def plain(windows: Int64[Tensor, "batch n"]) -> Float32[Tensor, "batch 1"]:
    return torch.zeros(len(windows), 1)


@webtorch.handler
def logged(request):
    return seen
"""

LOCATIONS = """
add_header Score $webtorch_access_score always;
location /a/ {
    webtorch_access app:score target=0.25 dry_run;
    webtorch_log app:log body=1k;
    proxy_pass http://127.0.0.1:$server_port/ok;
}
location /b/ {
    webtorch_access app:score target=0.001;
    webtorch_log app:log;
    error_page 404 /missing;
    proxy_intercept_errors on;
    proxy_pass http://127.0.0.1:$server_port/none;
}
location /c/ {
    webtorch_access app:score target=0.375;
    webtorch_log app:log;
    try_files /none /b/y;
}
location = /missing { internal; webtorch_log app:log; return 200; }
location = /ok { return 200; }
location = /none { return 404; }
location = /logged { webtorch_handler app:logged; }
"""


def test_location_target_and_names(start):
    server = start(LOCATIONS, TRAITS)
    scores = [float(server.get(each).headers["Score"]) for each in ("/a/7?q=tea", "/b/x", "/b/x")]
    assert scores == pytest.approx([0.25, 0.001, 0.001])
    assert server.get("/a/8?q=tea").status_code == 200
    wait_for(lambda: len(server.get("/logged").json()) == 4, "four rows")
    rows = sorted(server.get("/logged").json())
    assert [each[0][0] for each in rows] == ["/a/*", "/a/*", "/b/x", "/b/x"]
    assert rows[0][0][1:3] == ["0 path", "1 query.q"]
    # the redirect to an error page is of the location in which the request was scored
    assert len({each[1] for each in rows[:2]}) == len({each[1] for each in rows[2:]}) == 1
    assert rows[0][1] != rows[2][1]
    assert [each[2] for each in rows] == [1, 1, 0, 0]
    # scored in another location, too, whose target it has now
    assert float(server.get("/c/x").headers["Score"]) == pytest.approx(0.001)
    wait_for(lambda: len(server.get("/logged").json()) == 5, "another row")
    assert max(server.get("/logged").json())[1] == rows[2][1]


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("app:plain target=0.1", '"target=" needs a function with the feature "target" in'),
        *((f"app:score target={each}", "invalid parameter") for each in ("0", "1", "nan", "")),
    ],
)
def test_target_is_refused(reconfigured, directive, message):
    server = reconfigured(f"location / {{ webtorch_access {directive}; }}", TRAITS)
    assert message in server.refuse()
