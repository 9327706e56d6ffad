"""The directive webtorch_cluster."""

import pytest

ZONE = "webtorch_zone models:1m;"
NAME = "a coordinator=127.0.0.1:7610"

SECRET = "0" * 32


@pytest.fixture
def host(configured):
    """Return a server without handlers, and files that are secrets or not."""
    server = configured()
    for name, mode, text in (
        ("good", 0o600, f"{SECRET}\n"),
        ("read", 0o400, SECRET),
        ("open", 0o640, SECRET),
        ("short", 0o600, f"{SECRET[1:]}\n"),
        ("long", 0o600, 4097 * "a"),
    ):
        path = server.prefix / name
        path.write_text(text)
        path.chmod(mode)
    return server


def check(server, http):
    server.configure(http=http)
    return server.check()


def test_webtorch_cluster_is_accepted(host):
    for parameters in (
        "secret=good",
        "secret=read secret=good",
        "secret=off",
        "secret=good id=web-1.a_b address=10.0.0.2 port=1 interval=10ms timeout=1s",
        "secret=good id=$hostname address=fe80::1 compress=int8 outer=nesterov:0.7,0.5",
        "secret=good compress=bf16 outer=average rollout=off",
        "secret=good rollout=hosts:1",
        "secret=good rollout=hosts:1000,pause=1h",
        "secret=good rollout=hosts:2,pause=500ms",
    ):
        status, output = check(host, f"{ZONE} webtorch_cluster {NAME} {parameters};")
        assert status == 0, output
        assert "warn" not in output
    status, output = check(host, f"{ZONE} webtorch_cluster a coordinator=[::1]:99 secret=off;")
    assert status == 0, output
    status, output = check(host, f"{ZONE} webtorch_cluster a coordinator=x.invalid:9 secret=good;")
    assert status == 0, output
    assert "[warn]" in output
    assert 'the coordinator "x.invalid" has no address' in output


def test_webtorch_cluster_is_refused(host):
    for parameters, message in {
        "a secret=off": 'needs "coordinator=host:port"',
        NAME: 'needs "secret=file"',
        f"{NAME} secret=open": f'the secret "{host.prefix}/open" can be read by others',
        f"{NAME} secret=short": f'the secret "{host.prefix}/short" has 31 bytes, at least 32',
        f"{NAME} secret=long": "is longer than 4096 bytes",
        f"{NAME} secret=none": f'open() "{host.prefix}/none" failed',
        f"{NAME} secret=.": f'the secret "{host.prefix}/." is not a file',
        f"{NAME} secret=good secret=read secret=good": "has more than two secrets",
        f"{NAME} secret=good secret=off": 'has "secret=off" and a secret',
        f"{NAME} secret=off address=10.0.0.1": '"secret=off" with loopback addresses only',
        "a coordinator=10.0.0.1:7610 secret=off": '"secret=off" with loopback addresses only',
        f"{NAME} secret=good address=0.0.0.0": 'cannot have all addresses in "address="',
        f"{NAME} secret=good address=::": 'cannot have all addresses in "address="',
        f"a/b {NAME[2:]} secret=good": 'invalid name of a cluster "a/b"',
        f"{'a' * 64} {NAME[2:]} secret=good": "invalid name of a cluster",
        f"{NAME} secret=good port=7609": 'cannot have "port=" + 1 or + 2, those of the store and',
        f"{NAME} secret=good port=7608": 'cannot have "port=" + 1 or + 2',
        "a coordinator=10.0.0.1:7611 secret=good": 'cannot have "port=" + 1',
        "a coordinator=host secret=good": 'needs "coordinator=host:port"',
        "a coordinator=host:0 secret=good": 'invalid parameter "coordinator=host:0"',
        **{
            f"{NAME} secret=good {each}": f'invalid parameter "{each}"'
            for each in (
                "address=host",
                "id=a/b",
                "id=",
                "port=65534",
                "port=x",
                "interval=1ms",
                "timeout=-1",
                "timeout=999ms",
                "compress=zip",
                "guest=never",
                "outer=adam",
                "outer=nesterov:0.7",
                "outer=nesterov:0,0.5",
                "outer=nesterov:1,1",
                "rollout=",
                "rollout=on",
                "rollout=1",
                "rollout=hosts:",
                "rollout=hosts:0",
                "rollout=hosts:-1",
                "rollout=hosts:1001",
                "rollout=hosts:1,",
                "rollout=hosts:1,pause=",
                "rollout=hosts:1,pause=0",
                "rollout=hosts:1,pause=x",
                "rollout=hosts:1,pause=1s,",
                "rollout=pause=30s,hosts:1",
                "other=1",
            )
        },
    }.items():
        status, output = check(host, f"{ZONE}\nwebtorch_cluster {parameters};")
        assert status == 1, (parameters, output)
        (line,) = [line for line in output.splitlines() if "[emerg]" in line]
        assert message in line, (parameters, line)
        text = host.conf.read_text().split("webtorch_cluster")[0]
        number = 1 + text.count("\n")
        assert line.endswith(f"in {host.conf}:{number}"), line
    status, output = check(host, 2 * f"webtorch_cluster {NAME} secret=good;")
    assert status == 1
    assert '"webtorch_cluster" directive is duplicate' in output


def test_webtorch_cluster_needs_room(configured):
    """Models need more of the zone, as `nginx -t` says."""
    app = """
        import torch, webtorch
        from jaxtyping import Float32
        from torch import Tensor, nn, optim

        sgd = lambda p: optim.SGD(p, lr=1.0)
        model = webtorch.Model("m", nn.Linear(300, 300), sgd, {arguments})

        @webtorch.infer
        def f(x: Float32[Tensor, "batch 300"]) -> Float32[Tensor, "batch 300"]:
            return model(x)
    """
    server = configured(
        "location = /f { webtorch_handler app:f; }", app.format(arguments="cluster=False")
    )
    cluster = f"webtorch_cluster {NAME} secret=off;"
    status, output = check(server, f"webtorch_zone models:500k; {cluster}")
    assert status == 0, output
    server.write_app(app.format(arguments=""))
    status, output = check(server, f"webtorch_zone models:500k; {cluster}")
    assert status == 1
    assert "webtorch_zone" in output
    status, output = check(server, f"webtorch_zone models:2m; {cluster}")
    assert status == 0, output
    status, output = check(server, cluster)
    assert status == 1
    assert '"webtorch_cluster" requires "webtorch_zone" in' in output
