"""webtorch_health: whether a server lives, and whether it is ready."""

import os
import signal
import threading

import pytest

from answers import check_error
from gate import GATE_APP
from nginx import Nginx, running, wait_for

SERVER = """
location = /gated { webtorch_handler app:gated mode=thread queue=2 timeout=60s; }
location = /more { webtorch_handler app:gated mode=thread; }
location = /control { webtorch_handler app:control mode=inline; }
location = /late { webtorch_handler late:late; }
location = /livez { webtorch_health live; }
location = /readyz { webtorch_health ready drain=drain; }
location = /open { webtorch_health ready; }
location = /v2/health/ready { rewrite ^ /readyz; }
location /api { proxy_pass http://group; }
"""

HTTP = "upstream group { server 127.0.0.1:1; webtorch_balancer; }"

LATE = """
import pathlib, webtorch

if pathlib.Path(__file__).with_name("broken").exists():
    raise OSError("broken on purpose")

@webtorch.handler
def late(request):
    return "late"
"""


def reasons(server: Nginx, path: str = "/readyz") -> list[str]:
    answer = server.get(path, headers={"Accept": "application/json"})
    found: list[str] = answer.json()["reasons"]
    assert answer.json()["ready"] == (not found)
    assert answer.status_code == (503 if found else 200)
    return found


@pytest.mark.parametrize("metrics", ["on", "off"])
def test_health(metrics):
    """Readiness fails for a drain, a full queue and broken code; liveness does not."""
    server = Nginx(SERVER, GATE_APP, http=HTTP + f"webtorch_metrics {metrics};")
    server.write_app(LATE, "late")
    server.expected_in_log.append("exited on signal 9")
    with running(server):
        check_health(server, metrics)


def check_health(server: Nginx, metrics: str) -> None:
    for path in ("/livez", "/readyz"):
        answer = server.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["Cache-Control"] == "no-store"
    assert server.get("/livez?format=json").json() == {"reasons": [], "live": True}
    verbose = server.get("/readyz?verbose").text
    assert "[+]app:gated ok\n" in verbose
    assert "[+]group ok\n" in verbose
    assert verbose.endswith("\nok\n")
    # several locations have a function
    assert verbose.count("app:gated") == 1
    check_error(server.post("/readyz"), 405, "method_not_allowed", "Allow")
    assert server.post("/readyz").headers["Allow"] == "GET, HEAD"

    drain = server.prefix / "drain"
    drain.touch()
    assert reasons(server) == ["the server is drained"]
    assert reasons(server, "/open") == []
    assert server.get("/readyz").text == "[-]the server is drained\nreadiness check failed\n"
    assert server.get("/late").text == "late"
    drain.unlink()
    assert reasons(server) == []

    server.get("/control?shut")
    threads = [
        threading.Thread(target=server.post, args=("/gated", [[float(n)]])) for n in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: reasons(server) == ["queue of app:gated is full"], "a full queue")
    assert server.post("/gated", [[1.0]]).status_code == 503
    (found,) = reasons(server)
    assert found.startswith("queue of app:gated is full")
    assert found.endswith(" s") == (metrics == "on")
    assert server.get("/livez").ok
    server.get("/control?open")
    for thread in threads:
        thread.join()
    wait_for(lambda: reasons(server) == [], lambda: str(reasons(server)))

    # a worker that replaces another one imports the code again
    (server.prefix / "app/broken").touch()
    (old,) = server.workers()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: server.workers() not in ([], [old]), "another worker")
    wait_for(lambda: reasons(server) == ["late:late is not loaded"], "the reason")


@pytest.mark.parametrize(
    "arguments", ["ready drain=", "ready other=1", "live drain=/a", "sometimes"]
)
def test_health_configuration_errors(arguments):
    server = Nginx(f"location /a {{ webtorch_health {arguments}; }}")
    status, output = server.check()
    assert status != 0
    assert "invalid" in output
