"""Policies of `webtorch_balancer`, which correct the expected costs of servers.

For each server nginx's workers measure the time of a request without waiting, the number of
requests served at once, the share of failures and the requests in flight. From these they expect a
time for each request, in C and within a microsecond. A policy learns from finished requests by how
much and when the expected times are wrong, and the workers correct them by that.

    import torch, webtorch.balancer

    class Curved(webtorch.balancer.Policy):
        def network(self):
            return torch.nn.Sequential(
                torch.nn.Linear(self.features, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
            )

and `webtorch_balancer module:Curved;` in an upstream of nginx's configuration uses it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

__all__ = [
    "FEATURES",
    "HIDDEN",
    "Correction",
    "Policy",
    "PolicyError",
    "Samples",
    "Servers",
]

FEATURES = (
    "service",  # log2 of the server's service time / median of all servers
    "wait",  # log2 of (1 + expected wait / service time)
    "load",  # requests in flight / requests that are served at once, 8 at most
    "trend",  # log2 of the recent service time / that of longer ago
    "errors",  # share of the outcomes that were failures
    "silence",  # 0 to 1: how certain it is that the server hangs
    "price",  # log2 of the cold cost: time with a cold key / with a warm one, 0 if it is warm
    "idle",  # log2 of (1 + seconds since the last outcome), 0 while requests are in flight
)
"""What is known of a server when a request is sent to it, in the order of `Samples.features`."""

HIDDEN = 8
"""Most neurons of the hidden layer of a policy's network."""

_STEPS, _BATCH = 4, 256
"""Steps of Adam in a round, and samples of each."""

_AVERAGED = 2000
"""Requests that the averages of the losses are over, about."""

_MIN_SECONDS = 1e-6
"""Shortest time of a request that is learned."""

_MAX_LOG2 = 5.0
"""Largest correction, log2 of the factor."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Finished requests of all servers, the oldest first."""

    server: Tensor
    """Number of the server, int64 `[requests]`."""

    outcome: Tensor
    """0: success, 1: an error, 2: no response, 3: a timeout; int64 `[requests]`."""

    latency: Tensor
    """Seconds from sending the request to its end, float32 `[requests]`."""

    expected: Tensor
    """Seconds expected when it was sent, without a correction, float32 `[requests]`."""

    features: Tensor
    """FEATURES when it was sent, float32 `[requests, features]`."""

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.latency)

    def select(self, which: Tensor) -> "Samples":
        """Return some of the requests.

        Args:
            which: A mask, bool `[requests]`, or indices, int64 `[n]`.

        """
        return Samples(
            self.server[which],
            self.outcome[which],
            self.latency[which],
            self.expected[which],
            self.features[which],
        )

    @staticmethod
    def join(parts: Sequence["Samples"]) -> "Samples":
        """Return the requests of all parts in one object.

        Args:
            parts: In the order of their requests; at least one.

        """
        return Samples(
            torch.cat([part.server for part in parts]),
            torch.cat([part.outcome for part in parts]),
            torch.cat([part.latency for part in parts]),
            torch.cat([part.expected for part in parts]),
            torch.cat([part.features for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Servers:
    """The current state of an upstream's servers, a row each."""

    server: Tensor
    """Numbers as in `Samples.server`, int64 `[servers]`."""

    in_flight: Tensor
    """Requests in flight, int64 `[servers]`."""

    ejected: Tensor
    """Whether the server is ejected after failures, bool `[servers]`."""

    service: Tensor
    """Seconds of a request that does not wait, float32 `[servers]`."""

    concurrency: Tensor
    """Requests that the server serves at once, float32 `[servers]`."""

    error: Tensor
    """Share of failures among the outcomes, 0 to 1, float32 `[servers]`."""

    features: Tensor
    """FEATURES for a request without a key, float32 `[servers, features]`."""

    def __len__(self) -> int:
        """Return the number of servers."""
        return len(self.service)


class Correction(NamedTuple):
    """The correction of a cost, log2: `output @ relu(weights @ x + biases) + linear @ x + bias`."""

    used: bool
    """Whether workers apply it."""
    loss: float
    """Loss of the corrected costs."""
    baseline: float
    """Loss of the costs with a constant correction."""
    bias: float
    linear: list[float]
    """`[features]`; zeros if there is a hidden layer."""
    biases: list[float]
    """`[neurons]`; empty without a hidden layer, as are the next two."""
    output: list[float]
    """`[neurons]`."""
    weights: list[list[float]]
    """`[neurons, features]`."""


class PolicyError(Exception):
    """A policy, or a function that scores servers, cannot be used."""


class Policy:
    """Learned correction of the balancer's expected times.

        class Curved(webtorch.balancer.Policy):
            memory = 8192

            def network(self):
                return nn.Sequential(nn.Linear(self.features, 8), nn.ReLU(), nn.Linear(8, 1))

    Its network takes the features of a request on a server and returns the log2 of the factor by
    which the expected time is wrong. It is trained on the newest requests in every round. Its
    correction is used while it predicts requests that it has not seen better than a constant factor
    does, so it cannot make decisions worse for long. One worker of nginx runs the policy of an
    upstream, in its Python thread.

    Subclasses may change the attributes, the network, the cost and the learning.
    """

    features = len(FEATURES)
    """Number of inputs of the network."""

    interval = 0.5
    """Seconds between rounds, 0.05 to 2; by default 0.5."""

    memory = 4096
    """Number of the newest requests that are learned from; by default 4096."""

    margin = 0.01
    """Share by which the loss may exceed a constant factor's once it was less; by default 0.01."""

    def __init__(self) -> None:
        self.net = self.network()
        self._adam = _Adam(list(self.net.parameters()))
        self.loss = math.inf
        self.baseline = math.inf
        self._kept: Samples | None = None
        self._used = False

    def network(self) -> nn.Module:
        """Return the network: `Linear(features, 1)`, or `Sequential(Linear, ReLU, Linear)`.

        A hidden layer has at most HIDDEN neurons. The weights of the default are zeros, so that it
        begins as a correction of nothing.
        """
        net = nn.Linear(self.features, 1)
        nn.init.zeros_(net.weight)
        nn.init.zeros_(net.bias)
        return net

    def cost(self, samples: Samples) -> Tensor:
        """Return the cost of each request in seconds, float32 `[requests]`; NaN is not learned.

        By default it is the latency, and NaN for failures: C raises the costs of failing servers.

        Args:
            samples: Finished requests.

        """
        return torch.where(samples.outcome == 0, samples.latency, torch.nan)

    def target(self, samples: Samples) -> Tensor:
        """Return log2 of cost / expected time, -5 to 5, float32 `[requests]`; NaN: not learned.

        Args:
            samples: Finished requests.

        """
        cost = self.cost(samples).clamp_min(_MIN_SECONDS)
        expected = samples.expected.clamp_min(_MIN_SECONDS)
        return torch.log2(cost / expected).clamp(-_MAX_LOG2, _MAX_LOG2)

    def round(self, samples: Samples) -> None:
        """Judge the network on the requests finished since the last round, then learn from them.

        Args:
            samples: Requests finished since the last round; there may be none.

        """
        if not len(samples):
            return
        target = self.target(samples)
        known = ~target.isnan()
        new, target = samples.select(known), target[known]
        if not len(new):
            return
        self._judge(new, target)
        kept = new if self._kept is None else Samples.join([self._kept, new])
        self._kept = kept.select(torch.arange(len(kept))[-self.memory :])
        self.learn(self._kept)

    def _judge(self, samples: Samples, target: Tensor) -> None:
        """Compare the network with a constant on requests that it was not trained on."""
        if self._kept is None:
            return
        constant = self.target(self._kept).mean()
        with torch.no_grad():
            predicted = self.net(samples.features).squeeze(1)
            loss = huber_loss(predicted, target).item()
            baseline = huber_loss(constant.expand_as(target), target).item()
        # a moving average over about 2000 requests
        share = min(1.0, len(samples) / _AVERAGED)
        if math.isinf(self.loss):
            self.loss, self.baseline = loss, baseline
        self.loss += share * (loss - self.loss)
        self.baseline += share * (baseline - self.baseline)

    def learn(self, samples: Samples) -> None:
        """Train the network: 4 steps of Adam with up to 256 of the samples each.

        Args:
            samples: The newest requests, up to `memory` of them.

        """
        target = self.target(samples)
        for _ in range(_STEPS):
            batch = torch.randint(len(samples), (min(_BATCH, len(samples)),))
            loss = huber_loss(self.net(samples.features[batch]).squeeze(1), target[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()

    def correction(self) -> Correction:
        """Return the correction that nginx's workers use until the next round.

        Raises:
            PolicyError: They cannot evaluate the network.

        """
        linear, hidden = self._layers()
        slack = self.margin if self._used else 0.0
        self._used = self.loss < (1.0 + slack) * self.baseline
        weights = [] if hidden is None else hidden.weight.tolist()
        biases = [] if hidden is None else _bias(hidden)
        direct = [0.0] * self.features if hidden is not None else linear.weight[0].tolist()
        output = linear.weight[0].tolist() if hidden is not None else []
        return Correction(
            self._used, self.loss, self.baseline, _bias(linear)[0], direct, biases, output, weights
        )

    def _layers(self) -> tuple[nn.Linear, nn.Linear | None]:
        """Return the last layer, and the hidden layer or None."""
        layers = list(self.net) if isinstance(self.net, nn.Sequential) else [self.net]
        match layers:
            case [nn.Linear(in_features=self.features, out_features=1) as last]:
                return last, None
            case [
                nn.Linear(in_features=self.features, out_features=width) as hidden,
                nn.ReLU(),
                nn.Linear(in_features=inner, out_features=1) as last,
            ] if width == inner and width <= HIDDEN:
                return last, hidden
        raise PolicyError(
            f"its network is to be Linear({self.features}, 1), or Sequential(Linear"
            f"({self.features}, n), ReLU(), Linear(n, 1)) with n at most {HIDDEN}, not {self.net}"
        )


class _Adam:
    """Adam (Kingma and Ba, 2015) with weight decay.

    The first step of torch.optim.Adam imports torch's compiler, which would take a processor from
    nginx for seconds when the first requests come.
    """

    RATE, DECAY, MEAN, SQUARE = 0.01, 1e-3, 0.9, 0.999

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    def step(self) -> None:
        """Make a step against the gradients, and clear them."""
        self._steps += 1
        rate = self.RATE * math.sqrt(1 - self.SQUARE**self._steps) / (1 - self.MEAN**self._steps)
        with torch.no_grad():
            for parameter, mean, square in zip(
                self._parameters, self._means, self._squares, strict=True
            ):
                if parameter.grad is None:
                    continue
                gradient = parameter.grad + self.DECAY * parameter
                mean.lerp_(gradient, 1 - self.MEAN)
                square.lerp_(gradient * gradient, 1 - self.SQUARE)
                parameter.sub_(rate * mean / (square.sqrt() + 1e-8))
                parameter.grad = None


def _bias(layer: nn.Linear) -> list[float]:
    """Return a layer's bias, zeros if it has none."""
    bias: Tensor | None = layer.bias
    if bias is None:
        return [0.0] * layer.out_features
    values: list[float] = bias.tolist()
    return values
