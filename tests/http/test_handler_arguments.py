"""@webtorch.handler: arguments from captures, variables, the query and the body."""

import pytest

from answers import check_error

APP = """
from dataclasses import dataclass, field
from typing import Any, TypedDict
from uuid import UUID

import msgspec, pydantic, webtorch

@dataclass
class Flower:
    name: str
    petals: list[float] = field(default_factory=list)

class Model(pydantic.BaseModel):
    name: str
    size: float = 1.5

@webtorch.handler(variables=["remote_addr"])
def item(request, id: int, remote_addr: str, q: str = "none", n: list[int] = [0]):
    return {"id": id, "address": remote_addr, "q": q, "n": n, "path": request.path_params,
            "variables": dict(request.variables)}

@webtorch.handler
def outer(itemId: str, name, page: int | None = None):
    return [itemId, name, page]

@webtorch.handler
def tenant(request, tenant):
    return [tenant, request.path_params]

@webtorch.handler(methods=["POST"])
def flower(flower: Flower): return flower

@webtorch.handler(methods=["POST"])
def model(model: Model) -> Model: return model

@webtorch.handler(methods=["POST"])
def two(a: Flower, b: Model): return [a, b]

@webtorch.handler
def health(): return "well"
"""

SERVER = r"""
location ~ ^/items/(?<id>-?\w+)$ { webtorch_handler app:item; }
location ~ ^/things/(?P<id>\d+)$ { webtorch_handler app:item mode=thread; }
location ~ "^/outer/(?<itemId>[^/]+)/" {
    location ~ "/(?'name'[^/]*)/(?<page>\d+)?$" { webtorch_handler app:outer; }
}
location = /flower { webtorch_handler app:flower; }
location = /model { webtorch_handler app:model; }
location = /two { webtorch_handler app:two; }
location = /health { webtorch_handler app:health; }
location = /tenant { webtorch_handler app:tenant; }
server_name "~^(?<tenant>\w+)\.example$";
"""


def test_captures_and_query(server):
    assert server.get("/items/-7?q=a%20b&n=1&n=2").json() == {
        "id": -7,
        "address": "127.0.0.1",
        "q": "a b",
        "n": [1, 2],
        "path": {"id": "-7"},
        "variables": {"remote_addr": "127.0.0.1"},
    }
    assert server.get("/things/8").json()["id"] == 8
    assert server.get("/items/7").json()["n"] == [0]


def test_captures_of_nested_locations(server):
    assert server.get("/outer/%C3%A9%20x/b/3").json() == ["é x", "b", 3]
    assert server.get("/outer/a/b/").json() == ["a", "b", None]


def test_captures_of_the_name_of_the_server(server):
    answer = server.get("/tenant", headers={"Host": "a.example"})
    assert answer.json() == ["a", {"tenant": "a"}]
    check_error(server.get("/tenant"), 422, "invalid_argument", "it is missing")


def test_wrong_arguments(server):
    answer = server.get("/items/x?n=1&n=y")
    check_error(answer, 422, "invalid_argument", 'path argument "id": expected int, found str')
    assert answer.json()["detail"] == [
        {"field": "id", "in": "path argument", "message": "expected int, found str"},
        {"field": "n", "in": "query argument", "message": "expected int, found str"},
    ]


@pytest.mark.parametrize("path", ["/flower", "/model"])
def test_arguments_from_body(server, path):
    answer = server.post(path, {"name": "iris"})
    assert answer.json()["name"] == "iris"
    assert answer.headers["Content-Type"] == "application/json"
    assert server.post(path, data={"name": "a b"}).json()["name"] == "a b"
    assert server.post(path, files={"name": (None, "é")}).json()["name"] == "é"
    large = "x" * 100_000
    assert server.post(path, {"name": large}).json()["name"] == large
    check_error(server.post(path, {"name": 1}), 422, "invalid_argument", 'field "name"')
    check_error(server.post(path, data=b""), 422, "invalid_argument", "it is missing")
    check_error(server.post(path, data=b"{"), 400, "malformed_body", "invalid JSON")


def test_several_arguments_of_the_body(server):
    answer = server.post("/two", {"a": {"name": "x"}, "b": {"name": "y"}})
    assert answer.json() == [{"name": "x", "petals": []}, {"name": "y", "size": 1.5}]


def test_no_arguments(server):
    assert server.get("/health").text == "well"
