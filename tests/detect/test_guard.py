"""nginx-conf/guard.conf and flood.conf: detectors, and an operator that teaches one."""

import json
import os
import re
import threading
import time
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from nginx import ROOT, Nginx, wait_for
from webtorch.cli import cli

# content that needs no other server
SITE = "empty_gif; if ($uri = /nothing) { return 404; }"


def server_of(name: str) -> str:
    """Return what the first server of a configuration has, with another content."""
    text = (ROOT / f"nginx-conf/{name}.conf").read_text()
    server = text[text.index("        webtorch_access") :]
    server = server[: server.index("\n    }\n")]
    changed, count = re.subn(r"proxy_pass  .*?'';", SITE, server, flags=re.DOTALL)
    assert count >= 1
    return changed


CONTROL = "location /control { webtorch_access off; webtorch_log off; webtorch_control; }"


def begin(start, directory, **replaced: str) -> Nginx:
    """Start what guard.conf has; words of its first server are replaced."""
    server = server_of("guard")
    for old, new in replaced.items():
        assert old in server
        server = server.replace(old, new)
    return start(
        server + CONTROL,
        http=f"webtorch_path {ROOT}/examples/guard; webtorch_zone guard:64m;"
        f"webtorch_checkpoint {directory} interval=1s;",
        workers=2,
    )


ATTACKS = [
    ("GET", "/?id=1%27+or+1%3D1--", None),
    ("GET", "/?q=%3Cscript%3Ealert(1)%3C/script%3E", None),
    ("GET", "/files/%252e%252e/%252e%252e/etc/passwd", None),
    ("POST", "/", "name=x&pass=' union select password from users--"),
    ("POST", "/", "a=" + "x+" * 7000 + "' union select password from users--"),
]


def fields_of(guard: Nginx) -> dict[str, dict[str, Any]]:
    found = guard.get("/control/guards/guard").json()["fields"]
    return {f"{each['address']} {each['field']}": each for each in found}


def learned(guard: Nginx) -> int:
    return int(guard.get("/control/guards/guard").json()["requests"])


def send(guard: Nginx, number: int) -> requests.Response:
    """Send a normal request, whose note is code."""
    note = f"if (n{number} == {number}) {{ return '<b>' + $x; }}"
    return guard.get(f"/notes/{number}", params={"title": f"note {number}", "code": note})


def cli_of(guard: Nginx, *words: str) -> Result:
    words = ("guard", *words, "--url", guard.url("/control"))
    return CliRunner().invoke(cli, words, prog_name="webtorch")


def is_marked(guard: Nginx, verdict: str, identifier: str) -> Result | None:
    """Mark a request; None: it is not kept yet."""
    result = cli_of(guard, "mark", verdict, identifier)
    return None if result.exit_code else result


def test_guard_learns_and_is_taught(start, directory):
    """In a dry run nothing is denied; what was learned and marked counts in all workers."""
    guard = begin(start, directory)
    assert guard.get("/control/guards").json() == [{"name": "guard", "requests": 0}]
    for number in range(30):
        assert send(guard, number).status_code == 200
    # it is observed before most others
    assert guard.get("/nothing").status_code == 404
    for method, path, body in ATTACKS:
        answer = guard.request(method, path, data=body)
        assert answer.status_code in (200, 405), path
        assert len(answer.headers["X-Request-Id"]) == 32
    # rows of webtorch_log reach the function in batches, not immediately
    # those that both workers count at the same time may be lost
    wait_for(lambda: learned(guard) >= 30, "most requests to be learned")
    assert guard.log().count("dry run") >= len(ATTACKS)

    fields = fields_of(guard)
    title, code = fields["/notes/* query.title"], fields["/notes/* query.code"]
    assert 20 <= title["values"] <= 30 and 20 <= code["values"] <= 30
    assert not any("/nothing" in each for each in fields)
    assert "(" in code["characters"] and "(" not in title["characters"]
    assert title["type"] == "text" and code["type"] in ("code", "markup")
    assert title["length"] in (7, 15) and code["score"] > title["score"]
    shown = cli_of(guard, "show")
    assert shown.exit_code == 0 and "query.title" in shown.output, shown.output
    exported = json.loads(cli_of(guard, "export").output)
    assert len(exported["fields"]) >= len(fields)

    # operators
    first, second = ("/?motto=carpe+diem", "/?id=1%27+or+1%3D1--")
    ids = [guard.get(path).headers["X-Request-Id"] for path in (first, second)]
    marked = wait_for(lambda: is_marked(guard, "--attack", ids[0]), "a request to be kept")
    assert "1 marked as attack" in marked.output
    wait_for(lambda: is_marked(guard, "--normal", ids[1]), "another request to be kept")
    assert cli_of(guard, "mark", "--normal", ids[1], "0" * 32).exit_code == 1
    wrong = {"ids": ["x" * 32], "verdict": "normal"}
    assert guard.post("/control/guards/guard/mark", wrong).status_code == 422
    wrong["verdict"] = "good"
    assert guard.post("/control/guards/guard/mark", wrong).status_code == 422
    unknown = guard.post("/control/guards/guard/mark", {"ids": ["0" * 32], "verdict": "normal"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_request")
    assert guard.get("/control/guards/other").status_code == 404

    # what would not be in a checkpoint is refused
    marks = guard.get("/control/guards/guard").json()["marks"]
    assert guard.post("/control/models/guard/freeze", {}).status_code == 200
    again = {"ids": [ids[1]], "verdict": "attack"}
    for what, body in (("mark", again), ("reset", {})):
        refused = guard.post(f"/control/guards/guard/{what}", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "frozen")
    assert guard.get("/control/guards/guard").json()["marks"] == marks
    assert guard.post("/control/models/guard/unfreeze", {}).status_code == 200

    values = fields_of(guard)["/notes/* query.code"]["values"]
    assert guard.quit() == 0

    # restarted, without dry_run
    guard = begin(start, directory, **{" dry_run": ""})
    count = learned(guard)
    assert fields_of(guard)["/notes/* query.code"]["values"] == values
    assert len(guard.get("/control/guards/guard").json()["marks"]) >= 2
    for _ in range(8):
        assert guard.get(first).status_code == 403
        assert guard.get(second).status_code == 200
        assert guard.get("/?motto=carpe").status_code == 200
        assert send(guard, 17).status_code == 200
    for method, path, body in ATTACKS[1:]:
        assert guard.request(method, path, data=body).status_code == 403, path
    for path in ("/", "/products/17?sort=price&page=2", "/search?q=o%27neill", "/a.css"):
        assert guard.get(path).status_code == 200, path
    assert guard.request("POST", "/", data="name=anna&text=it's fine").status_code == 405
    assert learned(guard) == count > 0

    assert cli_of(guard, "reset", "--marks").exit_code == 0
    # a worker looks once a second whether there are marks
    wait_for(lambda: guard.get(first).status_code == 200, "marks to be forgotten")
    assert learned(guard) == count
    assert cli_of(guard, "reset", "--learned", "--marks").exit_code == 0
    assert learned(guard) == 0 and not fields_of(guard)


@pytest.mark.serial
def test_flood_denied_people_pass(start):
    """Clients are distinguished by a header here, people load assets, and searches fail."""
    server = start(
        server_of("flood") + "location /p/search { try_files /none =503; }",
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
