"""The directive webtorch_clients_zone: what is known of clients, seen by a model in their rows."""

import math
import re
import signal

import pytest

from nginx import wait_for
from webtorch import features

APP = """
import torch, webtorch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

rows = []

@webtorch.infer
def note(
    client: Float32[Tensor, "batch 31"],
    site: Float32[Tensor, "batch 8"],
    key: Int64[Tensor, "batch 1"],
) -> Float32[Tensor, "batch 1"]:
    rows.extend(zip(client.tolist(), site.tolist(), key.flatten().tolist()))
    return torch.zeros(len(client), 1)

@webtorch.infer
def deny(site: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return torch.ones(len(site), 1)

@webtorch.handler
def noted(request: webtorch.Request) -> dict:
    told = list(rows)
    rows.clear()
    return {"rows": told}
"""

SERVER = """
location = /noted { webtorch_handler app:noted mode=inline; }
location / {
    webtorch_access app:note mode=inline;
    return 404;
    location /ok { empty_gif; }
    location /error { proxy_pass http://127.0.0.1:$server_port/nothing; }
    location /failure { proxy_pass http://127.0.0.1:1; }
    location /deny { webtorch_access app:deny; empty_gif; }
    location /page { error_page 404 /ok; proxy_pass http://127.0.0.1:$server_port/nothing; }
}
location /nothing { return 404; }
"""

KEY = "webtorch_clients_zone clients:64k key=$http_client;"
REFUSED = r"Connection refused"


def noted(server):
    return [
        (
            dict(zip(features.CLIENT, client, strict=True)),
            dict(zip(features.SITE, site, strict=True)),
            key,
        )
        for client, site, key in server.get("/noted").json()["rows"]
    ]


def send(server, path, client, **options):
    headers = {"Client": client} | options.pop("headers", {})
    return server.get(path, headers=headers, **options)


def test_client_identified_by_its_key(start):
    server = start(SERVER, APP, http=KEY)
    for client in ("a", "b", "a", "x" * 100, "x" * 99 + "y", "x" * 100):
        assert send(server, "/ok", client).status_code == 200
    rows = noted(server)
    requests = [round(math.expm1(client["requests"])) for client, _, _ in rows]
    assert requests == [1, 1, 2, 1, 1, 2]
    keys = [key for _, _, key in rows]
    assert keys[0] == keys[2] and keys[3] == keys[5] and len(set(keys)) == 4
    clients = [round(math.expm1(site["clients"])) for _, site, _ in rows]
    assert clients == [1, 2, 2, 3, 4, 4]
    assert all(site["new_share"] == 1 for _, site, _ in rows)


def test_missing_key(start):
    server = start(SERVER, APP, http=KEY)
    assert server.get("/ok").status_code == 200
    ((client, site, _),) = noted(server)
    assert set(client.values()) == set(site.values()) == {0}


def test_kinds_of_targets(start):
    server = start(SERVER, APP, http=KEY)
    send(server, "/ok/p/1", "a")
    send(server, "/ok/p/1?q", "a", headers={"Cookie": "sid=1"})
    send(server, "/ok/p/1.css", "a")
    send(server, "/ok/p/1", "a", headers={"Sec-Fetch-Dest": "image"})
    rows = [client for client, _, _ in noted(server)]
    assert [row["queries_share"] for row in rows] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert [row["cookies_share"] for row in rows] == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert [row["assets_share"] for row in rows] == pytest.approx([0, 0, 1 / 3, 2 / 4])
    # three targets in four requests
    assert rows[-1]["urls_share"] == pytest.approx(3 / 4, abs=0.05)
    kinds = [
        {name: value for name, value in row.items() if name.startswith("kind_") and value}
        for row in rows
    ]
    assert len(kinds[0]) == len(kinds[1]) == 1 and sorted(kinds[3].values()) == [0.25, 0.75]
    assert rows[0]["gap"] == 0 and all(row["rate_fast"] > row["rate_slow"] for row in rows)


def test_errors_counted_except_denials(start):
    server = start(SERVER, APP, http=KEY, main="")
    server.expected_in_log.append(REFUSED)
    for path, status in (("/ok", 200), ("/error", 404), ("/failure", 502), ("/ok", 200)):
        assert send(server, path, "a").status_code == status
    client, site, _ = noted(server)[-1]
    assert client["errors_share"] == site["errors_share"] == pytest.approx(2 / 3)
    assert client["failures_share"] == site["failures_share"] == pytest.approx(1 / 3)

    assert send(server, "/deny", "a").status_code == 403
    assert send(server, "/ok", "a").status_code == 200
    client, site, _ = noted(server)[-1]
    assert round(math.expm1(client["requests"])) == 6
    assert client["errors_share"] == site["errors_share"] == pytest.approx(2 / 5)
    assert site["denied_share"] == pytest.approx(1 / 5)
    # once upstreams have answered, what nginx answers itself is not counted, nor are denials
    assert site["failures_share"] == pytest.approx(1 / 3)


def test_internal_redirect_counts_once(start):
    server = start(SERVER, APP, http=KEY)
    assert send(server, "/page", "a").status_code == 404
    assert send(server, "/ok", "a").status_code == 200
    rows = noted(server)
    assert [round(math.expm1(client["requests"])) for client, _, _ in rows] == [1, 2]


def test_zone_is_bounded_and_evicts_the_oldest(start):
    server = start(SERVER, APP, http=KEY)
    count = 400  # more than 64k hold
    for number in range(count):
        send(server, "/ok", f"client {number}")
        if number % 10 == 0:
            send(server, "/ok", "faithful")
    rows = noted(server)
    clients = [round(math.expm1(site["clients"])) for _, site, _ in rows]
    assert max(clients) == clients[-1] < count

    def requests_of(client):
        send(server, "/ok", client)
        return round(math.expm1(noted(server)[-1][0]["requests"]))

    assert requests_of(f"client {count - 1}") == 2
    assert requests_of("faithful") == count // 10 + 1
    assert requests_of("client 0") == 1


def test_clients_shared_by_workers_and_kept_over_reloads(start):
    server = start(SERVER, APP, http=KEY, workers=2)
    for _ in range(20):
        send(server, "/ok", "a")
    server.reload()
    send(server, "/ok", "a")
    rows = wait_for(lambda: noted(server), "the worker that has served")
    assert round(math.expm1(rows[-1][0]["requests"])) == 21


def test_default_key_is_the_address(start):
    server = start(SERVER, APP)
    for _ in range(3):
        server.get("/ok", headers={"Client": "x"})
    assert [round(math.expm1(client["requests"])) for client, _, _ in noted(server)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("clients", 'invalid zone "clients", it must be "name:size"'),
        (":64k", 'invalid zone ":64k"'),
        ("clients:x", 'invalid zone size "clients:x"'),
        ("clients:8k", 'zone "clients:8k" is too small'),
        ("clients:64k key=", 'invalid parameter "key="'),
        ("clients:64k rate=1", 'invalid parameter "rate=1"'),
        ("clients:64k key=$nowhere", 'unknown "nowhere" variable'),
        ("clients:64k; webtorch_clients_zone other:64k", "is duplicate"),
    ],
)
def test_configuration_errors(configured, directive, error):
    server = configured(http=f"webtorch_clients_zone {directive};")
    status, output = server.check()
    assert status == 1
    assert re.search(rf"\[emerg\].*{re.escape(error)}", output), output


def test_reload_cannot_change_the_key(start):
    server = start(SERVER, APP, http=KEY, expected=("while previously it used",))
    server.configure(http=KEY.replace("http_client", "http_other"))
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log('uses the "\\$http_other" key while previously it used')
    send(server, "/ok", "a")
    send(server, "/ok", "a")
    assert round(math.expm1(noted(server)[-1][0]["requests"])) == 2
