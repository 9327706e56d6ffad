"""Accuracy of digits that three hosts learn, beside one host that gets all samples.

Usage: .venv/bin/python bench/cluster_digits.py [--only NAME] [--repeat 5] [--json PATH]

Each of `--repeat` seeds splits scikit-learn's digits anew; a value is the median. The hosts are
threads with the rounds, the compression and the connections (gloo, sealed) of a worker. It needs
`.venv/bin/pip install scikit-learn`.
"""

import copy
import itertools
import secrets
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples/digits"))

from digits import digits

from cluster_threads import Memory
from table import Measure, Row, Settings, main
from webtorch._cluster.group import connect
from webtorch._cluster.interfaces import Compression, Member, Outer, View
from webtorch._cluster.interfaces import Settings as ClusterSettings
from webtorch._cluster.rounds import Rounds
from webtorch._cluster.seal import Ring

HOSTS = 3
BATCH = 4
"""Samples of a step."""

SECRET = bytes(range(32))
AVERAGE = Outer()
NESTEROV = Outer("nesterov", 0.7, 0.5)

PORTS = itertools.count(7700, 20)


class Data:
    """Samples to learn from and others to be judged by, shuffled by a seed.

    Args:
        seed: Of the split.

    """

    def __init__(self, seed: int) -> None:
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(labels))
        x = torch.tensor(images[order], dtype=torch.float32).view(-1, 8, 8) / 16
        y = torch.tensor(labels[order])
        self._x, self._y = x[:1437], y[:1437]
        self._judged = x[1437:], y[1437:]
        self._choose = torch.Generator().manual_seed(seed)

    def shards(self, by_label: bool) -> list[Tensor]:
        """Return the indices of each host's samples; those of all hosts are the same if shuffled.

        Args:
            by_label: Whether a host has a third of the labels.

        """
        if by_label:
            return [*self._y.argsort(stable=True).tensor_split(HOSTS)]
        return [torch.arange(len(self._y))] * HOSTS

    def batch(self, shard: Tensor) -> tuple[Tensor, Tensor]:
        """Draw samples of a shard for a step."""
        chosen = shard[torch.randint(len(shard), (BATCH,), generator=self._choose)]
        return self._x[chosen], self._y[chosen]

    def accuracy(self, model: torch.nn.Module) -> float:
        """Return the share of the judged samples that a model reads."""
        x, y = self._judged
        with torch.no_grad():
            return (model(x).argmax(1) == y).float().mean().item()


class Learner:
    """A model that is trained, with an optimizer of its own.

    Args:
        seed: Of its first weights.

    """

    def __init__(self, seed: int) -> None:
        self.model = copy.deepcopy(digits.module)
        torch.manual_seed(seed)
        for layer in self.model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
        self._optimizer = optim.Adam(self.model.parameters(), lr=0.002)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Make a step."""
        self._optimizer.zero_grad()
        cross_entropy(self.model(x), y).backward()
        self._optimizer.step()


class Host:
    """A host: its model, whose weights are the cluster's, and its rounds."""

    def __init__(
        self, index: int, view: View, seed: int, compress: Compression, outer: Outer
    ) -> None:
        self.learner = Learner(seed)
        self._settings = ClusterSettings(
            "digits",
            view.members[index].id,
            ("localhost", view.members[0].port),
            view.members[index].address,
            port=view.members[index].port,
            secrets=(SECRET,),
            timeout=30,
            compress=compress,
            outer=outer,
        )
        weights = {name: each.data for name, each in self.learner.model.named_parameters()}
        with_momentum = outer.name == "nesterov"
        self.memory = Memory(
            secrets.token_hex(4), weights, momentum=with_momentum, rest=compress == "int8"
        )
        self._rounds = Rounds(self._settings, lambda: {"digits": self.memory})
        self._view = view

    def join(self) -> None:
        """Connect with the other hosts, which do the same."""
        self._group = connect(self._settings, self._view, Ring("digits", (SECRET,)))

    def round(self) -> None:
        """Do a round; the other hosts do it, too."""
        self._rounds.run(self._group)

    def leave(self) -> None:
        """Close the connections."""
        self._group.close()


def alone(data: Data, seed: int, samples: int) -> float:
    """Return the accuracy of one host after so many samples."""
    learner = Learner(seed)
    (everything, *_) = data.shards(False)
    for _ in range(samples // BATCH):
        learner.learn(*data.batch(everything))
    return data.accuracy(learner.model)


def together(
    seed: int,
    samples: int,
    steps: int,
    compress: Compression = "none",
    outer: Outer = AVERAGE,
    *,
    by_label: bool = False,
) -> float:
    """Return the accuracy of the hosts' model after so many samples of all of them.

    Args:
        seed: Of the split and the first weights.
        samples: Of all hosts.
        steps: Of each host from one round to the next.
        compress: Format of differences on the wire.
        outer: How their mean is applied.
        by_label: Whether each host has other labels.

    """
    data = Data(seed)
    port = next(PORTS)
    members = [Member(f"web-{index}", f"127.0.0.{index + 1}", port) for index in range(HOSTS)]
    view = View(1, tuple(members))
    hosts = [Host(index, view, seed, compress, outer) for index in range(HOSTS)]
    with ThreadPoolExecutor(HOSTS) as threads:

        def do(what: Callable[[Host], None]) -> None:
            list(threads.map(what, hosts))

        do(Host.join)
        do(Host.round)
        for _ in range(samples // (HOSTS * BATCH * steps)):
            for host, shard in zip(hosts, data.shards(by_label), strict=True):
                for _ in range(steps):
                    host.learner.learn(*data.batch(shard))
                host.memory.steps += steps
            do(Host.round)
        do(Host.leave)
    return data.accuracy(hosts[0].learner.model)


def below(samples: int, target: float) -> Measure:
    """Make the row of how much worse three hosts read than one that gets as many samples."""

    def measure(settings: Settings) -> Row:
        one = [alone(Data(seed), seed, samples) for seed in range(settings.repeat)]
        three = [together(seed, samples, 20) for seed in range(settings.repeat)]
        value = median(a - b for a, b in zip(one, three, strict=True))
        name = f"{samples:,} samples, rounds of 20 steps: accuracy below one host's"
        details = {"one": one, "three": three}
        return Row(name, f"≤ {target}", value, value <= target, "", details)

    return measure


def compressed(settings: Settings) -> Row:
    """The difference that int8 makes."""
    none = [together(seed, 14_400, 20) for seed in range(settings.repeat)]
    int8 = [together(seed, 14_400, 20, "int8") for seed in range(settings.repeat)]
    value = median(abs(a - b) for a, b in zip(none, int8, strict=True))
    details = {"none": none, "int8": int8}
    return Row("int8 to none", "≤ 0.005", value, value <= 0.005, "", details)


def sorted_shards(steps: int, outer: Outer, target: float | None) -> Measure:
    """Make the row of hosts that have a third of the labels each."""

    def measure(settings: Settings) -> Row:
        seeds: Sequence[int] = range(settings.repeat)
        found = [together(seed, 14_400, steps, outer=outer, by_label=True) for seed in seeds]
        value = median(found)
        name = f"shards by label, rounds of {steps} steps, {outer.name}: accuracy"
        wanted = "none" if target is None else f"≥ {target}"
        return Row(name, wanted, value, target is None or value >= target, "", {"all": found})

    return measure


ROWS: dict[str, Measure] = {
    "many": below(14_400, 0.01),
    "few": below(4_800, 0.02),
    "int8": compressed,
    **{
        f"sorted-{steps}-{outer.name}": sorted_shards(
            steps, outer, 0.93 if (steps, outer) == (5, AVERAGE) else None
        )
        for outer in (AVERAGE, NESTEROV)
        for steps in (5, 20, 50)
    },
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    main(__doc__, "cluster-digits", ROWS, repeat=5)
