"""The two services of docs/fastapi.md answer alike."""

from types import ModuleType

import pytest
from fastapi.testclient import TestClient

from nginx import Nginx, running
from pages import block, blocks

BEFORE, AFTER = blocks("docs/fastapi.md", "python")
LOCATION = block("docs/fastapi.md", "nginx")


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(LOCATION, app=AFTER)) as server:
        yield server


@pytest.fixture(scope="module")
def before() -> TestClient:
    module = ModuleType("fastapi_app")
    exec(BEFORE, module.__dict__)
    return TestClient(module.app)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/gardens/west", None),
        ("GET", "/gardens/west?limit=0", None),
        ("GET", "/gardens/north", None),
        ("GET", "/gardens/west?limit=many", None),
        ("POST", "/gardens/east", {"name": "iris"}),
        ("POST", "/gardens/east", {"name": "iris", "height": "0.4"}),
        ("POST", "/gardens/east", {"height": 1}),
        ("POST", "/gardens/east", {"name": "iris", "height": "tall"}),
        ("GET", "/gardens/east", None),
    ],
)
def test_services_answer_alike(server, before, method, path, body):
    expected = before.request(method, path, json=body)
    answer = server.request(method, path, json=body)
    assert answer.status_code == expected.status_code
    if answer.ok:
        assert answer.json() == expected.json()
    else:
        assert set(answer.json()) >= {"error", "code"}
