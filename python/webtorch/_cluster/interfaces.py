"""The interfaces between rounds, the membership service and groups of hosts.

Rounds know these, so that another service can take the place of the one that is built in, and so
that tests have groups of threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

Compression = Literal["none", "bf16", "int8"]

GUEST_PORT = 2
"""The port of connections of guests and of probes, counted from `Settings.port`."""

STORE_PORT = 1
"""The store's port, counted from `Settings.port`."""


class ClusterError(Exception):
    """A host, a service or a message between hosts is not as it should be."""


class UnreachableError(ClusterError):
    """The membership service did not answer in time: the host continues alone."""


class TakenIdError(ClusterError):
    """An older host has the same id.

    Attributes:
        address: Its address and port.

    """

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"the id {host} is that of another host, {address}")
        self.address = address


class GroupError(ClusterError):
    """An exchange ended before it was complete; the group is of no use any more.

    Attributes:
        member: The id of the host that caused it; None if that is not known.

    """

    def __init__(self, message: str, member: str | None = None) -> None:
        super().__init__(message)
        self.member = member


class OutsiderError(GroupError):
    """A message or an entry was not sealed with a secret of the cluster."""


@dataclass(frozen=True)
class Outer:
    """How the mean of the differences is applied to the anchor.

    Attributes:
        name: `average` adds it; `nesterov` is SGD with Nesterov's momentum.
        lr: Learning rate of `nesterov`.
        momentum: Its momentum.

    """

    name: Literal["average", "nesterov"] = "average"
    lr: float = 1.0
    momentum: float = 0.0


@dataclass(frozen=True)
class Rolling:
    """How weights that are put into place at a host come to the others.

    Attributes:
        hosts: How many take them at a time.
        pause: Seconds from these to the next ones.

    """

    hosts: int
    pause: float


@dataclass(frozen=True)
class Settings:
    """What `webtorch_cluster` says, parsed and checked.

    Attributes:
        name: Name of the cluster.
        id: Id of this host, unique and stable.
        coordinator: Name and port of the host with the membership service. The name is resolved
            at each try.
        address: Address of this host that others connect to.
        port: The store has the next one. The membership service has that of `coordinator`, and
            gloo's are given by the system.
        secrets: One or two, those of 32 bytes or more; the first one seals, each opens. None
            with `secret=off`.
        interval: Seconds between rounds.
        timeout: Seconds without progress after which a peer has left.
        compress: Format of differences on the wire.
        outer: How their mean is applied.
        rolling: How other weights come from host to host; None: all take them at once.
        guest: Whether a host with a slow link takes part as a guest.

    """

    name: str
    id: str
    coordinator: tuple[str, int]
    address: str
    port: int = 7610
    secrets: tuple[bytes, ...] = ()
    interval: float = 1.0
    timeout: float = 5.0
    compress: Compression = "none"
    outer: Outer = field(default_factory=Outer)
    rolling: Rolling | None = None
    guest: Literal["auto", "always", "off"] = "auto"


@dataclass(frozen=True)
class Member:
    """A host that takes part.

    Attributes:
        id: Its id.
        address: Its address.
        port: Its port of `Settings`.
        about: What it says of itself, a small object of JSON.

    """

    id: str
    address: str
    port: int
    about: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """Who takes part: one answer of the service, the same at all hosts that asked for it.

    Attributes:
        generation: It changes when members come or go. It starts at zero with each service.
        members: All hosts that take part, in the order of their ids.
        digest: Of the whole answer: the same at all of its hosts, and another one for each answer.
        service: The address of the service.
        rejected: Ids of entries that are no members, and why: another secret, a clock that is too
            far off, or the id of an older host, which is a member.

    """

    generation: int
    members: tuple[Member, ...]
    digest: str = ""
    service: str = ""
    rejected: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the members, sorted."""
        return tuple(member.id for member in self.members)


class Membership(Protocol):
    """The service that says who takes part. Used by one thread."""

    def beat(self, about: Mapping[str, object]) -> None:
        """Say that this host lives, and what it says of itself; an object of at most 16 KB.

        It does not wait: a thread repeats it until `leave`.
        """

    def members(self) -> View:
        """Wait until all hosts that live have asked, and return who they are.

        Raises:
            UnreachableError: The service does not answer.
            OutsiderError: The entry of this host is not valid, as its clock is too far off.
            TakenIdError: An older host has the same id.

        """

    def leave(self) -> None:
        """Take part no more: others need not wait for this host."""

    def close(self) -> None:
        """End the threads. It may be called more than once."""


class Group(Protocol):
    """Hosts that exchange messages and means, all in the same order. Used by one thread.

    Each method raises `GroupError` when nothing came for `timeout` seconds, or when a member has
    gone; `OutsiderError` if a message has no valid seal. The group can then only be closed.
    """

    patience: float
    """Seconds for which `mean` waits for a member that is slower than others; it may be set."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the members, sorted."""

    @property
    def rank(self) -> int:
        """The place of this host in `ids`."""

    @property
    def generation(self) -> int:
        """The generation of the view that it was made from."""

    @property
    def key(self) -> str:
        """The digest of that view. Each host puts it into what it says of itself."""

    def fits(self, view: View) -> bool:
        """Return whether all members of a view have this group, so that none needs a new one.

        All hosts of a view come to the same answer: they use their group on, or all make one.
        """

    @property
    def sent(self) -> int:
        """Bytes that were sent since it was made."""

    @property
    def received(self) -> int:
        """Bytes that were received since it was made."""

    @property
    def waits(self) -> Mapping[str, float]:
        """Seconds since it was made that `mean` waited for each other member's differences, by id.

        A host with a slow link is waited for by most others.
        """

    def exchange(self, message: bytes) -> list[bytes]:
        """Send a small message to all, and return everyone's in the order of `ids`."""

    def mean(
        self,
        difference: Tensor,
        weight: float,
        weights: Sequence[float],
        rest: Tensor | None,
        is_exact: bool = False,
    ) -> Tensor:
        """Return the weighted mean of all hosts' differences, the same bits at each.

        Args:
            difference: float32 `[n]` on the CPU, of this host; only finite values.
            weight: Its weight, `weights[rank]`.
            weights: Those of all hosts, in the order of `ids`, the same at each host; not
                negative. If all are 0, the mean is 0.
            rest: float32 `[n]`, what rounding has left, which is added to the difference and
                updated in place; None if it is not wanted. Without rounding it becomes 0.
            is_exact: Whether it is sent as `none`, whatever the settings say.

        Returns:
            float32 `[n]`, a new tensor.

        """

    def total(self, values: Tensor) -> Tensor:
        """Return the sums of int64 `[n]` over all hosts, a new tensor; they wrap around."""

    def send_state(self, to: int, data: Tensor) -> None:
        """Send uint8 `[n]` to the host of a rank, which calls `receive_state`.

        It returns when the other host has all of it. Others call neither, and wait for at most
        `timeout` in what they do next.
        """

    def receive_state(self, source: int, into: Tensor) -> None:
        """Receive uint8 `[n]` from the host of a rank, into memory of the length that it sends."""

    def close(self) -> None:
        """Close its connections: others get an error at once. It may be called more than once."""
