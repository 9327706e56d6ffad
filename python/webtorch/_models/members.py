"""Parameters and buffers that a call reassigns, as in `self.mean = 0.9 * self.mean + ...`.

The new tensor would be that of one module in one process: the other mode of the model, other
workers and checkpoints would keep the tensor before. So its values are copied to where all of them
read.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import is_
from typing import Any

from torch import Tensor, nn

TRAINING = 0
EVALUATION = 1


@dataclass
class Group:
    """The parameters or the buffers of a module and of its copy; all lists have the same order."""

    owners: tuple[nn.Module, nn.Module]
    kind: str
    """`_parameters` or `_buffers`."""
    paths: list[str]
    names: list[str]
    kept: list[Tensor | None]
    """Tensors that both modules have."""


class Members:
    """The parameters and buffers of a module and of its copy for evaluation.

    The values of parameters, and of buffers in shared memory, are copied into the tensor that is
    registered, which then takes its place again. Other buffers are assigned in both modules.

    Args:
        module: The module, in training.
        evaluation: Its copy, with the same tensors.
        is_shared: Returns whether workers share a tensor; None stands for a persistent buffer or a
            parameter that has none yet.

    """

    def __init__(
        self,
        module: nn.Module,
        evaluation: nn.Module,
        is_shared: Callable[[Tensor | None], bool],
    ) -> None:
        self._is_shared = is_shared
        self._groups = [*_groups(module, evaluation)]
        self._lock = threading.Lock()
        self._rows = [
            [(_current(group, mode), group.kept) for group in self._groups]
            for mode in (TRAINING, EVALUATION)
        ]

    def gather(self, mode: int) -> None:
        """Copy the values that a call in a mode has assigned; safe in any thread.

        Raises:
            ValueError: A tensor that workers share was replaced by one of another dtype or shape.

        """
        for current, kept in self._rows[mode]:
            if not all(map(is_, current(), kept)):
                with self._lock:
                    self._gather(mode)
                return

    def put_back(self, mode: int) -> None:
        """Forget what a call in a mode has assigned."""
        with self._lock:
            for group, index, _ in self._assigned(mode):
                setattr(group.owners[mode], group.names[index], group.kept[index])

    def _gather(self, mode: int) -> None:
        refused = []
        for group, index, value in [*self._assigned(mode)]:
            owner, name, tensor = group.owners[mode], group.names[index], group.kept[index]
            shared = self._is_shared(tensor) and name not in owner._non_persistent_buffers_set
            fits = _describe(value) == _describe(tensor)
            if fits and isinstance(tensor, Tensor) and (shared or isinstance(tensor, nn.Parameter)):
                tensor.data.copy_(value.detach())
            elif shared:
                refused.append(
                    f'"{group.paths[index]}" was {_describe(tensor)}, now it is {_describe(value)}'
                )
            else:
                if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                    value = value.detach()
                group.kept[index] = value
                setattr(group.owners[1 - mode], name, value)
            setattr(owner, name, group.kept[index])
        if refused:
            raise ValueError(
                "workers share the parameters and buffers of a model, whose dtypes and shapes "
                f"stay: {', '.join(refused)}"
            )

    def _assigned(self, mode: int) -> Iterator[tuple[Group, int, Any]]:
        """Yield what differs from the tensors that both modules have."""
        for group in self._groups:
            owner = group.owners[mode]
            for index, (name, tensor) in enumerate(zip(group.names, group.kept, strict=True)):
                value = getattr(owner, name, None)
                if value is not tensor:
                    yield group, index, value


def _groups(module: nn.Module, evaluation: nn.Module) -> Iterator[Group]:
    copies = evaluation.modules()
    for (prefix, part), copy in zip(module.named_modules(), copies, strict=True):
        for kind in ("_parameters", "_buffers"):
            members = getattr(part, kind)
            names = [*members.keys()]
            if names:
                paths = [f"{prefix}.{name}" if prefix else name for name in names]
                yield Group((part, copy), kind, paths, names, [*members.values()])


def _current(group: Group, mode: int) -> Callable[[], Iterable[Tensor | None]]:
    """Return a function that returns the tensors of a group as they are now."""
    owner, names = group.owners[mode], group.names
    members = getattr(owner, group.kind)
    if type(members) is dict:
        return members.values
    # TorchScript keeps them in C++
    return lambda: [getattr(owner, name, None) for name in names]


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return str(value)
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
