"""Weights that are put into place at one real server come to the others in turn."""

import re

import torch
from safetensors.torch import save_file

from cluster_nginx import Hosts
from nginx import wait_for

APP = """
    import torch, webtorch
    from jaxtyping import Float32
    from torch import Tensor, nn, optim

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x * self.weight

    model = webtorch.Model("scale", Scale(), lambda p: optim.SGD(p, lr=1e-3))

    @webtorch.infer
    def answer(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        y = model(x)
        if (y < 0).any():
            raise ValueError("it is negative")
        return y

    @webtorch.train
    def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        y = model(x)
        model.step((y - x).square().mean())
        return y

    @webtorch.handler
    def about(request):
        return {"weight": round(float(model.module.weight[0])), "members": model.cluster.members}
"""

SERVER = """
    location = /answer { webtorch_handler app:answer max_batch=1; }
    location = /train { webtorch_handler app:train max_batch=1; }
    location = /about { webtorch_handler app:about; }
    location = /status { webtorch_status; }
    location /control { webtorch_control; }
"""


class RollingHosts(Hosts):
    """Hosts of a function that raises an exception if its model is broken."""

    def __init__(self, count: int, pause: str) -> None:
        super().__init__(count, f"interval=100ms timeout=3s rollout=hosts:1,pause={pause}")

    def make(self, index, server, app, workers):
        made = super().make(index, SERVER, APP, workers)
        made.expected_in_log += ["it is negative", "rollout of the weights"]
        return made

    def http(self, index):
        return f"{super().http(index)} webtorch_checkpoint models;"

    def wait_for_members(self):
        ids = [f"web-{index}" for index in range(len(self.servers))]
        for index in range(len(ids)):
            wait_for(lambda index=index: self.about(index)["members"] == ids, "all hosts")

    def put(self, index, value):
        """Put a file with weights into place, as an operator does."""
        folder = self.servers[index].prefix / "models/scale"
        if not folder.exists():
            folder.mkdir()
            # workers have another user
            folder.chmod(0o777)
        draft = folder / "new.tmp"
        save_file({"weight": torch.full((1,), value)}, draft)
        draft.chmod(0o644)
        draft.rename(folder / f"new{value}.safetensors")

    def ask(self, times=1):
        """Ask all hosts, each as often; return their statuses."""
        found = [[] for _ in self.servers]
        for _ in range(times):
            for index, server in enumerate(self.servers):
                found[index].append(server.post("/answer", [[1.0]]).status_code)
        return found

    def weights(self):
        return [self.about(index)["weight"] for index in range(len(self.servers))]

    def rollout(self, index):
        """Return what a host says of a rollout, and of the orders that it may get."""
        (found,) = self.servers[index].get("/control/models/scale").json()
        return found.get("rollout", {})

    def order(self, index, order):
        return self.servers[index].post(f"/control/models/scale/rollout/{order}", {})

    def metrics(self, index):
        return self.servers[index].get("/status?format=prometheus").text


def test_rollout_of_hosts():
    with RollingHosts(3, "500ms") as hosts:
        hosts.wait_for_members()
        assert hosts.order(0, "promote").status_code == 409
        hosts.ask(25)
        hosts.put(0, 5.0)
        seen = []

        def is_done():
            hosts.ask()
            found = hosts.weights()
            if found not in seen:
                seen.append(found)
            return found == [5, 5, 5] and hosts.rollout(2).get("state") == "done"

        wait_for(is_done, lambda: f"all hosts: {seen}")
        assert seen == [[1, 1, 1], [5, 1, 1], [5, 5, 1], [5, 5, 5]][-len(seen) :]
        assert len(seen) >= 3
        assert hosts.rollout(1) == {
            **hosts.rollout(0),
            "state": "done",
            "from": "web-0",
            "here": True,
            "reason": "",
        }
        assert 'webtorch_cluster_rollout{model="scale"} 0\n' in hosts.metrics(0)
        assert 'webtorch_cluster_epoch{model="scale"} 1\n' in hosts.metrics(2)


def test_rollout_of_broken_weights_stops_and_is_rolled_back():
    with RollingHosts(3, "1m") as hosts:
        hosts.wait_for_members()
        hosts.ask(25)
        for index in range(3):
            assert hosts.servers[index].post("/train", [[1.0]]).ok
        hosts.put(1, -5.0)
        wait_for(lambda: hosts.rollout(2).get("state") == "going", "the rollout")
        found = hosts.ask(25)
        assert set(found[0]) == set(found[2]) == {200} and found[1][-1] == 500
        wait_for(lambda: hosts.rollout(2)["state"] == "stopped", "its end")
        assert hosts.weights() == [1, -5, 1]
        about = hosts.rollout(0)
        assert (about["from"], about["host"], about["here"]) == ("web-1", "web-1", False)
        reason = r"errors: \d+ of \d+ requests failed, 0 of \d+ before"
        assert re.fullmatch(reason, about["reason"])
        for index in range(3):
            hosts.servers[index].wait_for_log("has stopped, as they are worse at host")
            label = 'webtorch_cluster_rollout_stopped{model="scale",host="web-1",reason="errors"} 1'
            wait_for(lambda index=index, label=label: label in hosts.metrics(index), label)
        # the hosts of the epoch before train on
        assert hosts.servers[0].post("/train", [[1.0]]).ok
        assert hosts.order(0, "rollback").status_code == 200
        wait_for(lambda: hosts.weights() == [1, 1, 1], "the weights before")
        wait_for(lambda: hosts.rollout(1)["state"] == "withdrawn", "all to know")
        assert {*sum(hosts.ask(5), [])} == {200}
        wait_for(lambda: "rollout_stopped{" not in hosts.metrics(1), "no metric of it")
        # the next weights are taken for themselves
        hosts.put(1, 6.0)
        wait_for(lambda: hosts.rollout(0).get("state") == "going", "the next rollout")
        assert hosts.order(2, "promote").status_code == 200
        wait_for(lambda: hosts.weights() == [6, 6, 6], "all hosts")


def test_rollout_goes_on_when_its_first_host_is_killed():
    with RollingHosts(3, "500ms") as hosts:
        hosts.wait_for_members()
        hosts.ask(25)
        hosts.put(0, 5.0)

        def is_at_two():
            hosts.ask()
            return hosts.weights().count(5) == 2

        # web-0 is the coordinator, too
        wait_for(is_at_two, "a second host")
        hosts.kill(0)
        hosts.servers[0].start()

        def is_everywhere():
            hosts.ask()
            return hosts.weights() == [5, 5, 5] and hosts.rollout(1)["state"] == "done"

        wait_for(is_everywhere, "all hosts")
