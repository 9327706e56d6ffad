"""nginx-conf/drift.conf: a model that learns from the access log is told of a drift, and adapts."""

import random

import pytest
import requests

from nginx import ROOT, Nginx, free_port, running, wait_for

PATHS = ("/search", "/cart", "/news")


@pytest.fixture(scope="module")
def shared_server():
    text = (ROOT / "nginx-conf/drift.conf").read_text()
    _, own, site = text.split("    server {\n")
    own = own[own.index("        webtorch_set") : own.rindex("    }\n\n    # in place")]
    port = free_port()
    server = Nginx()
    own, site = (
        each.replace("127.0.0.1:3002", f"127.0.0.1:{port}").replace(
            "build/run/release", str(server.prefix / "release")
        )
        for each in (own, "server {\n" + site[: site.rindex("}\n")])
    )
    server.configure(server=own, http=f"webtorch_path {ROOT}/examples/drift;\n{site}")
    server.expected_in_log += ["drift after"]
    with running(server):
        yield server


def report(server) -> dict[str, float]:
    return server.get("/drift").json()


def visit(server, session, count: int) -> None:
    """Send requests, and wait until all of them are learned."""
    before = report(server)["samples"]
    for _ in range(count):
        session.get(server.url(random.choice(PATHS)))
    wait_for(lambda: report(server)["samples"] >= before + count, "the samples to be learned")


def test_drift_is_told_and_learned(server):
    random.seed(1)
    with requests.Session() as session:
        visit(server, session, 600)
        assert report(server)["error"] < 0.05
        assert report(server)["drifts"] == 0

        (server.prefix / "release").touch()
        visit(server, session, 500)
        assert report(server)["drifts"] >= 1
        assert "drift after" in server.log()

        visit(server, session, 500)
        before = report(server)
        visit(server, session, 500)
        after = report(server)
    wrong = after["mean_error"] * after["samples"] - before["mean_error"] * before["samples"]
    assert wrong / 500 < 0.05
