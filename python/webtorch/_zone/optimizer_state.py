"""The state of an optimizer, as tensors that can be bound to other memory.

An optimizer creates the state of a parameter in its first step that has a gradient for it, and only
the optimizer knows the first values of that state. So a copy of the optimizer makes steps to find
out which tensors there will be. The first step of all workers is made by the optimizer itself, and
the state that it created is copied into the shared memory. That takes no lock: workers that create
state at a time overwrite each other's, as they do in any step.
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
"""The name of the tensor of flags, uint8 `[parameters]`: 1 if a parameter's state exists."""


@dataclass
class ParameterState:
    """The state that an optimizer keeps for a parameter."""

    parameter: Tensor
    shared: dict[str, str] = field(default_factory=dict)
    """Names of the shared tensors by the optimizer's keys."""
    counters: dict[str, Value] = field(default_factory=dict)
    """Step counters by the optimizer's keys."""


class OptimizerState:
    """The tensors in an optimizer's state by name, `optimizer.<parameter>.<key>`.

    Step counters, such as Adam's `step`, are not among them if several workers may write at a time:
    simultaneous increments would be lost. They are set before each step instead.

    Args:
        optimizer: An optimizer that has not made a step yet.
        names: Names of its parameters by `id()`; the state of other parameters is not shared.
        exclusive: Whether one worker writes at a time.

    Raises:
        ValueError: The optimizer cannot make a step of zero gradients.

    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str], exclusive: bool) -> None:
        self._optimizer = optimizer
        self.counters: set[str] = set()
        """Names of those that count steps: only with `exclusive` are there any."""
        self.prototypes: dict[str, Tensor] = {}
        """The tensors without memory, for their dtypes and shapes."""
        self._states: list[ParameterState] = []
        self._unbound: list[int] = []
        self._views: Mapping[str, Tensor] = {}
        self._count = -1
        self.needs_nothing = False
        """Whether it can step at once: all of its state is bound, and none of it counts steps."""

        probe = _Probe(optimizer)
        self._assigns = probe.assigns
        for parameter, first, second in probe.states:
            if id(parameter) not in names or not second:
                continue
            state = ParameterState(parameter)
            for key, value in second.items():
                if _counts(first.get(key), value) and not (exclusive and isinstance(value, Tensor)):
                    state.counters[key] = value
                elif isinstance(value, Tensor):
                    name = f"optimizer.{names[id(parameter)]}.{key}"
                    self.prototypes[name] = torch.empty_like(value, device="meta")
                    if _counts(first.get(key), value):
                        self.counters.add(name)
                    state.shared[key] = name
            self._states.append(state)
        if self._states:
            shape = len(self._states)
            self.prototypes[MADE] = torch.empty(shape, dtype=torch.uint8, device="meta")

    def bind(self, views: Mapping[str, Tensor]) -> None:
        """Use the state in other memory from now on."""
        self._views = views
        self._unbound = list(range(len(self._states)))
        self._count = -1
        for state in self._states:
            self._optimizer.state.pop(state.parameter, None)
        self._bind_existing()

    def step(self, step: Callable[[], None], steps: int) -> None:
        """Make an optimizer step.

        Args:
            step: Calls the optimizer.
            steps: Number of steps that all workers have made before.

        """
        # a parameter that never gets a gradient stays unbound
        if self._unbound:
            self._bind_existing()
        self._set_count(steps)
        step()
        if self._unbound:
            self._publish()
        if self._assigns:
            self._gather()

    def _bind_existing(self) -> None:
        """Bind the optimizer to the views of those parameters whose state exists."""
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
        self.needs_nothing = not (
            left or self._assigns or any(state.counters for state in self._states)
        )

    def _publish(self) -> None:
        """Copy the state that the optimizer has created into the shared memory."""
        published = False
        for index in self._unbound:
            state = self._states[index]
            created = self._optimizer.state.get(state.parameter)
            if created:
                published = True
                if not self._views[MADE][index]:
                    for key, name in state.shared.items():
                        self._views[name].copy_(created[key])
                    self._views[MADE][index] = 1
        if published:
            self._bind_existing()

    def _gather(self) -> None:
        """Copy state that the step has reassigned into the shared memory."""
        for state in self._states:
            kept = self._optimizer.state.get(state.parameter) or {}
            for key, name in state.shared.items():
                view = self._views[name]
                if key in kept and kept[key].data_ptr() != view.data_ptr():
                    view.copy_(kept[key])
                    kept[key] = view

    def _set_count(self, steps: int) -> None:
        """Set the optimizer's step counters, which its step then increments by one."""
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


class _Probe:
    """Two steps of zero gradients by a copy of an optimizer.

    Attributes:
        states: The parameters, each with its state after the first and the second step.
        assigns: Whether a step reassigns tensors of the state.

    """

    def __init__(self, optimizer: Optimizer) -> None:
        try:
            self._run(optimizer, torch.zeros_like)
        except Exception as error:
            try:
                # SparseAdam refuses others
                self._run(optimizer, lambda parameter: torch.zeros_like(parameter).to_sparse())
            except Exception:
                name = type(optimizer).__name__
                raise ValueError(
                    f"the state of {name} cannot be shared by workers: a step of zero gradients "
                    f"raises {type(error).__name__}: {error}"
                ) from error

    def _run(self, optimizer: Optimizer, gradient: Callable[[Tensor], Tensor]) -> None:
        probe = copy.deepcopy(optimizer)
        parameters = _parameters(probe)
        states = []
        pointers = []
        for _ in range(2):
            for parameter in parameters:
                if parameter.requires_grad:
                    parameter.grad = gradient(parameter)
            probe.step()
            found = [dict(probe.state[parameter]) for parameter in parameters]
            # what is kept cannot be allocated at the same place again
            pointers.append([[_pointer(value) for value in state.values()] for state in found])
            states.append((found, [copy.deepcopy(state) for state in found]))
        self.assigns = pointers[0] != pointers[1]
        self.states: list[tuple[Tensor, Mapping[str, Value], Mapping[str, Value]]] = [
            *zip(_parameters(optimizer), states[0][1], states[1][1], strict=True)
        ]


def _pointer(value: Value) -> int:
    """Return the address of a tensor's memory; 0 for other values."""
    return value.data_ptr() if isinstance(value, Tensor) else 0


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _counts(first: Value | None, second: Value) -> bool:
    """Return whether a value counts steps: 1 after the first and 2 after the second."""
    if any(isinstance(value, Tensor) and value.numel() != 1 for value in (first, second)):
        return False
    return first is not None and (float(first), float(second)) == (1, 2)
