"""What `webtorch_balancer` learns: policies, which correct what servers cost a request.

nginx's workers know of each server how long a request takes that need not wait, how many it
serves at once, how often it fails and what is in flight; from these they expect a time for each
request, in C and within a microsecond. A policy learns from finished requests by how much such
expectations are wrong, and when; the workers correct them by that.

    import torch, webtorch.balancer

    class Curved(webtorch.balancer.Policy):
        def network(self):
            return torch.nn.Sequential(
                torch.nn.Linear(self.features, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
            )

and `webtorch_balancer module:Curved;` in an upstream of nginx's configuration uses it.
"""

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from webtorch._handlers import Handler

FEATURES = (
    "service",  # log2 of the request's service time there, to the median of all servers'
    "wait",  # log2 of (1 + expected wait / service time)
    "load",  # requests in flight / requests that are served at once, 8 at most
    "trend",  # log2 of the service time of late, to that of longer ago
    "errors",  # share of the outcomes that were failures
    "silence",  # 0 to 1: how sure it is that the server hangs
    "price",  # log2 of how many times longer a contact takes as its key is not warm
    "idle",  # log2 of (1 + seconds since the last outcome), 0 while requests are in flight
)
"""What is known of a server when a request is sent to it, in the order of `Samples.features`."""

HIDDEN = 8
"""Neurons that the hidden layer of a policy's network may have."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Finished requests, the oldest first."""

    server: Tensor
    """The server's number, int64 `[requests]`."""

    outcome: Tensor
    """0: an answer, 1: one that tells of an error, 2: none, 3: none in time; int64 `[requests]`."""

    latency: Tensor
    """Seconds from the request's being sent to its end, float32 `[requests]`."""

    expected: Tensor
    """Seconds that were expected then, without a correction, float32 `[requests]`."""

    features: Tensor
    """FEATURES as they were then, float32 `[requests, features]`."""

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.latency)

    def select(self, which: Tensor) -> "Samples":
        """Return those of a mask or an index."""
        return Samples(
            self.server[which],
            self.outcome[which],
            self.latency[which],
            self.expected[which],
            self.features[which],
        )

    @staticmethod
    def join(parts: Sequence["Samples"]) -> "Samples":
        """Return all requests of several."""
        return Samples(
            torch.cat([part.server for part in parts]),
            torch.cat([part.outcome for part in parts]),
            torch.cat([part.latency for part in parts]),
            torch.cat([part.expected for part in parts]),
            torch.cat([part.features for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of an upstream as they are now, one for each row."""

    server: Tensor
    """Their numbers, as in Samples, int64 `[servers]`."""

    inflight: Tensor
    """Requests in flight, int64 `[servers]`."""

    ejected: Tensor
    """Whether it is left alone as it has failed, bool `[servers]`."""

    service: Tensor
    """Seconds that a request takes which need not wait, float32 `[servers]`."""

    concurrency: Tensor
    """Requests that it serves at once, float32 `[servers]`."""

    error: Tensor
    """Share of its outcomes that were failures, float32 `[servers]`."""

    features: Tensor
    """FEATURES for a request without a key, float32 `[servers, features]`."""

    def __len__(self) -> int:
        """Return the number of servers."""
        return len(self.service)


class Correction(NamedTuple):
    """What C evaluates: `output @ relu(weights @ x + biases) + linear @ x + bias`, log2."""

    used: bool
    loss: float
    baseline: float
    bias: float
    linear: list[float]
    biases: list[float]
    output: list[float]
    weights: list[list[float]]


class PolicyError(Exception):
    """A policy that cannot be used."""


class Policy:
    """Learns by how much the expected times of requests are wrong, and when.

    Its network takes the features of a request on a server and gives the log2 of the factor that
    the expected time is off by. It is trained on the newest requests in every round; what it has
    learned is used from when it foretells those that it has not seen better than a constant
    factor does, until it does not any more: so it never makes things worse for long. One worker
    of nginx has the policy of an upstream, in its Python thread.

    Subclasses may change the network, the cost, and how it learns.
    """

    features = len(FEATURES)
    """Inputs of the network."""

    interval = 0.5
    """Seconds between rounds, 0.05 to 2."""

    memory = 4096
    """The newest requests that are learned from."""

    margin = 0.01
    """The share by which the loss may exceed that of a constant factor once it has been less."""

    def __init__(self) -> None:
        self.net = self.network()
        self._adam = _Adam(list(self.net.parameters()))
        self.loss = math.inf
        self.baseline = math.inf
        self._kept: Samples | None = None
        self._used = False

    def network(self) -> nn.Module:
        """Make the network: `Linear(features, 1)`, or `Sequential(Linear, ReLU, Linear)`.

        It begins as a correction of nothing, which its last layer's being 0 does.
        """
        net = nn.Linear(self.features, 1)
        nn.init.zeros_(net.weight)
        nn.init.zeros_(net.bias)
        return net

    def cost(self, samples: Samples) -> Tensor:
        """Return what each request has cost, in seconds; NaN where that is not to be learned.

        That failures are bad is known without the network, which the default leaves them out of.
        """
        return torch.where(samples.outcome == 0, samples.latency, torch.nan)

    def target(self, samples: Samples) -> Tensor:
        """Return the log2 of the factors that the expectations were off by, 5 at most."""
        cost = self.cost(samples).clamp_min(1e-6)
        return torch.log2(cost / samples.expected.clamp_min(1e-6)).clamp(-5.0, 5.0)

    def round(self, samples: Samples) -> None:
        """Take the requests that have finished since the last round: judge, then learn."""
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
            foretold = self.net(samples.features).squeeze(1)
            loss = huber_loss(foretold, target).item()
            baseline = huber_loss(constant.expand_as(target), target).item()
        # of the last 2000 requests or so
        share = min(1.0, len(samples) / 2000)
        if math.isinf(self.loss):
            self.loss, self.baseline = loss, baseline
        self.loss += share * (loss - self.loss)
        self.baseline += share * (baseline - self.baseline)

    def learn(self, samples: Samples) -> None:
        """Train the network on the newest requests."""
        target = self.target(samples)
        for _ in range(4):
            batch = torch.randint(len(samples), (min(256, len(samples)),))
            loss = huber_loss(self.net(samples.features[batch]).squeeze(1), target[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            self._adam.step()

    def correction(self) -> Correction:
        """Return what nginx's workers shall use until the next round.

        Raises:
            PolicyError: if the network is none that they can evaluate.

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
        """Return the last layer and the hidden one, if there is one."""
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
    """Adam (Kingma, Ba) with a little decay of the weights.

    That of torch.optim imports torch's compiler with its first step, which would take a processor
    from nginx for seconds just when its first requests come.
    """

    RATE, DECAY, MEAN, SQUARE = 0.01, 1e-3, 0.9, 0.999

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._steps = 0

    def step(self) -> None:
        """Take a step against the gradients, and forget them."""
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


class Scores:
    """A function of a user's that weighs servers: twice the score, half the cost."""

    interval = 1.0

    def __init__(self, function: Callable[[Servers], Tensor]) -> None:
        self._function = function

    def scales(self, servers: Servers) -> Tensor:
        """Return what the servers' costs are multiplied with, float32 `[servers]`.

        Raises:
            PolicyError: if the function returned something else than a finite number greater
                than 0 for each server.

        """
        if not len(servers):
            return torch.empty(0)
        scores = self._function(servers)
        if not isinstance(scores, Tensor) or scores.shape != (len(servers),):
            raise PolicyError(f"a tensor of {len(servers)} scores is expected, not {scores}")
        scores = scores.detach().to("cpu", torch.float32)
        if not (scores.isfinite() & (scores > 0)).all():
            raise PolicyError(f"scores are to be finite and greater than 0, not {scores}")
        return (scores.mean() / scores).contiguous()

    def correction(self) -> Correction:
        """Return a correction of nothing."""
        return Correction(False, math.nan, math.nan, 0.0, [0.0] * len(FEATURES), [], [], [])


def find(name: str) -> "Policy | Scores":
    """Import a policy by `module:name`: a subclass of Policy, or a function of Servers.

    Raises:
        PolicyError: if there is none of that name, or nginx cannot use it.
        Exception: whatever importing it raised.

    """
    module_name, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module_name), attribute, None)
    if found is None:
        raise PolicyError(f'module "{module_name}" has no "{attribute}"')
    if isinstance(found, type) and issubclass(found, Policy):
        policy = found()
        policy.correction()
        if not 0.05 <= policy.interval <= 2.0:
            raise PolicyError(f"its interval is to be 0.05 to 2 seconds, not {policy.interval}")
        return policy
    if callable(found) and not isinstance(found, type | Handler):
        return Scores(found)
    raise PolicyError(f'"{attribute}" is neither a webtorch.balancer.Policy nor a function')
