"""nginx-conf/pipeline.conf: a handler asks another service and computes together with others."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from answers import check_error
from nginx import ROOT, Nginx, running

CONF = (ROOT / "nginx-conf/pipeline.conf").read_text()


def location(path: str) -> str:
    """Return a location of the real configuration."""
    begin = CONF.index(f"        location = {path} ")
    return CONF[begin : CONF.index("        }\n", begin)] + "        }\n"


@pytest.fixture(scope="module")
def shared_server():
    """Run the real locations, with the customers in the same server."""
    server = Nginx(
        # no connection of the client in the handler is open after a test
        "keepalive_timeout 0;" + location("/v1/judge") + location("/customers/7"),
        http=f"webtorch_path {ROOT}/examples/pipeline;",
    )
    server.configure(main=f"env CUSTOMERS=http://127.0.0.1:{server.port};")
    with running(server):
        # what Python's event loop opens once is open before a test
        judge(server, 7, 120)
        yield server


def judge(server: Nginx, customer: int, amount: float):
    return server.post("/v1/judge", json={"customer": customer, "amount": amount})


def test_orders_of_a_customer(server):
    first = judge(server, 7, 120).json()
    assert first["customer"] == "Ada"
    assert 0 < first["risk"] < 1
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: judge(server, 7, 120).json(), range(32)))
    assert {answer["customer"] for answer in answers} == {"Ada"}
    assert [answer["risk"] for answer in answers] == pytest.approx([first["risk"]] * 32, abs=1e-6)
    assert judge(server, 7, 5000).json()["risk"] != pytest.approx(first["risk"], abs=1e-3)


def test_unknown_customer(server):
    check_error(judge(server, 8, 120), 422, "unprocessable_content", "there is no customer 8")


def test_order_without_amount(server):
    answer = server.post("/v1/judge", json={"customer": 7})
    assert answer.status_code == 422
    assert "amount" in answer.json()["error"]
