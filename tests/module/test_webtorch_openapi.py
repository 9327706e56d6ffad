"""webtorch_openapi, `webtorch openapi`, `webtorch bench` and `webtorch models`."""

import json
import sys
from dataclasses import dataclass
from types import ModuleType

import msgspec
import pytest
from click.testing import CliRunner
from jaxtyping import Float32
from pydantic import BaseModel
from torch import Tensor

import webtorch
from webtorch._openapi import documents
from webtorch.cli import _bench, cli

APP = r"""
from dataclasses import dataclass
from typing import NamedTuple

import torch, webtorch
from jaxtyping import Bool, Float32, Int64
from pydantic import BaseModel, Field
from torch import Tensor

@webtorch.infer
def double(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    '''Double points.

    More about it.
    '''
    return 2 * x

@webtorch.infer
def two(a: Int64[Tensor, "batch"], b: Bool[Tensor, "batch n"]) -> Int64[Tensor, "batch"]:
    return torch.where(b.all(1), a, 0)

@webtorch.infer
def text(s: webtorch.Strings[list[str], "batch"]) -> webtorch.Strings[list[str], "batch"]:
    return s

class Step(NamedTuple):
    n: Int64[Tensor, "batch"]
    left: webtorch.State[Int64[Tensor, "batch"]]
    at: webtorch.State[Int64[Tensor, "batch"]]
    done: Bool[Tensor, "batch"]

@webtorch.generate
def count(
    left: webtorch.State[Int64[Tensor, "batch"]], at: webtorch.State[Int64[Tensor, "batch"]]
) -> Step:
    return Step(at, left - 1, at + 1, left == 1)

@count.open
def begin(start: Int64[Tensor, ""], n: Int64[Tensor, ""] = 3) -> tuple[Tensor, Tensor]:
    return n, start

class Point(BaseModel):
    x: int = Field(ge=0, le=10)

@dataclass
class Sum:
    value: int

@webtorch.handler(methods=["POST"])
def add(point: Point, scale: int = 1) -> Sum:
    return Sum(scale * point.x)

@webtorch.handler(methods=["GET"])
def item(number: int) -> dict[str, int]:
    return {"number": number}
"""

SERVER = r"""
location = /double { webtorch_handler app:double; }
location /two { webtorch_handler app:two; }
location = /text { webtorch_handler app:text; }
location = /count { webtorch_handler app:count; }
location = /add { webtorch_handler app:add; }
location ~ ^/items/(?<number>\d+)\.json$ { webtorch_handler app:item; }
location ~ /(a|b)$ { webtorch_handler app:double; }
location = /hidden { internal; webtorch_handler app:double; }
location @named { webtorch_handler app:double; }
location = /openapi.json { webtorch_openapi; }
location = /locations { return 200 "$webtorch_locations"; }
location /v2 { webtorch_inference_protocol; }
"""


def run(*arguments: str):
    return CliRunner().invoke(cli, arguments, prog_name="webtorch")


def accepts(schema, value) -> bool:
    """Return whether a schema of the kind that tensors have accepts a value."""
    if "anyOf" in schema:
        return any(accepts(one, value) for one in schema["anyOf"])
    kinds = {"array": list, "object": dict, "string": str, "boolean": bool, "null": type(None)}
    kind = schema["type"]
    if kind in ("number", "integer"):
        number = (int,) if kind == "integer" else (int, float)
        return (
            isinstance(value, number)
            and not isinstance(value, bool)
            and schema.get("minimum", value) <= value <= schema.get("maximum", value)
        )
    if not isinstance(value, kinds[kind]):
        return False
    if kind == "array":
        size = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return size and all(accepts(schema["items"], one) for one in value)
    if kind == "object":
        known = schema["properties"]
        return set(schema["required"]) <= set(value) <= set(known) and all(
            accepts(known[name], one) for name, one in value.items()
        )
    return True


def test_document_of_a_server(server):
    document = server.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert {path: sorted(item) for path, item in document["paths"].items()} == {
        "/double": ["options", "post", "put"],
        "/two": ["options", "post", "put"],
        "/text": ["options", "post", "put"],
        "/count": ["get", "options", "post", "put"],
        "/add": ["post"],
        "/items/{number}.json": ["get"],
    }
    double = document["paths"]["/double"]["post"]
    assert (double["summary"], double["description"]) == ("Double points.", "More about it.")
    assert "application/x-npy" in double["requestBody"]["content"]
    assert "application/x-npy" not in document["paths"]["/text"]["post"]["requestBody"]["content"]
    add = document["paths"]["/add"]["post"]
    (scale,) = add["parameters"]
    assert (scale["name"], scale["in"], scale["required"]) == ("scale", "query", False)
    schemas = document["components"]["schemas"]
    reference = add["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert schemas[reference.rpartition("/")[2]]["properties"]["x"]["maximum"] == 10
    answer = add["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert schemas[answer.rpartition("/")[2]]["required"] == ["value"]
    (number,) = document["paths"]["/items/{number}.json"]["get"]["parameters"]
    assert number["in"] == "path" and number["schema"]["type"] == "integer"
    lines = server.get("/locations").text.splitlines()
    assert lines[:2] == ["= app:double /double", "- app:two /two"]
    assert server.post("/openapi.json").status_code == 405


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        (
            "/double",
            [[[1, 2]], [1, 2], {"x": [[1, 2], [3, 4]]}, {"x": [1, 2]}, [{"x": [1, 2]}]],
            [[], [[1]], [["a", "b"]], {"y": [1, 2]}, [[1e39, 0]], "text"],
        ),
        (
            "/two",
            [{"a": [1], "b": [[True]]}, [{"a": 1, "b": [True, False]}]],
            [[[1]], {"a": [1]}, {"a": [1.5], "b": [[True]]}, {"a": [1], "b": [[1]]}],
        ),
        ("/text", [["a", "b"], {"s": ["c"]}], [[1], {"s": 1}]),
    ],
)
def test_schemas_say_what_is_accepted(server, path, good, bad):
    operation = server.get("/openapi.json").json()["paths"][path]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    answers = operation["responses"]["200"]["content"]["application/json"]["schema"]
    for value in good:
        answer = server.post(path, json=value)
        assert accepts(body, value) and answer.status_code == 200, (value, answer.text)
        assert accepts(answers, answer.json()), answer.text
    for value in bad:
        answer = server.post(path, json=value)
        assert not accepts(body, value) and answer.status_code in (400, 422), (value, answer.text)
        assert set(answer.json()) >= {"error", "code"}


def test_generations_are_described_as_they_are_served(server):
    """A request has one row, an answer a row for each step."""
    item = server.get("/openapi.json").json()["paths"]["/count"]
    body = item["post"]["requestBody"]["content"]["application/json"]["schema"]
    answers = item["post"]["responses"]["200"]["content"]
    for value in ({"start": 5}, {"start": 5, "n": 2}):
        answer = server.post("/count", json=value)
        assert accepts(body, value) and answer.status_code == 200, answer.text
        assert accepts(answers["application/json"]["schema"], answer.json()), answer.text
    for value in ({"n": 2}, {"start": "x"}, {"start": [5, 6]}):
        answer = server.post("/count", json=value)
        assert not accepts(body, value) and answer.status_code == 422, answer.text
    for kind in answers:
        answer = server.post("/count", json={"start": 5}, headers={"Accept": kind})
        assert answer.status_code == 200 and answer.headers["Content-Type"] == kind
    assert "text/plain" not in answers and "application/x-npy" not in answers
    get = item["get"]
    assert {each["name"]: each["required"] for each in get["parameters"]} == {
        "start": True,
        "n": False,
    }
    assert "requestBody" not in get and "200" in get["responses"]
    assert server.get("/count?start=5&n=1").json() == {"n": [5]}


def test_media_types_are_those_of_the_server(server):
    answer = server.post("/two", data=b"x", headers={"Content-Type": "image/png"})
    known = set(answer.json()["error"].partition("known are ")[2].split(", "))
    operation = server.get("/openapi.json").json()["paths"]["/two"]["post"]
    documented = set(operation["requestBody"]["content"])
    assert documented == known - {"text/plain", "text/csv", "application/x-pytorch"}


def test_command_prints_the_document(tmp_path):
    (tmp_path / "described.py").write_text(APP)
    done = run("openapi", str(tmp_path / "described.py"), "--server", "https://example.com")
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    assert document["servers"] == [{"url": "https://example.com"}]
    assert document["info"] == {"title": "described", "version": "1"}
    assert list(document["paths"]) == ["/double", "/two", "/text", "/count", "/add", "/item"]
    (tmp_path / "broken_app.py").write_text("import nothing_of_that_name")
    done = run("openapi", str(tmp_path / "broken_app.py"))
    assert done.exit_code == 1 and "nothing_of_that_name" in done.output
    (tmp_path / "checked_app.py").write_text("import webtorch\nassert webtorch.is_check()")
    done = run("openapi", str(tmp_path / "checked_app.py"))
    assert done.exit_code == 0, done.output
    # the process goes on
    assert not webtorch.is_check()


def test_document_follows_changed_code(monkeypatch):
    def module(summary: str) -> ModuleType:
        made = ModuleType("described_again")

        @webtorch.handler(methods=["GET"])
        def page(request):
            pass

        page.__doc__ = summary
        made.page = page
        return made

    def summary() -> str:
        document = documents.of_locations("= described_again:page /page")
        return document["paths"]["/page"]["get"]["summary"]

    monkeypatch.setitem(sys.modules, "described_again", module("One."))
    first = documents.of_locations("= described_again:page /page")
    assert summary() == "One."
    assert documents.of_locations("= described_again:page /page") is first
    # while it is imported
    monkeypatch.delitem(sys.modules, "described_again")
    assert summary() == "One."
    monkeypatch.setitem(sys.modules, "described_again", module("Two."))
    assert summary() == "Two."


def test_classes_of_the_same_name_have_schemas_of_their_own():
    def made(kind: type) -> webtorch._handlers.functions.RequestFunction:
        @dataclass
        class Inner:
            value: kind

        @dataclass
        class Error:
            inner: Inner

        class Node(BaseModel):
            value: kind
            children: list["Node"] = []

        @webtorch.handler(methods=["POST"])
        def nodes(node: Node) -> Error: ...

        nodes.__wrapped__.__annotations__ = {"node": Node, "return": Error}
        return nodes

    handlers = [made(int), made(str), made(int)]
    document = documents.document(
        documents.Operation(f"/{index}", handler) for index, handler in enumerate(handlers)
    )
    schemas = document["components"]["schemas"]

    def at(schema):
        return schemas[schema["$ref"].rpartition("/")[2]]

    kinds = []
    for index in range(3):
        entry = document["paths"][f"/{index}"]["post"]
        body = entry["requestBody"]["content"]["application/json"]["schema"]
        node = at(body)
        assert node["properties"]["children"]["items"] == body
        answer = at(entry["responses"]["200"]["content"]["application/json"]["schema"])
        inner = at(answer["properties"]["inner"])
        kinds.append((node["properties"]["value"]["type"], inner["properties"]["value"]["type"]))
        failure = entry["responses"]["422"]["content"]["application/json"]["schema"]
        assert set(at(failure)["properties"]) == {"error", "code", "detail"}
    assert kinds == [("integer", "integer"), ("string", "string"), ("integer", "integer")]


def test_get_of_a_stream_is_a_websocket():
    @webtorch.stream
    def double(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        return 2 * x

    item = documents.document([documents.Operation("/double", double)])["paths"]["/double"]
    assert "101" in item["get"]["responses"] and "200" not in item["get"]["responses"]
    assert "200" in item["post"]["responses"] and "requestBody" not in item["get"]


def test_regular_expressions_as_paths():
    def path(location: str) -> str | None:
        found = documents.operation("~", location, None)
        return found and found.path

    assert path(r"^/a/(?<x>[^/]+)/(?P<y>(?:b|c)+)$") == "/a/{x}/{y}"
    assert path(r"^/a\.json$") == "/a.json"
    assert path(r"/a$") is None
    assert path(r"^/(a|b)$") is None


# --- bench and models ---


@pytest.mark.parametrize("client", ["own", "wrk"])
def test_bench_makes_requests_from_the_signature(server, client):
    address = server.url("/double")
    done = run("bench", address, "-d", "1", "-c", "2", "--rows", "3", "--client", client, "--json")
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.output)
    assert found["requests"] > 0 and found["requests_per_second"] > 0
    assert found["errors"] == {"status": 0, "connection": 0}
    latencies = [found["latency_ms"][name] for name in ("p50", "p90", "p99", "p99.9")]
    assert latencies[0] > 0 and latencies == sorted(latencies)


def test_bench_report_and_errors(server):
    done = run("bench", server.url("/add?scale=2"), '{"x": 1}', "-d", "0.2", "-c", "1",
               "--client", "own")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert " requests/s, " in done.output and "99.9 %: " in done.output
    assert done.output.count(" |") == 12 and "#" * 40 in done.output
    done = run("bench", server.url("/double"), "[[1]]", "-d", "0.2")
    assert done.exit_code == 1
    assert "wrong_shape" in done.output and "answered 422" in done.output


def test_models_of_a_server(server):
    server.post("/double", json=[[1, 2], [3, 4]])
    done = run("models", server.url(""))
    assert done.exit_code == 0, done.output
    head, *lines = [line.split() for line in done.output.splitlines()]
    names = ["MODEL", "VERSIONS", "STATE", "REQUESTS", "FAILED", "ROWS", "CALLS", "SIGNATURE"]
    assert head == names
    rows = {line[0]: line for line in lines}
    assert set(rows) == {"double", "two", "text", "count"}
    assert rows["double"][1:3] == ["1", "READY"]
    assert int(rows["double"][5]) >= int(rows["double"][6]) >= 1
    assert " ".join(rows["two"][7:]) == "(a: int64 [batch], b: bool [batch, n]) -> int64 [batch]"
    done = run("models", server.url("/v3"))
    assert done.exit_code == 1 and "answered 404" in done.output


def test_models_with_versions_and_without_signature(monkeypatch):
    counts = {"inference_stats": {"success": {"count": 5}, "fail": {"count": 2}},
              "inference_count": 9, "execution_count": 4}  # fmt: skip
    bare = {"name": "app:bare", "inputs": [],
            "outputs": [{"name": "n", "datatype": "INT64", "shape": []}]}  # fmt: skip
    answers = {
        "repository/index": [
            {"name": "a", "version": "1", "state": "READY"},
            {"name": "a", "version": "new.2", "state": "READY"},
            {"name": "gone", "version": "1", "state": "UNAVAILABLE"},
        ],
        "models/a/stats": {"model_stats": [counts]},
        "models/gone/stats": {"model_stats": [counts]},
        "models/a": bare,
    }
    prefix = "http://localhost/v2/"

    def answer(request, insecure):
        assert not insecure
        return answers[request.full_url.removeprefix(prefix)]

    monkeypatch.setattr(_bench, "_answer", answer)
    done = run("models", "localhost")
    assert done.exit_code == 0, done.output
    _, *lines = [line.split() for line in done.output.splitlines()]
    assert lines == [
        ["a", "1,", "new.2", "READY", "5", "2", "9", "4", "()", "->", "int64", "[]"],
        ["gone", "1", "UNAVAILABLE", "5", "2", "9", "4", "-"],
    ]


def test_bench_of_heads(server):
    """An answer to HEAD has the length of a body that does not come."""
    done = run("bench", server.url("/openapi.json"), "-X", "HEAD", "-d", "0.2", "-c", "1", "--json")
    assert done.exit_code == 0, done.output
    found = msgspec.json.decode(done.output)
    assert found["requests"] > 0 and found["errors"] == {"status": 0, "connection": 0}
    done = run("bench", server.url("/openapi.json"), "-X", "HEAD", "--client", "wrk")
    assert done.exit_code == 1 and "waits for the body of a HEAD" in done.output
