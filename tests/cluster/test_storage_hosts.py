"""Hosts of real servers, whose checkpoints are in object storage."""

import pytest
from safetensors.torch import load

import storage as stores
from cluster_nginx import Hosts
from nginx import Nginx, wait_for


@pytest.fixture
def storage():
    with stores.storage() as found:
        yield found


class StorageHosts(Hosts):
    """Hosts with a bucket, one for all of them."""

    def __init__(self, count, storage, directive):
        self._directive = f"webtorch_checkpoint {storage.url} endpoint={storage.endpoint} "
        self._directive += f"{directive};"
        super().__init__(count)

    def make(self, index, server, app, workers):
        return Nginx(server, app, workers=workers, main=stores.MAIN)

    def http(self, index):
        return f"{super().http(index)} {self._directive}"


def steps_of(storage, folder):
    names = [name for name in storage.names(folder) if name.count("/") == 0]
    return names and load_steps(storage, folder + names[-1])


def load_steps(storage, name):
    return int(load(storage.read(name))["calls"])


def test_storage_of_hosts(storage):
    with StorageHosts(2, storage, "interval=1s keep=2") as hosts:
        hosts.train(0, 4)
        hosts.train(1, 3)
        hosts.wait_until_counted(7)
        wait_for(lambda: steps_of(storage, "count/") == 7, "a file")

        # nobody waits for a store that is away, and it is told once
        storage.go_away()
        for index in (0, 1, 0, 1):
            hosts.train(index, 2)
        hosts.wait_until_counted(15)
        for server in hosts.servers:
            server.wait_for_log('model "count" could not be written to storage')
        hosts.train(0, 1)
        hosts.wait_until_counted(16)
        storage.return_back()
        wait_for(lambda: steps_of(storage, "count/") == 16, "a file")
        for server in hosts.servers:
            server.wait_for_log('model "count" is written to storage again')
            assert server.log().count("could not be written to storage") == 1
        assert len(storage.names("count/")) <= 2

        # hosts with empty disks begin with the youngest
        for index in (0, 1):
            hosts.kill(index)
        for server in hosts.servers:
            server.start()
        hosts.wait_until_counted(16)
        hosts.train(1, 2)
        hosts.wait_until_counted(18)
        wait_for(lambda: steps_of(storage, "count/") == 18, "a file of another epoch")
        assert storage.names("count/")[-1].startswith("000001-")

        # a host whose store is away begins with what others have
        hosts.kill(0)
        storage.go_away()
        hosts.servers[0].start()
        hosts.train(0, 1)
        hosts.wait_until_counted(19)
        hosts.servers[0].wait_for_log("is away, models begin without it")
        storage.return_back()
        wait_for(lambda: steps_of(storage, "count/") == 19, "a file")


def test_storage_of_a_host_that_stops(start, storage):
    """Without a cluster; the last file is written at the exit."""
    app = """
        import torch, webtorch
        from jaxtyping import Float32
        from torch import Tensor, nn, optim

        model = webtorch.Model("m", nn.Linear(1, 1), lambda p: optim.Adam(p))

        @webtorch.train
        def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
            y = model(x)
            model.step(y.sum())
            return y

        @webtorch.handler
        def about(request):
            return {"steps": model.steps, "weight": model.module.weight.item()}
    """
    server = start(
        "location = /train { webtorch_handler app:train; }"
        "location = /about { webtorch_handler app:about; }"
        "location = /status { webtorch_status; }",
        app,
        main=stores.MAIN,
        http=f"webtorch_zone models:1m; webtorch_checkpoint {storage.url} interval=1h "
        f"endpoint={storage.endpoint};",
        workers=2,
    )
    for _ in range(5):
        assert server.post("/train", [[1.0]]).ok
    about = server.get("/about").json()
    assert server.quit() == 0
    server.start()
    assert server.get("/about").json() == about
    for _ in range(2):
        assert server.post("/train", [[1.0]]).ok
    text = server.get("/status?format=prometheus").text
    assert 'webtorch_storage_checkpoints_total{result="failed"} 0' in text
    assert server.quit() == 0
    # the steps go on, so the last file is of the life before and of this one
    assert [name[:6] for name in storage.names("m/")] == ["000000", "000001"]


CHECKPOINT = "webtorch_zone models:1m; webtorch_checkpoint"


def test_webtorch_checkpoint_of_storage(configured):
    server = configured()
    for text in (
        "s3://bucket;",
        "s3://bucket/ interval=1s;",
        "s3://bucket/a/b/ keep=2 interval=1m endpoint=https://s3.example.com;",
        "models; webtorch_checkpoint s3://bucket/a endpoint=http://[::1]:9000/x;",
    ):
        server.configure(http=f"{CHECKPOINT} {text}")
        status, output = server.check()
        assert status == 0, output
    for text, message in {
        "s3://;": 'no bucket in "s3:/',
        "s3:///a;": 'no bucket in "s3:///a"',
        "s3://b endpoint=ftp://x;": 'invalid parameter "endpoint=ftp://x"',
        "s3://b endpoint=https://;": 'invalid parameter "endpoint=https://"',
        "s3://b endpoint=https://me:key@x;": 'invalid parameter "endpoint=https://me:key@x"',
        "s3://b interval=999ms;": 'invalid parameter "interval=999ms"',
        "s3://b keep=0;": 'invalid parameter "keep=0"',
        "s3://b size=1;": 'invalid parameter "size=1"',
        "models endpoint=https://x;": 'invalid parameter "endpoint=https://x"',
        "s3://b; webtorch_checkpoint s3://c;": '"webtorch_checkpoint" directive is duplicate',
        "a; webtorch_checkpoint b;": '"webtorch_checkpoint" directive is duplicate',
    }.items():
        server.configure(http=f"{CHECKPOINT} {text}")
        status, output = server.check()
        assert status == 1 and message in output, (text, output)


def test_webtorch_checkpoint_of_storage_needs_a_zone(configured):
    server = configured(
        "location / { webtorch_handler app:f; }",
        """
        import webtorch

        @webtorch.handler
        def f(request):
            return {}
        """,
        http="webtorch_checkpoint s3://bucket;",
    )
    status, output = server.check()
    assert status == 1
    assert '"webtorch_checkpoint" requires "webtorch_zone" in' in output
