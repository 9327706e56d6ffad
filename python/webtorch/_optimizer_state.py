"""The state of an optimizer, as tensors that can lie elsewhere.

An optimizer makes its state with its first step, and nobody but it knows the state's first values.
So a copy of it steps to show what tensors there will be, and the first step of all workers is made
by the optimizer itself; what it made is copied then.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer


class OptimizerState:
    """The tensors in an optimizer's state by name, `optimizer.<parameter>.<key>`.

    What counts steps, as Adam's `step`, is not among them unless the state is written by one worker
    at a time: increments that meet would be lost. It is set from outside before each step.

    Args:
        optimizer: which has not made a step yet.
        names: of its parameters, by their id; the state of others is left alone.
        exclusive: one worker writes at a time.

    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str], exclusive: bool) -> None:
        self._optimizer = optimizer
        self.is_bound = False
        self.views: Mapping[str, Tensor] = {}
        self.prototypes: dict[str, Tensor] = {}
        self._shared: list[tuple[Tensor, str, str]] = []  # parameter, key, name
        self._counters: list[tuple[Tensor, str, Tensor | int]] = []
        self._count = -1

        for parameter, first, second in _probe(optimizer):
            for key, value in second.items():
                if id(parameter) not in names:
                    continue
                if not exclusive and _counts(first.get(key), value):
                    self._counters.append((parameter, key, value))
                elif isinstance(value, Tensor):
                    name = f"optimizer.{names[id(parameter)]}.{key}"
                    self.prototypes[name] = value
                    self._shared.append((parameter, key, name))

    def bind(self) -> None:
        """Let the optimizer use the views."""
        state = self._optimizer.state
        for parameter, key, name in self._shared:
            state[parameter][key] = self.views[name]
        for parameter, key, prototype in self._counters:
            if key not in state[parameter]:
                state[parameter][key] = copy.deepcopy(prototype)
        self._count = -1
        self.is_bound = True

    def publish(self) -> None:
        """Copy to the views what the optimizer has made, and let it use them."""
        state = self._optimizer.state
        for parameter, key, name in self._shared:
            if key in state[parameter]:
                self.views[name].copy_(state[parameter][key])
        self.bind()

    def set_count(self, steps: int) -> None:
        """Tell the optimizer how many steps were made; it counts on by one itself."""
        if steps != self._count:
            for parameter, key, _ in self._counters:
                counter = self._optimizer.state[parameter][key]
                if isinstance(counter, Tensor):
                    counter.fill_(steps)
                else:
                    self._optimizer.state[parameter][key] = steps
        self._count = steps + 1


def _probe(
    optimizer: Optimizer,
) -> list[tuple[Tensor, Mapping[str, Tensor | int], Mapping[str, Tensor | int]]]:
    """Return the parameters, with the state that a first and a second step make for each."""
    probe = copy.deepcopy(optimizer)
    states = []
    for _ in range(2):
        for group in probe.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
        probe.step()
        states.append([copy.deepcopy(dict(probe.state[p])) for p in _parameters(probe)])
    return list(zip(_parameters(optimizer), *states, strict=True))


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _counts(first: Tensor | int | None, second: Tensor | int) -> bool:
    """Tell whether a value was 1 after a step and 2 after another one."""
    if any(isinstance(value, Tensor) and value.numel() != 1 for value in (first, second)):
        return False
    return first is not None and (float(first), float(second)) == (1, 2)
