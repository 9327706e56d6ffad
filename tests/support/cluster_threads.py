"""Hosts of a cluster in one process: their memory, and groups of threads with faults."""

import dataclasses
import json
import math
import random
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._cluster import flat
from webtorch._cluster.digests import digest
from webtorch._cluster.interfaces import GroupError, Outer, Rolling, Settings, View
from webtorch._cluster.lineage import first
from webtorch._cluster.rollout import Order
from webtorch._cluster.rollout_judge import Figures
from webtorch._cluster.rounds import Round, Rounds
from webtorch._cluster.store import SNAPSHOT, State


class Crash(BaseException):
    """The process was killed."""


class Memory:
    """The memory of a host, which outlives its processes; see `webtorch._cluster.store.Store`."""

    def __init__(
        self,
        name: str,
        weights: dict[str, Tensor],
        steps: int = 0,
        happen: Callable[[str], None] = lambda _: None,
        momentum: bool = False,
        rest: bool = False,
    ) -> None:
        order = sorted(weights, key=lambda key: -weights[key].itemsize)
        self.name = "m"
        self.weights = {key: weights[key] for key in order}
        self.steps = steps
        self.happen = happen
        self.layout = json.dumps(
            {
                key: {"dtype": str(tensor.dtype), "shape": [*tensor.shape]}
                for key, tensor in self.weights.items()
            }
        ).encode()
        self._size = sum(tensor.nbytes for tensor in weights.values())
        floats = flat.count(weights, flat.floating(weights))
        extra = 4 * floats if momentum else 0
        self._has_momentum = momentum
        self._regions = [torch.zeros(self._size + extra, dtype=torch.uint8) for _ in range(3)]
        self.rest = torch.zeros(floats) if rest else None
        self.optimizer = torch.zeros(3, dtype=torch.uint8)
        self._replaced = 0
        self._applied = 0
        self.others = 0
        self.frozen = False
        self.order: Order = ""
        self.counted = Figures()
        for key, tensor in self.tensors(0).items():
            tensor.copy_(weights[key])
        anchor = first(digest(self, 0), steps)
        self._text = json.dumps(State(name, anchor, mark=steps).write())

    @property
    def state(self) -> State:
        return State.read(json.loads(self._text))

    def write(self, state: State) -> None:
        self.happen("write")
        self._text = json.dumps(state.write())
        self.happen("written")

    def tensors(self, region: int) -> dict[str, Tensor]:
        found = {}
        place = 0
        for key, tensor in self.weights.items():
            part = self._regions[region][place : place + tensor.nbytes]
            found[key] = part.view(tensor.dtype).view(tensor.shape)
            place += tensor.nbytes
        return found

    def contents(self, slot: int) -> Tensor:
        self.happen("contents")
        return self._regions[slot]

    def momentum(self, slot: int) -> Tensor | None:
        if not self._has_momentum:
            return None
        return self._regions[slot][self._size :].view(torch.float32)

    @property
    def optimizer_key(self) -> str:
        return "adam"

    def optimizer_state(self) -> Tensor:
        return self.optimizer

    def copy_optimizer_state(self) -> Tensor:
        return self.optimizer.clone()

    def repair_optimizer(self) -> None:
        self.happen("repair")
        self.optimizer.fill_(0)

    def take_optimizer_state(self, data: Tensor) -> None:
        self.optimizer.copy_(data)

    def made(self) -> int:
        return self.steps

    def set_frozen(self, frozen: bool) -> None:
        self.happen("freeze")
        self.frozen = frozen

    def take_order(self) -> Order:
        order, self.order = self.order, ""
        return order

    def figures(self) -> Figures:
        return self.counted

    def replaced(self) -> int:
        return self._replaced

    def others_made(self) -> int:
        return self.others

    def take_snapshot(self) -> int:
        self.happen("snapshot")
        flat.subtract(self.tensors(SNAPSHOT), self.weights, self.tensors(self.state.slot))
        return self.steps

    def take_weights(self, slot: int) -> int:
        self.happen("weights")
        for key, tensor in self.tensors(slot).items():
            tensor.copy_(self.weights[key])
        return self.steps

    def apply(self) -> int:
        state = self.state
        assert state.applying
        self.happen("apply")
        if self._applied == state.applying.number or self._replaced != state.replaced:
            return self.steps
        sources = [self.tensors(state.slot), self.tensors(1 - state.slot)]
        if state.applying.reference == "snapshot":
            sources.append(self.tensors(SNAPSHOT))
        for _, (weights, *followed) in flat.pieces(self.weights, *sources, keys=self.weights):
            if state.applying.reference == "none":
                weights.copy_(followed[0])
            else:
                flat.follow(weights, *followed)
        self._applied = state.applying.number
        made = self.steps
        self.happen("applied")
        return made

    def publish(self) -> None:
        if self._replaced == self.state.replaced:
            self.others = self.state.anchor.steps - self.state.mark

    # --- what training and operators do ---

    def train(self, steps: int = 1, change: float = 1.0) -> None:
        """Make steps that add to all elements."""
        for _ in range(steps):
            for tensor in self.weights.values():
                if tensor.dtype is torch.bool:
                    tensor.fill_(True)
                else:
                    flat.signed(tensor).add_(
                        int(change) if not tensor.is_floating_point() else change
                    )
            self.steps += 1

    def replace(self, value: float, steps: int) -> None:
        """Put other weights into place, which have had so many steps."""
        for tensor in self.weights.values():
            tensor.fill_(value)
        self.steps, self.others = steps, 0
        self._replaced += 1

    @property
    def all_steps(self) -> int:
        """Steps of all hosts, as a model shows them."""
        return self.steps + self.others

    @property
    def uncounted(self) -> int:
        return self.steps - self.state.mark


class Bus:
    """What the threads of a group have in common.

    Args:
        size: Number of hosts.
        choose: Returns which ranks fail at an exchange of a number, after all have sent theirs.

    """

    def __init__(self, size: int, choose: Callable[[int], Sequence[int]] = lambda _: ()) -> None:
        self.size = size
        self._choose = choose
        self._condition = threading.Condition()
        self._sent: list[dict[int, Any]] = []
        self._failing: list[Sequence[int]] = []
        self._broken: set[int] = set()
        self._moved: dict[int, bytes] = {}

    def exchange(self, number: int, rank: int, value: Any) -> list[Any]:
        """Return the values of all ranks."""
        with self._condition:
            while len(self._sent) <= number:
                self._sent.append({})
                self._failing.append(self._choose(len(self._sent) - 1))
            sent = self._sent[number]
            sent[rank] = value
            self._condition.notify_all()
            # a rank that has gone has sent what it sent before
            if not self._condition.wait_for(
                lambda: len(sent) == self.size or (self._broken - sent.keys()), timeout=30
            ):
                raise AssertionError("the ranks do not do the same")
            if rank in self._failing[number] or len(sent) < self.size:
                raise GroupError("it has failed")
            return [sent[rank] for rank in range(self.size)]

    def move(self, number: int, data: bytes | None) -> bytes:
        """Pass on the state of a number: one rank has its data, another one gets them."""
        with self._condition:
            if data is not None:
                self._moved[number] = data
                self._condition.notify_all()
                return b""
            if not self._condition.wait_for(
                lambda: number in self._moved or self._broken, timeout=30
            ):
                raise AssertionError("no host sends the state")
            if number not in self._moved:
                raise GroupError("it has failed")
            return self._moved[number]

    def leave(self, rank: int) -> None:
        """Let others not wait for a rank."""
        with self._condition:
            self._broken.add(rank)
            self._condition.notify_all()


class ThreadGroup:
    """A host's end of a bus; see `webtorch._cluster.interfaces.Group`."""

    wire = torch.float32
    """What differences are rounded to."""

    def __init__(self, bus: Bus, ids: Sequence[str], rank: int, generation: int = 1) -> None:
        self._bus = bus
        self.ids = tuple(ids)
        self.rank = rank
        self.generation = generation
        self.sent = self.received = 0
        self.waits: dict[str, float] = {}
        self.patience = math.inf
        self.key = ""
        self.exchanges = 0
        self.states: dict[int, int] = {}
        self.moved = 0
        self.most = 0
        """Bytes that were sent from one exchange to the next one, at most."""

    def fits(self, view: View) -> bool:
        return view.ids == self.ids

    def _exchange(self, value: Any) -> list[Any]:
        self.moved = 0
        self.exchanges += 1
        return self._bus.exchange(self.exchanges - 1, self.rank, value)

    def exchange(self, message: bytes) -> list[bytes]:
        return self._exchange(message)

    def mean(
        self,
        difference: Tensor,
        weight: float,
        weights: Sequence[float],
        rest: Tensor | None,
        is_exact: bool = False,
    ) -> Tensor:
        if not is_exact:
            difference = difference.to(self.wire).float()
        assert weights[self.rank] == weight
        assert bool(difference.isfinite().all())
        found = self._exchange((difference.clone(), list(weights)))
        assert all(each[1] == found[0][1] for each in found), "the weights differ"
        total = torch.zeros_like(difference)
        for (each, _), factor in zip(found, weights, strict=True):
            total.add_(each, alpha=factor)
        return total.div_(sum(weights)) if any(weights) else total

    def total(self, values: Tensor) -> Tensor:
        return torch.stack(self._exchange(values.clone())).sum(0)

    def send_state(self, to: int, data: Tensor) -> None:
        self._move(to, data.numpy().tobytes())

    def receive_state(self, source: int, into: Tensor) -> None:
        data = self._move(self.rank, None)
        assert len(data) == len(into)
        into.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))

    def _move(self, to: int, data: bytes | None) -> bytes:
        self.moved += len(data or b"")
        self.most = max(self.most, self.moved)
        self.states[to] = self.states.get(to, 0) + 1
        number = zlib.crc32(f"{to} {self.states[to]}".encode())
        return self._bus.move(number, data)

    def close(self) -> None:
        self._bus.leave(self.rank)


def settings(host: str, outer: Outer | None = None, **others: Any) -> Settings:
    """Return settings of a host, of which rounds need few."""
    return Settings(
        "test", host, ("localhost", 7610), "127.0.0.1", outer=outer or Outer(), **others
    )


class Adding(Rounds):
    """Rounds that add the differences, so that with steps of 1 the weights are the steps."""

    def _weight(self, steps: int) -> float:
        return float(steps > 0)

    def _advance(self, mean: Tensor, weights: Sequence[float], momentum: Tensor | None) -> Tensor:
        return mean.mul_(sum(weights)).round_()


class Host:
    """A host: its memory and its process."""

    def __init__(
        self,
        host: str,
        make: Callable[[], dict[str, Memory]],
        kind: type[Rounds],
        rolling: Rolling | None = None,
    ) -> None:
        self.id = host
        self.models = make()
        self.kind = kind
        self.outer = Outer()
        self.rolling = rolling
        self.start()

    def start(self) -> None:
        """Start a process, as after a kill."""
        own = settings(self.id, self.outer, rolling=self.rolling)
        self.rounds = self.kind(own, lambda: self.models)

    @property
    def memory(self) -> Memory:
        (memory,) = self.models.values()
        return memory


def run(
    hosts: Sequence[Host],
    choose: Callable[[int], Sequence[int]] = lambda _: (),
    generation: int = 1,
) -> dict[str, Round | BaseException]:
    """Do a round of a group; return what it led to at each host."""
    hosts = sorted(hosts, key=lambda host: host.id)
    bus = Bus(len(hosts), choose)
    ids = [host.id for host in hosts]
    done: dict[str, Round | BaseException] = {}

    def work(rank: int, host: Host) -> None:
        group = ThreadGroup(bus, ids, rank, generation)
        try:
            host.rounds.resume()
            done[host.id] = result = host.rounds.run(group)
            if result.settled:
                for memory in host.models.values():
                    memory.write(dataclasses.replace(memory.state, joined=True))
        except BaseException as error:
            done[host.id] = error
            if isinstance(error, Crash):
                host.start()
        finally:
            group.close()

    threads = [threading.Thread(target=work, args=(rank, host)) for rank, host in enumerate(hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def run_until_settled(hosts: Sequence[Host]) -> None:
    """Do rounds until all that was made is counted."""
    for _ in range(20):
        for result in run(hosts).values():
            if isinstance(result, BaseException):
                raise result
        keys = {memory.state.anchor.key for host in hosts for memory in host.models.values()}
        uncounted = [memory.uncounted for host in hosts for memory in host.models.values()]
        if not any(uncounted) and len(keys) == len(hosts[0].models):
            return
    raise AssertionError(f"{uncounted} steps are uncounted, anchors {keys}")


def chance(
    random_: random.Random, host: "Host", crashes: float, most: int
) -> Callable[[str], None]:
    """Return what happens beside a round: steps are made, and the process may be killed."""

    def happen(_: str) -> None:
        if random_.random() < 0.3:
            host.memory.train(random_.randint(1, most))
        if random_.random() < crashes:
            raise Crash

    return happen
