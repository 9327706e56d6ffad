"""The modules of docs/recipes.md run as they stand there."""

import sqlite3

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from answers import check_error
from nginx import Nginx, running, wait_for
from pages import files

BLOCKS = [(name.removesuffix(".py"), text) for name, text in files("docs/recipes.md")]
LOCATIONS = ["weights:scores", "steps:step", "users:user", "orders:order", "orders:delivered"]
LOCATIONS += ["photos:store", "photos:photo", "rates:current"]


@pytest.fixture(scope="module")
def shared_server():
    assert [name for name, _ in BLOCKS] == list(
        dict.fromkeys(location.partition(":")[0] for location in LOCATIONS)
    )
    server = Nginx(
        "".join(
            f"location = /{name.partition(':')[2]} {{ webtorch_handler {name}; }}"
            for name in LOCATIONS
        )
    )
    directory = server.prefix / "app"
    for name, text in BLOCKS:
        server.write_app(text.replace("/srv/app", str(directory)), name)
    save_file({"weight": torch.eye(2, 4), "bias": torch.zeros(2)}, directory / "scores.safetensors")
    (directory / "scores.safetensors").chmod(0o644)
    (directory / "photos").mkdir()
    (directory / "photos").chmod(0o777)
    with sqlite3.connect(directory / "users.db") as users:
        users.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, age REAL, orders REAL)")
        users.execute("INSERT INTO users VALUES (7, 36, 12)")
    with running(server):
        yield server


def test_weights(server):
    assert server.post("/scores", json=[[1, 2, 3, 4]]).json() == [[1, 2]]


def test_state_of_the_client(server):
    x = np.linspace(-1, 1, 8).tolist()
    first = server.post("/step", json={"x": [x]}).json()
    again = server.post("/step", json={"x": [x]}).json()
    second = server.post("/step", json={"x": [x], "h": first["h"]}).json()
    assert first == again
    assert second["score"] != pytest.approx(first["score"], abs=1e-4)


def test_database(shared_server):
    # the server is not watched here: each thread keeps its connection to the database
    assert 0 <= shared_server.get("/user?id=7").json()["risk"] <= 1
    check_error(shared_server.get("/user?id=8"), 404, "not_found", "there is no user 8")
    assert shared_server.get(f"/user?id={2**63}").status_code == 422


def test_work_after_the_answer(server):
    answer = server.post("/order", json={"name": "books"})
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    wait_for(lambda: server.get("/delivered").json() == ["books"], "the delivery")
    assert server.post("/order", json=[]).status_code == 422


def test_files(server):
    answer = server.post("/store", files={"photo": ("cat.jpg", b"pixels" * 50_000, "image/jpeg")})
    assert answer.status_code == 201
    assert answer.json()["was"] == "cat.jpg"
    name = answer.json()["name"]
    assert server.get(f"/photo?name={name}").content == b"pixels" * 50_000
    check_error(server.get("/photo?name=../users.db"), 404, "not_found", "no such photo")
    check_error(server.get("/photo?name=dog"), 404, "not_found", "no such photo")
    assert server.post("/store", files={"picture": b""}).status_code == 422


def test_thread(server):
    # the thread adds the second rate after a minute
    assert server.get("/current").json() in ({"EUR": 1.0}, {"EUR": 1.0, "USD": 1.1})
