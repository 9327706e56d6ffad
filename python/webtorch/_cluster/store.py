"""What a host keeps of a model for its rounds; it outlives the process that does them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from webtorch._cluster.lineage import Anchor
from webtorch._cluster.rollout import Order, Rollout
from webtorch._cluster.rollout_judge import Figures, Trial

SNAPSHOT = 2
"""The region of a contribution, the difference of weights to the anchor; 0 and 1 are anchors."""

Reference = Literal["anchor", "snapshot", "none"]


@dataclass(frozen=True)
class Pending:
    """A contribution that may be in an anchor or not.

    It stays the same until it is in the anchor of this host, also if that becomes another one: so
    it is the same in all anchors.
    """

    number: int
    made: int
    """Value of `Store.made` when the snapshot was taken."""


@dataclass(frozen=True)
class Applying:
    """The weights are about to follow a new anchor.

    Attributes:
        reference: What is subtracted from the new anchor to get the change of the weights: the
            anchor before, or with `snapshot` the contribution, too, as the new anchor contains
            it. With `none` they become those of the anchor.
        made: The new value of `State.mark`, but for `none`.
        number: Number of the change, so that it is not made twice.

    """

    reference: Reference
    made: int
    number: int


@dataclass(frozen=True)
class State:
    """What is known of a model; it is changed as a whole."""

    memory: str
    """Random, of the memory of this host: its numbers are counted from there on."""
    anchor: Anchor
    slot: int = 0
    """The region of the anchor. The other one has the prepared anchor or, while weights follow a
    new anchor, the one before."""
    prepared: Anchor | None = None
    """An anchor of which it is not known whether all hosts have it."""
    mark: int = 0
    """Steps that were made here, as `Store.made` counts them, which the anchor contains."""
    number: int = 0
    """Number of the last contribution."""
    pending: Pending | None = None
    applying: Applying | None = None
    changes: int = 0
    """Number of the last change of the weights by a round."""
    replaced: int = 0
    """Value of `Store.replaced` when the anchor was made."""
    fresh: bool = True
    """Whether the host has not been in a round or taken an anchor since it has this memory."""
    joined: bool = False
    """Whether a round of the host with this memory has ended with the same anchors at all hosts."""
    frozen: bool = False
    """Whether the model is frozen, as all hosts have agreed."""
    orders: int = -1
    """How often that has changed, at all hosts; -1: it is not known yet whether it is."""
    guest: bool = False
    """Whether the host is a guest, as its links are slow: another process goes on so."""
    members: tuple[str, ...] = ()
    """Ids of the hosts of the last round."""
    generation: int = 0
    """That of the group of the last round."""
    time: float = 0.0
    """When the last round ended, seconds since 1970; 0: there was none."""
    rollout: Rollout | None = None
    """The last one that this host has heard of."""
    trial: Trial | None = None
    """Of the epoch that the host has, if that is rolled out."""

    def write(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        found = {**self.__dict__, "anchor": self.anchor.write()}
        found["prepared"] = self.prepared.write() if self.prepared else None
        found["pending"] = asdict(self.pending) if self.pending else None
        found["applying"] = asdict(self.applying) if self.applying else None
        found["rollout"] = self.rollout.write() if self.rollout else None
        found["trial"] = self.trial.write() if self.trial else None
        return found

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "State":
        """Read what `write` has returned, of this version of the package."""
        values = dict(found)
        values["anchor"] = Anchor.read(found["anchor"])
        for key, read in (
            ("prepared", Anchor.read),
            ("pending", lambda each: Pending(**each)),
            ("applying", lambda each: Applying(**each)),
            ("rollout", Rollout.read),
            ("trial", Trial.read),
        ):
            values[key] = None if found[key] is None else read(found[key])
        values["members"] = tuple(found["members"])
        return cls(**values)


class Store(Protocol):
    """The memory of a model. The process may be killed at any time, and another one continues.

    One thread of one process of the host uses it, while all train the model.
    """

    @property
    def name(self) -> str:
        """Name of the model, for messages."""

    @property
    def layout(self) -> bytes:
        """The tensors of the model in the order of the regions, as JSON."""

    @property
    def state(self) -> State:
        """What was written last."""

    def write(self, state: State) -> None:
        """Change the state, as a whole."""

    def tensors(self, region: int) -> Mapping[str, Tensor]:
        """Return the tensors of a region by name."""

    def contents(self, slot: int) -> Tensor:
        """Return all of an anchor's memory, uint8: its tensors, and the momentum if there is."""

    def momentum(self, slot: int) -> Tensor | None:
        """Return the outer optimizer's momentum, float32 `[floats]`; None if it has none."""

    @property
    def rest(self) -> Tensor | None:
        """What rounding of contributions has left, float32 `[floats]`; None if not wanted."""

    @property
    def optimizer_key(self) -> str:
        """What the optimizer's states of two hosts must have in common; empty: it has none."""

    def optimizer_state(self) -> Tensor:
        """Return the memory of the optimizer's state, uint8, which other workers change."""

    def copy_optimizer_state(self) -> Tensor:
        """Return a copy of it, in strict order as of between two steps."""

    def take_optimizer_state(self, data: Tensor) -> None:
        """Replace the optimizer's state."""

    def repair_optimizer(self) -> None:
        """Set what is not finite in the optimizer's state to 0."""

    def made(self) -> int:
        """Return the number of steps that were made at this host."""

    def replaced(self) -> int:
        """Return how often the weights were replaced by others that were put into place."""

    @property
    def frozen(self) -> bool:
        """Whether training makes no steps at this host."""

    def set_frozen(self, frozen: bool) -> None:
        """Let training make no steps at this host, or make them again."""

    def take_order(self) -> Order:
        """Return what an operator has ordered for what is rolled out, once."""

    def figures(self) -> Figures:
        """Return what was counted at this host: requests, errors, steps, losses."""

    def others_made(self) -> int:
        """Return the steps of the weights beside `made`, which were made at other hosts."""

    def take_snapshot(self) -> int:
        """Write the difference of the weights to the anchor; return `made` as of then."""

    def take_weights(self, slot: int) -> int:
        """Copy the weights to the region of an anchor; return `made` as of then."""

    def apply(self) -> int:
        """Let the weights follow the anchor as `State.applying` says, exactly once.

        Returns:
            `made` as of then.

        """

    def publish(self) -> None:
        """Let the steps of other hosts be seen, of an anchor that is applied."""
