"""webtorch_control of balancers: servers that an operator ejects and returns."""

from answers import check_error
from backends import LOCATION, ask, ask_until
from nginx import wait_for

BACKENDS = 4

CONTROL = "location /control { webtorch_control; } location = /status { webtorch_status; }"


def servers(described):
    return {each["server"]: each["state"] for each in described["servers"]}


def test_orders_of_balancer(start, backends):
    http = backends.upstream("zone u 256k; webtorch_balancer;")
    server = start(LOCATION + CONTROL, http=http, workers=2)
    addresses = [f"127.0.0.1:{backend.port}" for backend in backends]

    def order(action, number, **body):
        body = {"server": addresses[number], **body}
        return server.post(f"/control/balancers/u/{action}", body)

    def describe():
        return servers(server.get("/control/balancers/u").json())

    # servers are known before they get requests
    wait_for(lambda: describe() == dict.fromkeys(addresses, "up"), "the list of servers")
    (listed,) = server.get("/control/balancers").json()
    assert listed["name"] == "u"
    assert listed["servers"][0].keys() == {
        "server",
        "state",
        "backup",
        "in_flight",
        "error",
        "picks",
        "ejections",
    }

    def used():
        backends.forget()
        ask(server, 60)
        return {number for number, backend in enumerate(backends) if backend.total}

    # both workers follow at once, and those of a new configuration, too
    answer = order("eject", 1)
    assert servers(answer.json())[addresses[1]] == "ejected by an operator"
    assert 1 not in used()
    server.reload()
    assert 1 not in used()
    assert describe()[addresses[1]] == "ejected by an operator"
    labels = f'upstream="u",server="{addresses[1]}"'
    metrics = server.get("/status?format=prometheus").text
    assert f"webtorch_balancer_ejected_by_order{{{labels}}} 1" in metrics
    assert f"webtorch_balancer_ejected{{{labels}}} 0" in metrics
    problems = server.get("/status?format=json").json()["problems"]
    assert any(addresses[1] in each for each in problems)
    server.wait_for_log(rf'control: eject of "u" .*{addresses[1]}.*, by 127\.0\.0\.1')

    # one that failures have ejected, and an operator has returned, is tried at once
    backends[2].status = 500
    ask_until(server, lambda _: describe()[addresses[2]] == "ejected")
    backends[2].status = 200
    order("return", 2)
    ask_until(server, lambda _: describe()[addresses[2]] == "up")

    # none is left: as if all were "down"
    for number in range(len(backends)):
        assert order("eject", number).ok
    assert {each.status for each in ask(server, 8)} == {502}
    server.wait_for_log('all servers of upstream "u" are out')
    for number in range(len(backends)):
        assert order("return", number).ok
    assert "ejected by an operator" not in describe().values()
    backends.forget()
    ask_until(server, lambda _: all(backend.total for backend in backends))

    # what is not there
    unknown = server.post("/control/balancers/u/eject", {"server": "10.9.8.7:1"})
    check_error(unknown, 404, "unknown_server", *addresses)
    check_error(server.get("/control/balancers/v"), 404, "unknown_server", '"u"')
    assert server.post("/control/balancers/u/eject", {}).status_code == 422
    assert server.post("/control/balancers/u/eject", {"server": 1}).status_code == 422
    assert server.get("/control/balancers/u/eject").status_code == 405


def test_backup_server_in_place_of_ejected_ones(start, backends):
    backup = {f"_{number}": "backup" for number in (2, 3)}
    http = backends.upstream("webtorch_balancer;", **backup)
    server = start(LOCATION + CONTROL, http=http)
    path = "/control/balancers/u"
    wait_for(lambda: len(server.get(path).json()["servers"]) == 4, "the list of servers")
    flags = {each["server"]: each["backup"] for each in server.get(path).json()["servers"]}
    assert list(flags.values()) == [False, False, True, True]
    for address in list(flags)[:3]:
        assert server.post(f"{path}/eject", {"server": address}).ok
    assert {answer.server for answer in ask(server, 20)} == {"3"}


APP = """
    import webtorch
    from jaxtyping import Float32
    from torch import Tensor, nn

    balancers = webtorch.Model("balancers", nn.Linear(1, 1))

    @webtorch.infer
    def use(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        return balancers(x)
"""


def test_upstreams_of_any_name(start, backends):
    address, other = (f"127.0.0.1:{backends[number].port}" for number in (0, 1))
    # as much of an address as is shown
    long = "unix:/".ljust(63, "x")
    http = f"""
        upstream replaced {{ webtorch_balancer; least_conn; server {address}; }}
        upstream models {{ webtorch_balancer; server {address}; server {other}; }}
        upstream long {{ webtorch_balancer; server {long}a; server {long}; }}
        upstream longer {{ webtorch_balancer; server {long}a; server {long}b; }}
        upstream drain {{ webtorch_balancer; server {address}; }}
    """
    proxies = """
        location = /replaced { proxy_pass http://replaced/; }
        location = /models {
            proxy_pass           http://models/;
            proxy_read_timeout   300ms;
            proxy_next_upstream  error timeout http_500;
        }
    """
    use = "location = /use { webtorch_handler app:use; }"
    server = start(CONTROL + proxies + use, APP, http=http)

    # a timer has found the servers of all, in this order
    path = "/control/balancers/drain"
    wait_for(lambda: servers(server.get(path).json()) == {address: "up"}, "the server")
    assert server.get("/replaced").text == "0"
    assert servers(server.get("/control/balancers/replaced").json()) == {}

    # the ends of these addresses are addresses, too
    assert server.post(path, {}).status_code == 405
    assert server.get("/control/drain").json() == {"drained": False}
    upstream = server.get("/control/balancers/models").json()
    assert servers(upstream) == {address: "up", other: "up"}
    (model,) = server.get("/control/models/balancers").json()
    assert model["name"] == "balancers"
    (model,) = server.get("/control/models").json()
    assert model["name"] == "balancers"
    check_error(server.get("/control/models/drain"), 404, "unknown_model")
    assert server.post("/control/balancers/models/eject", {"server": other}).ok

    # an address that is a part of others
    listed = server.post("/control/balancers/long/eject", {"server": long}).json()["servers"]
    assert [each["state"] for each in listed] == ["up", "ejected by an operator"]
    answer = server.post("/control/balancers/longer/eject", {"server": long})
    check_error(answer, 404, "unknown_server")

    # there is one server for each request of "models": its answer is the last
    backends[0].status = 500
    assert (server.get("/models").status_code, server.get("/models").text) == (500, "0")
    backends[0].hangs = True
    assert server.get("/models").status_code == 504
    assert "no live upstreams" not in server.log()
