"""nginx-conf/guard.conf and flood.conf: detectors, and an operator that teaches one."""

import os
import re
import threading
import time

import pytest
import requests

from nginx import ROOT, Nginx, wait_for

# content that needs no other server
SITE = "empty_gif;"


def server_of(name: str) -> str:
    """Return what the first server of a configuration has, with another content."""
    text = (ROOT / f"nginx-conf/{name}.conf").read_text()
    server = text[text.index("        webtorch_access") :]
    server = server[: server.index("\n    }\n")]
    changed, count = re.subn(r"proxy_pass  .*?'';", SITE, server, flags=re.DOTALL)
    assert count == 1
    return changed


@pytest.fixture
def guard(start) -> Nginx:
    learn = "location = /learn { webtorch_access off; webtorch_handler guard:learn; }"
    return start(
        server_of("guard") + learn,
        http=f"webtorch_path {ROOT}/examples/guard; webtorch_zone guard:64m;",
        workers=2,
    )


ATTACKS = [
    ("GET", "/?id=1%27+or+1%3D1--", None),
    ("GET", "/?q=%3Cscript%3Ealert(1)%3C/script%3E", None),
    ("GET", "/files/%252e%252e/%252e%252e/etc/passwd", None),
    ("POST", "/", "name=x&pass=' union select password from users--"),
    ("POST", "/", "a=" + "x+" * 7000 + "' union select password from users--"),
]


def test_attacks_are_denied_and_others_pass(guard):
    for method, path, body in ATTACKS:
        answer = guard.request(method, path, data=body)
        assert answer.status_code == 403, path
        assert len(answer.headers["X-Request-Id"]) == 32
    for path in ("/", "/products/17?sort=price&page=2", "/search?q=o%27neill", "/a.css"):
        assert guard.get(path).status_code == 200, path
    assert guard.request("POST", "/", data="name=anna&text=it's fine").status_code == 405


def learn(guard: Nginx, identifier: str, label: int) -> float:
    answer = guard.post("/learn", {"id": [identifier], "label": [[label]]})
    assert answer.status_code == 200, guard.log()[-3000:]
    return float(answer.json()["output"][0][0])


def test_operator_teaches_by_request_ids(guard):
    path = "/?motto=carpe+diem"
    answer = guard.get(path)
    assert answer.status_code == 200
    identifier = answer.headers["X-Request-Id"]

    # rows of webtorch_log reach the function in batches, not immediately
    wait_for(lambda: learn(guard, identifier, 1) >= 0, "a request to be remembered")
    for label, status in ((1, 403), (0, 200)):
        for _ in range(500):
            if guard.get(path).status_code == status:
                break
            learn(guard, identifier, label)
        # all workers have learned it
        assert {guard.get(path).status_code for _ in range(20)} == {status}
        assert guard.get("/").status_code == 200
        assert guard.get("/?id=1%27+or+1%3D1--").status_code == 403


def test_unknown_and_malformed_ids(guard):
    assert learn(guard, "0" * 32, 1) == -1
    for wrong in ("", "x" * 32, "0" * 31):
        answer = guard.post("/learn", {"id": [wrong], "label": [[1]]})
        assert answer.status_code == 400
        assert "32 hexadecimal digits" in answer.text


@pytest.mark.serial
def test_flood_denied_people_pass(start):
    """Clients are distinguished by a header here, and people load assets."""
    server = start(
        server_of("flood"),
        http=f"webtorch_path {ROOT}/examples/flood;"
        "webtorch_clients_zone clients:8m key=$http_x_client;",
    )
    denied = {"person": 0, "attacker": 0}
    sent = dict(denied)
    end = time.monotonic() + 8
    stop = threading.Event()

    def people(number: int) -> None:
        with requests.Session() as session:
            turn = 0
            while not stop.is_set():
                turn += 1
                paths = [f"/p/{turn % 7}", *(f"/a/{turn * 3 + each}.css" for each in range(4))]
                for path in paths:
                    answer = session.get(
                        server.url(path), headers={"X-Client": f"p{number}-{turn // 3}"}
                    )
                    if time.monotonic() > end:
                        sent["person"] += 1
                        denied["person"] += answer.status_code == 429
                stop.wait(0.1)

    def attackers(number: int) -> None:
        with requests.Session() as session:
            turn = 0
            while not stop.is_set():
                turn += 1
                answer = session.get(
                    server.url(f"/p/search?q={os.urandom(4).hex()}"),
                    headers={"X-Client": f"a{number}-{turn % 40}"},
                )
                sent["attacker"] += 1
                denied["attacker"] += answer.status_code == 429

    threads = [threading.Thread(target=people, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    stop.wait(end - time.monotonic())
    flood = [threading.Thread(target=attackers, args=(number,)) for number in range(4)]
    for thread in flood:
        thread.start()
    try:
        wait_for(
            lambda: denied["attacker"] > sent["attacker"] / 2 and sent["attacker"] > 300,
            "most of the flood to be denied",
        )
    finally:
        stop.set()
        for thread in threads + flood:
            thread.join()
    assert sent["person"] and denied["person"] <= sent["person"] / 10
