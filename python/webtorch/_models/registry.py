"""The models of a process: what makes them again, and which of them were made meanwhile."""

import contextlib
import threading
from collections.abc import Iterator, Set
from typing import Protocol, TypeVar

from webtorch._models.model_state import ModelState
from webtorch._models.training import progress
from webtorch._zone.shared_state import SharedState


class Registered(Protocol):
    """A model, as far as the registry uses it."""

    name: str
    version: str
    state: ModelState

    def place(self) -> None:
        """Let it run on devices, too."""

    def refuse_changes(self) -> None:
        """Raise an error if parameters that workers share were changed without a step."""


T = TypeVar("T", bound=Registered)


class Models(dict[str, T]):
    """All models of this process by name; that of a version is "name@version"."""

    def __init__(self) -> None:
        super().__init__()
        self._previous: dict[str, T] = {}
        self._uses_devices = False
        self._importing = 0  # the thread that imports modules; 0: none does

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Refuse changes of the weights of new models: each worker would make them, to all.

        Raises:
            ValueError: A new model's parameters were changed after it had been made.

        """
        before = {*self.values()}
        self._importing = threading.get_ident()
        progress.begin()
        try:
            yield
        finally:
            self._importing = 0
        for model in self.values():
            if model not in before:
                model.refuse_changes()

    def is_importing(self) -> bool:
        """Return whether the calling thread imports modules that make models."""
        return self._importing == threading.get_ident()

    def use_devices(self) -> None:
        """Let all models run where the functions that call them do, not on the CPU alone."""
        if not self._uses_devices:
            self._uses_devices = True
            for model in self.values():
                model.place()

    @property
    def uses_devices(self) -> bool:
        """Whether functions of this process run on devices."""
        return self._uses_devices

    @contextlib.contextmanager
    def rebuild(self) -> Iterator[None]:
        """Let all models be made again, with the current weights; restore them if that fails."""
        self._previous = dict(self)
        self.clear()
        try:
            with self.importing():
                yield
        except BaseException:
            self.discard(set(self))
            self.update(self._previous)
            raise
        finally:
            self._previous = {}

    def discard(self, names: Set[str]) -> None:
        """Remove models that will not be used, and release their shared state."""
        for name in names:
            model = self.pop(name)
            if isinstance(model.state, SharedState):
                model.state.discard()

    def previous(self, name: str) -> T | None:
        """Return the model that is being rebuilt under this name."""
        return self._previous.get(name)

    def versions(self, name: str) -> dict[str, T]:
        """Return the models of a name by their versions; safe in any thread."""
        return {model.version: model for model in [*self.values()] if model.name == name}

    def shared_states(self) -> list[SharedState]:
        """Return the states of the models that workers share; safe in any thread."""
        states = [model.state for model in [*self.values()]]
        return [state for state in states if isinstance(state, SharedState)]
