"""Policies of webtorch_balancer: what they learn, and what becomes of those that are broken."""

import math

import pytest
import torch
from torch import nn

from backends import LOCATION, ask, ask_until
from nginx import wait_for
from webtorch import balancer
from webtorch._worker.runners.scores import Scores
from webtorch.balancer import Policy, PolicyError, Samples, Servers

APP = """
    import torch
    from torch import nn
    from webtorch.balancer import Policy

    class Failing(Policy):
        def learn(self, samples):
            raise RuntimeError("it cannot learn")

        def round(self, samples):
            if len(samples):
                raise RuntimeError("it cannot learn")

    class Infinite(Policy):
        def round(self, samples):
            with torch.no_grad():
                self.net.bias.fill_(float("inf"))

    def second(servers):
        scores = torch.ones(len(servers))
        scores[1] = 1000.0
        return scores

    def wrong(servers):
        return torch.ones(len(servers) + 1)
"""


def samples(count: int, factor=lambda features: 1.0) -> Samples:
    features = torch.rand(count, len(balancer.FEATURES))
    expected = torch.full((count,), 0.05)
    noise = torch.exp(torch.randn(count) * 0.3)
    return Samples(
        server=torch.zeros(count, dtype=torch.int64),
        outcome=torch.zeros(count, dtype=torch.int64),
        latency=expected * factor(features) * noise,
        expected=expected,
        features=features,
    )


def test_policy_learns_a_correction():
    torch.manual_seed(0)
    policy = Policy()
    for _ in range(200):
        policy.round(samples(100, lambda features: torch.exp2(2 * features[:, 2])))
    correction = policy.correction()
    assert correction.used
    assert correction.loss < correction.baseline
    assert correction.linear[2] > 1.0
    assert max(abs(weight) for weight in correction.linear[:2]) < 0.5


def test_policy_unused_while_worse_than_a_constant():
    torch.manual_seed(0)

    class Wrong(Policy):
        wrong = True

        def learn(self, samples):
            super().learn(samples)
            if self.wrong:
                with torch.no_grad():
                    self.net.weight.fill_(2.0)

    policy = Wrong()
    for _ in range(20):
        policy.round(samples(100, lambda _: 3.0))
    assert not policy.correction().used
    policy.wrong = False
    for _ in range(400):
        policy.round(samples(100, lambda features: torch.exp2(features[:, 1])))
    assert policy.correction().used


def test_hidden_layers():
    class Curved(Policy):
        def network(self):
            return nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1, bias=False))

    policy = Curved()
    correction = policy.correction()
    x = torch.rand(8)
    hidden = torch.relu(torch.tensor(correction.weights) @ x + torch.tensor(correction.biases))
    value = torch.tensor(correction.output) @ hidden + correction.bias
    assert math.isclose(value.item(), policy.net(x).item(), rel_tol=1e-4, abs_tol=1e-6)


def test_failures_are_left_out_by_default():
    policy = Policy()
    some = samples(10)
    some.outcome[:] = 1
    policy.round(some)
    assert math.isinf(policy.loss)
    assert policy.target(some).isnan().all()


def test_policy_memory_is_bounded():
    class Short(Policy):
        memory = 50

        def learn(self, samples):
            assert len(samples) <= 50

    policy = Short()
    for _ in range(5):
        policy.round(samples(40))


def test_scores():
    servers = Servers(*[torch.zeros(2)] * 7)
    scales = Scores(lambda _: torch.tensor([1.0, 3.0])).scales(servers)
    assert scales.tolist() == pytest.approx([2.0, 2 / 3])
    with pytest.raises(PolicyError, match="a tensor of 2 scores"):
        Scores(lambda _: torch.ones(3)).scales(servers)
    with pytest.raises(PolicyError, match="a tensor of 2 scores"):
        Scores(lambda _: [1.0, 3.0]).scales(servers)
    for bad in (-1.0, 0.0, math.nan, math.inf):
        with pytest.raises(PolicyError, match="finite and greater than 0"):
            Scores(lambda _, bad=bad: torch.tensor([bad, bad])).scales(servers)


def test_function_not_called_without_servers():
    none = Servers(*[torch.zeros(0)] * 7)
    assert len(Scores(lambda servers: servers.in_flight.max()).scales(none)) == 0


def test_broken_policy_falls_back(start, backends):
    server = start(
        LOCATION,
        APP,
        http=backends.upstream("zone u 256k; webtorch_balancer app:Failing;"),
    )
    answers = ask_until(server, lambda answer: answer.reason == "peak")
    assert {answer.status for answer in answers} == {200}
    assert "it cannot learn" in server.log()


def test_not_finite_correction_unused(start, backends):
    server = start(
        LOCATION, APP, http=backends.upstream("zone u 256k; webtorch_balancer app:Infinite;")
    )
    wait_for(lambda: "not finite" in server.log(), "the policy to be refused")
    assert {answer.reason for answer in ask(server, 50)} == {"peak"}


def test_function_weighs_servers(start, backends):
    server = start(
        LOCATION, APP, http=backends.upstream("zone u 256k; webtorch_balancer app:second;")
    )

    def is_weighed():
        backends.forget()
        ask(server, 60)
        return sorted(backend.total for backend in backends)[-1] > 55

    wait_for(is_weighed, "one server to be preferred")

    # and no more when it is not in the configuration
    server.configure(http=backends.upstream("zone u 256k; webtorch_balancer;"))
    server.reload()

    def is_not_weighed():
        backends.forget()
        ask(server, 60)
        return max(backend.total for backend in backends) < 50

    wait_for(is_not_weighed, "all servers to be used")


def test_wrong_function_falls_back(start, backends):
    server = start(
        LOCATION, APP, http=backends.upstream("zone u 256k; webtorch_balancer app:wrong;")
    )
    ask(server, 1)
    wait_for(lambda: "scores is expected" in server.log(), "the function to be refused")
    ask_until(server, lambda answer: answer.reason == "peak")
