"""Connections between the hosts of a group: gloo's, and the store over which they are made.

Nothing here is of `torch.distributed`'s global state: a group has a store, a device and a process
group of its own, and leaves none behind.

When a connection is closed, gloo wakes those that wait for a message of which nothing has come, and
those of which nothing has been sent as the other host does not expect them yet. It does not wake
those that wait for a message that is on its way, in either direction: they have to wait for their
timeout. So nothing here waits for a large one. A part of a mean or a state is followed by an
empty message, its mark, which gloo receives as a whole or not at all; the messages between two
hosts keep their order, so that what was marked is there. And a part that was sent is only waited
for when its host is known to have it, see `Links.flush`. The messages of `exchange` have no marks,
which would cost a round trip: most are a few packets, but a host that is killed within one of
60 KB is noticed by the timeout.

So hosts end a round sooner than by a timeout, but no round ends in another way. One that ends at
some hosts and is completed by others counts each step once, as before: an anchor is committed only
where all hosts have said that they have it, and who has not heard that keeps its contribution, with
its number, until an anchor shows whether it contains it; see `rounds`.
"""

import hashlib
import math
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, ProcessGroupGloo, Store, TCPStore

from webtorch._cluster.interfaces import STORE_PORT, GroupError, OutsiderError, Settings, View
from webtorch._cluster.seal import HELLO, OVERHEAD, Channel, Ring

_RETRY = 0.05

MAX_TAG: Final = 1 << 29
STATE_TAG: Final = 1 << 29
"""Added to the tags of states, which only two hosts count."""

_MARK_TAG: Final = 1 << 30
"""Added to the tag of a message, that of its mark."""

EMPTY: Final = torch.empty(0, dtype=torch.uint8)
"""A message without bytes."""


def tag_of(number: int) -> int:
    """Return gloo's tag of a message; it comes again when the message is long forgotten.

    Even numbers and odd ones have tags of their own for ever, as the modulus is even: they count
    messages of different kinds, one of which waits for its next message all the time.
    """
    return 1 + number % (MAX_TAG - 2)


class _SealedStore(Store):
    """A store in which gloo's addresses are sealed, so that no other host can put its own there."""

    def __init__(self, store: Store, ring: Ring, about: tuple[str | int, ...]) -> None:
        super().__init__()
        self._store = store
        self._ring = ring
        self._about = about
        self.error: OutsiderError | None = None

    def set(self, key: str, value: str | bytes) -> None:
        data = value.encode() if isinstance(value, str) else bytes(value)
        self._store.set(key, self._ring.seal(data, "store", *self._about, key).hex())

    def get(self, key: str) -> bytes:
        sealed = self._store.get(key)
        try:
            return self._ring.open(bytes.fromhex(sealed.decode()), "store", *self._about, key)
        except (OutsiderError, ValueError):
            # gloo reports it as an error of its own
            self.error = OutsiderError("an address in the store is not sealed")
            raise self.error from None

    def wait(self, keys: list[str], timeout: timedelta | None = None) -> None:
        if timeout is None:
            self._store.wait(keys)
        else:
            self._store.wait(keys, timeout)


class Links:
    """Connections of this host to all others of a view, sealed. Used by one thread.

    Gloo listens on the settings' address at a port that the system gives it (it cannot be given a
    range; `net.ipv4.ip_local_port_range` is the system's), the store on the next one after
    `port`, only at the host with the lowest id and only while a group is made.

    Args:
        settings: The cluster's.
        view: The members, of which this host is one.
        ring: The cluster's keys.

    Raises:
        GroupError: They could not be made within the timeout.

    """

    def __init__(self, settings: Settings, view: View, ring: Ring) -> None:
        self.ids = view.ids
        self.rank = view.ids.index(settings.id)
        self.sent = 0
        self.received = 0
        self._timeout = timedelta(seconds=settings.timeout)
        self._about = (view.generation, view.digest)
        self._held: list[_Begun] = []
        self._receipts: set[Receipt] = set()
        self._group: Any = None
        store: Store | None = None
        if len(self.ids) > 1:
            deadline = time.monotonic() + settings.timeout
            self._group, store = _connect(settings, view, ring, self.rank, deadline)
        try:
            self._greet(ring)
        except BaseException:
            self.close()
            raise
        # a host that has greeted needs the store no more; it ends here, with its port
        del store

    @property
    def others(self) -> list[int]:
        """Ranks of the other hosts, that after this one first, so that not all begin with one."""
        count = len(self.ids)
        return [(self.rank + step) % count for step in range(1, count)]

    def receive(self, source: int, size: int, tag: int, is_marked: bool = True) -> "Receipt":
        """Begin to receive a message of at most `size` bytes, and its mark, if it has one."""
        receipt = Receipt(self, source, torch.empty(size, dtype=torch.uint8))
        self._receipts.add(receipt)
        try:
            receipt.message = self._open_group().recv([receipt.buffer], source, tag)
            if is_marked:
                receipt.mark = self._open_group().recv([EMPTY], source, _MARK_TAG + tag)
        except RuntimeError as error:
            raise self._error(error, source) from None
        return receipt

    def send(self, to: int, data: Tensor, tag: int, is_marked: bool = True) -> None:
        """Begin to send uint8 `[n]`, with a mark or without; `flush` lets go of it."""
        begun = _Begun(to)
        self._held.append(begun)
        try:
            begun.message = self._open_group().send([data], to, tag)
            if is_marked:
                begun.mark = self._open_group().send([EMPTY], to, _MARK_TAG + tag)
        except RuntimeError as error:
            raise self._error(error, to) from None
        self.sent += len(data)

    def flush(self, keep: int = 0) -> None:
        """Let go of the memory of all but the last `keep` messages that were sent.

        Something has come since from their hosts that they send only when they have these. Those
        of which that is not known may not be waited for, as gloo does not say when a host with half
        of a message has gone; but for small ones, which the system takes at once.
        """
        while len(self._held) > keep:
            self._wait(self._held[0], self._timeout.total_seconds())
            self._held.pop(0).drop()

    def finish(self, receipt: "Receipt", seconds: float) -> None:
        """Wait for a message that was being received."""
        self._wait(receipt, min(seconds, self._timeout.total_seconds()))
        self._receipts.discard(receipt)
        receipt.drop()

    def _wait(self, begun: "_Begun", seconds: float) -> None:
        """Wait for what was begun with a host, without the GIL: for its mark first.

        An error keeps the frames that it came through, and they keep their variables. So gloo's
        works are none of these: they would keep the connections after `close`.
        """
        if begun.message is None:
            raise GroupError("the group is closed")
        timeout = timedelta(seconds=max(seconds, 1e-3))
        try:
            if begun.mark is not None:
                begun.mark.wait(timeout)
            begun.message.wait(timeout)
        except RuntimeError as error:
            raise self._error(error, begun.rank, seconds) from None

    def close(self) -> None:
        """Close all connections.

        Gloo's live as long as anything that was begun with them, so that is dropped here: others
        would else wait for this host until their timeout.
        """
        self._group = None
        for begun in (*self._held, *self._receipts):
            begun.drop()
        self._held.clear()
        self._receipts.clear()

    def _open_group(self) -> Any:
        if self._group is None:
            raise GroupError("the group is closed")
        return self._group

    def _error(self, error: Exception, rank: int, seconds: float = 0.0) -> GroupError:
        text = str(error)
        member = self.ids[rank]
        if self._group is None:
            return GroupError("the group was closed")
        if "Timed out" in text or "imeout" in text:
            return GroupError(f"nothing came from {member} for {seconds:.1f} s", member)
        return GroupError(f"the connection to {member} was closed", member)

    def _greet(self, ring: Ring) -> None:
        """Agree on keys that no other session has: from numbers that all hosts have just made."""
        own = os.urandom(HELLO)
        me = self.ids[self.rank]
        size = len(ring.seal(own))
        receipts = {rank: self.receive(rank, size, 0) for rank in self.others}
        for rank in self.others:
            sealed = ring.seal(own, "hello", *self._about, me, self.ids[rank])
            self.send(rank, torch.frombuffer(bytearray(sealed), dtype=torch.uint8), 0)
        keys = {self.rank: ring.id}
        numbers = {self.rank: own}
        for rank, receipt in receipts.items():
            sealed = receipt.wait().numpy().tobytes()
            member = self.ids[rank]
            numbers[rank] = ring.open(sealed, "hello", *self._about, member, me, member=member)
            keys[rank] = sealed[: len(ring.id)]
        self.flush()
        session = hashlib.sha256(b"".join(numbers[rank] for rank in sorted(numbers))).digest()

        def channel(purpose: str, sender: int, receiver: str) -> Channel:
            about = (*self._about, self.ids[sender], receiver)
            return ring.channel(keys[sender], session, purpose, *about)

        everyone = range(len(self.ids))
        self.to = [channel("one", self.rank, self.ids[rank]) for rank in everyone]
        self.by = [channel("one", rank, me) for rank in everyone]
        self.to_all = channel("all", self.rank, "")
        self.all_by = [channel("all", rank, "") for rank in everyone]
        self.state_to = [channel("state", self.rank, self.ids[rank]) for rank in everyone]
        self.state_by = [channel("state", rank, me) for rank in everyone]


class _Begun:
    """What was begun with the host of a rank, and gloo's works, which hold its connections."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.message: Any = None
        self.mark: Any = None

    def drop(self) -> None:
        """Forget it: it is complete, or the group is closed."""
        self.message = self.mark = None


class Receipt(_Begun):
    """A message that is being received from the host of a rank."""

    def __init__(self, links: Links, source: int, buffer: Tensor) -> None:
        super().__init__(source)
        self.buffer = buffer
        self._links = links

    def wait(self, seconds: float = math.inf) -> Tensor:
        """Return uint8 `[size]`, of which a shorter message fills a part.

        Args:
            seconds: For how long to wait, at most the timeout.

        """
        if self.message is None:
            raise GroupError("the group is closed")
        self._links.finish(self, seconds)
        self._links.received += len(self.buffer)
        return self.buffer


def seal(channel: Channel, data: Tensor, number: int) -> Tensor:
    """Return uint8 `[n]` sealed, in new memory."""
    sealed = torch.empty(len(data) + OVERHEAD, dtype=torch.uint8)
    channel.seal(_bytes_of(data), _bytes_of(sealed), number, 0)
    return sealed


def unseal(channel: Channel, sealed: Tensor, number: int, member: str) -> Tensor:
    """Return uint8 `[n]` that was sealed, in new memory.

    Raises:
        OutsiderError: It was not sealed by the member as the message of this number.

    """
    data = torch.empty(len(sealed) - OVERHEAD, dtype=torch.uint8)
    try:
        channel.open(_bytes_of(sealed), _bytes_of(data), number, 0)
    except OutsiderError as error:
        raise OutsiderError(str(error), member) from None
    return data


def _bytes_of(data: Tensor) -> memoryview:
    array: Any = data.numpy()
    return memoryview(array)


def _connect(
    settings: Settings, view: View, ring: Ring, rank: int, deadline: float
) -> tuple[Any, Store]:
    """Return gloo's process group, and the store that hosts which are still on it need."""
    first = view.members[0]
    try:
        store = _store(settings, first.address, first.port + STORE_PORT, rank == 0, deadline)
    except (RuntimeError, OSError) as error:
        raise GroupError(
            f"the store at {first.id} cannot be reached: {_line(error)}", first.id
        ) from None
    sealed = _SealedStore(store, ring, (view.generation, view.digest))
    options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
    options._timeout = _left(deadline)
    # only for collectives of gloo, of which none is used
    options._threads = 1
    try:
        options._devices = [
            ProcessGroupGloo.create_device(hostname=settings.address, lazy_init=False)
        ]
        place = PrefixStore(view.digest, sealed)
        return ProcessGroupGloo(place, rank, len(view.members), options), sealed
    except RuntimeError as error:
        if sealed.error is not None:
            raise sealed.error from None
        raise GroupError(f"the group was not made: {_line(error)}") from None


def _store(settings: Settings, address: str, port: int, serves: bool, deadline: float) -> Store:
    if not serves:
        return TCPStore(address, port, None, False, _left(deadline), wait_for_workers=False)
    listener = _repeat(lambda: _listen(settings.address, port), deadline)
    # the store would listen on all interfaces
    return TCPStore(
        settings.address,
        port,
        None,
        True,
        _left(deadline),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _repeat(make: Callable[[], socket.socket], deadline: float) -> socket.socket:
    """Listen as soon as a process before this one has left the port."""
    while True:
        try:
            return make()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)


def _left(deadline: float) -> timedelta:
    return timedelta(seconds=max(0.1, deadline - time.monotonic()))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
