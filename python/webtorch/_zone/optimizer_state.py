"""The state of an optimizer, as tensors that can lie elsewhere.

An optimizer makes the state of a parameter with its first step that has a gradient for it, and
nobody but it knows the state's first values. So a copy of the optimizer steps to show what tensors
there will be, and the first step of all workers is made by the optimizer itself; what it made is
copied then.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Value = Tensor | int | float

MADE = "optimizer.made"
"""The name of what tells of each parameter whether its state is there, uint8."""


@dataclass
class ParameterState:
    """What an optimizer keeps of a parameter."""

    parameter: Tensor
    shared: dict[str, str] = field(default_factory=dict)
    """Names of the tensors that are shared, by the optimizer's keys."""
    counters: dict[str, Value] = field(default_factory=dict)
    """What counts steps, by the optimizer's keys."""


class OptimizerState:
    """The tensors in an optimizer's state by name, `optimizer.<parameter>.<key>`.

    What counts steps, as Adam's `step`, is not among them if several workers may write at a time:
    increments that meet would be lost. It is set from outside before each step.

    Args:
        optimizer: which has not made a step yet.
        names: of its parameters, by their id; the state of others is left alone.
        exclusive: one worker writes at a time.

    Raises:
        ValueError: if the optimizer cannot make a step of zero gradients.

    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str], exclusive: bool) -> None:
        self._optimizer = optimizer
        self.prototypes: dict[str, Tensor] = {}
        """Without memory: their dtypes and shapes."""
        self._states: list[ParameterState] = []
        self._unbound: list[int] = []
        self._views: Mapping[str, Tensor] = {}
        self._count = -1
        self.needs_nothing = False
        """Whether it can step as it is: all of its state is bound, and none of it counts."""

        for parameter, first, second in _probe(optimizer):
            if id(parameter) not in names or not second:
                continue
            state = ParameterState(parameter)
            for key, value in second.items():
                if _counts(first.get(key), value) and not (exclusive and isinstance(value, Tensor)):
                    state.counters[key] = value
                elif isinstance(value, Tensor):
                    name = f"optimizer.{names[id(parameter)]}.{key}"
                    self.prototypes[name] = torch.empty_like(value, device="meta")
                    state.shared[key] = name
            self._states.append(state)
        if self._states:
            shape = len(self._states)
            self.prototypes[MADE] = torch.empty(shape, dtype=torch.uint8, device="meta")

    def lie_in(self, views: Mapping[str, Tensor]) -> None:
        """Use what is in other memory from now on."""
        self._views = views
        self._unbound = list(range(len(self._states)))
        self._count = -1
        for state in self._states:
            self._optimizer.state.pop(state.parameter, None)
        self._bind_made()

    def step(self, step: Callable[[], None], steps: int, lock: Callable[[], "Lock"]) -> None:
        """Let the optimizer step.

        Args:
            step: which calls it.
            steps: that were made before, by all workers.
            lock: keeps others out, while the optimizer makes state.

        """
        if not self._unbound:
            self._set_count(steps)
            step()
            return
        with lock():
            self._bind_made()
            self._set_count(steps)
            step()
            self._publish()

    def _bind_made(self) -> None:
        """Let the optimizer use the views of those parameters whose state is there."""
        left = []
        for index in self._unbound:
            if not self._views[MADE][index]:
                left.append(index)
                continue
            state = self._states[index]
            kept = self._optimizer.state[state.parameter]
            kept.update({key: self._views[name] for key, name in state.shared.items()})
            for key, prototype in state.counters.items():
                kept.setdefault(key, copy.deepcopy(prototype))
        if len(left) < len(self._unbound):
            self._count = -1
        self._unbound = left
        self.needs_nothing = not left and not any(state.counters for state in self._states)

    def _publish(self) -> None:
        """Share what the optimizer has made."""
        for index in self._unbound:
            state = self._states[index]
            made = self._optimizer.state.get(state.parameter)
            if made:
                for key, name in state.shared.items():
                    self._views[name].copy_(made[key])
                self._views[MADE][index] = 1
        self._bind_made()

    def _set_count(self, steps: int) -> None:
        """Tell the optimizer how many steps were made; it counts on by one itself."""
        if steps != self._count:
            for state in self._states:
                kept: dict[str, Any] = self._optimizer.state.get(state.parameter) or {}
                for key in state.counters.keys() & kept.keys():
                    counter = kept[key]
                    if isinstance(counter, Tensor):
                        counter.fill_(steps)
                    else:
                        kept[key] = steps
        self._count = steps + 1


class Lock:
    """Held while in a with block."""

    def __init__(self, acquire: Callable[[], None], release: Callable[[], None]) -> None:
        self._acquire = acquire
        self._release = release

    def __enter__(self) -> None:
        self._acquire()

    def __exit__(self, *_: object) -> None:
        self._release()


def _probe(optimizer: Optimizer) -> list[tuple[Tensor, Mapping[str, Value], Mapping[str, Value]]]:
    """Return the parameters, with the state that a first and a second step make for each."""
    probe = copy.deepcopy(optimizer)
    states = []
    for _ in range(2):
        for parameter in _parameters(probe):
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        try:
            probe.step()
        except Exception as error:
            name = type(optimizer).__name__
            raise ValueError(
                f"the state of {name} cannot be shared by workers: a step of zero gradients "
                f"raises {type(error).__name__}: {error}"
            ) from error
        states.append([copy.deepcopy(dict(probe.state[p])) for p in _parameters(probe)])
    return list(zip(_parameters(optimizer), *states, strict=True))


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _counts(first: Value | None, second: Value) -> bool:
    """Tell whether a value was 1 after a step and 2 after another one."""
    if any(isinstance(value, Tensor) and value.numel() != 1 for value in (first, second)):
        return False
    return first is not None and (float(first), float(second)) == (1, 2)
