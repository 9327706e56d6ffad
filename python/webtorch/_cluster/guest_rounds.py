"""What a guest does instead of rounds: it sends its contributions to a member, and takes anchors.

A contribution stays the same, under its number, until the anchor of a member contains it: it may be
sent again, also to another member. An anchor takes long on a slow link. So what is counted becomes
a part of this host's own anchor meanwhile, as if it were alone, and those of the members contain
all of that when they come.
"""

import dataclasses
import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from webtorch._cluster import flat, formats
from webtorch._cluster.coordinator import resolve
from webtorch._cluster.digests import digest, view_of
from webtorch._cluster.interfaces import ClusterError, Member, Settings
from webtorch._cluster.lineage import Anchor
from webtorch._cluster.rounds import Round, Rounds, follow_orders, note_orders
from webtorch._cluster.seal import Ring
from webtorch._cluster.sealed_calls import CallError, SealedCall, connect
from webtorch._cluster.speeds import Speeds, is_fast, limit, size_of_round
from webtorch._cluster.store import SNAPSHOT, Store
from webtorch._cluster.teams import rules_of_guests

log = logging.getLogger("webtorch")

TRY_AGAIN = 30.0
"""Seconds until a guest measures its links, and tries the group again if they are fast."""

LOST = 6
"""Timeouts without an answer of any member after which a guest tries the group again."""

FORGOTTEN = 10
"""How much longer it takes until `guest=always` takes anchors without what was counted before."""

UNCOUNTED = 3
"""Timeouts, and ten intervals, after which another member is asked.

When a contribution is not counted, or a member has not the model as it is here.
"""


EARLY = 0.25
"""The part of an anchor that is to be there before a contribution is made while it comes."""


class Visits(Rounds):
    """The turns of a guest. One thread uses it.

    Args:
        settings: Those of the cluster.
        stores: Returns the models' stores by the names of the models.
        ring: The cluster's keys.
        members: Hosts that were members; without any the coordinator's host is asked for them.
        pause: Seconds until the group is tried again.
        takes_anchors: False: it only contributes what was learned.
        is_over: Returns whether a turn is to end: what it has not sent is sent in another one.

    """

    def __init__(
        self,
        settings: Settings,
        stores: Callable[[], Mapping[str, Store]],
        ring: Ring,
        members: Sequence[Member] = (),
        pause: float = TRY_AGAIN,
        takes_anchors: bool = True,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(settings, stores)
        self._ring = ring
        self._members = [each for each in members if each.id != settings.id]
        random.shuffle(self._members)
        self._place = 0
        self._takes_anchors = takes_anchors
        self._is_over = is_over
        self._speeds = Speeds(settings, ring)
        self._pause = pause
        self._try_at = time.monotonic() + pause
        self._answered = time.monotonic()
        self._call: SealedCall | None = None
        self._member: Member | None = None
        self._sent: dict[str, tuple[int, float]] = {}
        self._fetch: _Fetch | None = None
        self._fetch_at = 0.0
        # members are known to one that has just left them, as its links are slow
        self._is_slow = settings.guest == "auto" and bool(self._members)
        self._rests: dict[str, Tensor] = {}
        self._exact: set[str] = set()
        self._parted: dict[str, float] = {}
        self._is_returning = False
        self._is_unfit = False
        self._called_at = 0.0
        self._patience = UNCOUNTED * settings.timeout + 10 * settings.interval
        self._said: dict[str, str] = {}
        self.sent = 0
        self.received = 0

    @property
    def ids(self) -> list[str]:
        """Ids of the members, as one of them has said."""
        return sorted(each.id for each in self._members)

    def turn(self) -> Round:
        """Ask a member what is counted, and send it what was learned.

        Raises:
            ClusterError: It does not answer; the next turn asks another one.

        """
        done = Round()
        try:
            call = self._connected()
            before = call.sent, call.received
            stores = self._stores()
            if self._fetch and self._fetch.model not in stores:
                self._drop_fetch()
            self._is_unfit = False
            try:
                for name, store in stores.items():
                    self._visit(call, name, store, done)
            finally:
                self.sent += call.sent - before[0]
                self.received += call.received - before[1]
        except BaseException:
            self._leave_member()
            raise
        now = self._answered = time.monotonic()
        if self._is_unfit and now - self._called_at > self._patience:
            # others may have the model as it is here
            self._leave_member()
        return done

    def may_return(self) -> bool:
        """Return whether the group may be tried again: after a turn."""
        settings = self._settings
        if settings.guest == "always":
            return False
        # perhaps all were restarted; in a round anchors that have parted become one
        last = min([self._answered, *self._parted.values()])
        if time.monotonic() - last > LOST * settings.timeout:
            return True
        if not self._is_returning:
            self._measure()
        return self._is_returning and self._exact >= self._stores().keys()

    def close(self) -> None:
        """End its connections. It may be called more than once."""
        self._drop_call()
        self._drop_fetch()

    def _measure(self) -> None:
        """Measure the links now and then, while no anchor uses them."""
        now = time.monotonic()
        if now < self._try_at or not self._members or self._fetch:
            return
        self._speeds.measure(self._members)
        rates = self._speeds.rates()
        if rates:
            self._speeds.forget()
            self._try_at = now + self._pause
            size = size_of_round(self._stores(), self._settings.compress)
            self._is_returning = is_fast(rates, size, self._settings)

    # --- connections ---

    def _connected(self) -> SealedCall:
        if self._call is None:
            place = self._place % (len(self._members) + 1)
            last = place == len(self._members)
            member = self._member = self._first() if last else self._members[place]
            self._sent.clear()
            self._called_at = time.monotonic()
            self._call = connect(self._settings, self._ring, member.address, member.port)
            self._call.is_over = self._is_over
        return self._call

    def _first(self) -> Member:
        """Return the host that the coordinator's name leads to."""
        name, port = self._settings.coordinator
        try:
            found = resolve(name, port)
        except OSError as error:
            raise CallError(f'coordinator "{name}": {error}') from None
        # the next time another one, as a host of a name with many may be down
        address = found[self._place // (len(self._members) + 1) % len(found)]
        return Member("", address, self._settings.port)

    def _leave_member(self) -> None:
        """Let the next turn ask another one; after all members the coordinator's host."""
        self._drop_call()
        self._place += 1

    def _drop_call(self) -> None:
        if self._call:
            self._call.close()
            self._call = None

    def _drop_fetch(self) -> None:
        if self._fetch:
            self._fetch.close()
            self._fetch = None

    def _know(self, found: Any) -> None:
        """Take the members that a member has named."""
        try:
            named = [Member(str(id), str(address), int(port)) for id, address, port in found]
        except (TypeError, ValueError) as error:
            raise ClusterError(f"the members are malformed: {error}") from None
        others = [each for each in named if each.id != self._settings.id]
        if _places(others) != _places(self._members):
            self._members = others
            random.shuffle(self._members)
            self._place = 0
        other = self._call.other if self._call else ""
        self._member = next((each for each in self._members if each.id == other), self._member)

    # --- a turn ---

    def _visit(self, call: SealedCall, name: str, store: Store, done: Round) -> None:
        if store.replaced() != store.state.replaced:
            self._say(name, "weights that were put into place at a guest stay there", store)
            self._set_aside(name)
            return
        self._finish(store, done)
        request = {
            "model": name,
            "layout": hashlib.sha256(store.layout).hexdigest(),
            "host": self._host(store.state),
            "rules": rules_of_guests(self._settings),
        }
        call.send({**request, "do": "ask"})
        answer = call.receive()
        if "error" in answer:
            if not str(answer["error"]).startswith("the model"):
                raise CallError(str(answer["error"]))
            self._say(name, f'at host "{call.other}": {answer["error"]}', store)
            self._set_aside(name)
            self._is_unfit = True
            return
        anchor = Anchor.read(answer.get("anchor"))
        self._know(answer.get("members"))
        if answer.get("is_on_trial") and _would_try(store, anchor):
            self._say(name, f'host "{call.other}" has weights that are rolled out', store)
            self._set_aside(name)
            self._is_unfit = True
            return
        self._said.pop(name, None)
        self._take_fetched(name, store, done)
        self._settle_pending(name, store, anchor, answer.get("refused"), done)
        self._obey(name, store, answer, call.other)
        if not self._is_awaited(store, anchor):
            # with all that was sent before
            self._begin_fetch(request, name, store, anchor)
        if store.state.pending or not self._is_early(name):
            self._begin(name, store, done)
        self._contribute_to(call, request, name, store, anchor)

    def _obey(self, name: str, store: Store, answer: Mapping[str, Any], host: str) -> None:
        """Follow an order that a member has and this host has not."""
        note_orders(store)
        frozen, orders = answer.get("frozen"), answer.get("orders")
        if not (isinstance(frozen, int) and isinstance(orders, int)):
            return
        state = store.state
        # what a host has found at its start is no order, but members know better than a new guest
        if orders > state.orders or (orders == state.orders and state.fresh):
            follow_orders(name, store, frozen, orders, host)

    def _is_awaited(self, store: Store, anchor: Anchor) -> bool:
        """Return whether the next anchors may contain what is pending."""
        state = store.state
        pending = state.pending
        if pending is None or state.fresh or anchor.of != state.anchor.of or self._is_returning:
            return False
        return anchor.number_of(self._host(state)) < pending.number

    def _is_early(self, name: str) -> bool:
        """Return whether an anchor has just begun to come over a slow link.

        What is sent meanwhile is counted when the anchor is there, and the next one is sent then:
        a bit later, so that both are as far from each other as from the one before.
        """
        fetch = self._fetch
        is_coming = fetch is not None and fetch.model == name and fetch.part < EARLY
        return is_coming and self._is_slow

    def _set_aside(self, name: str) -> None:
        """Let nothing wait for a model that members do not help with now."""
        self._exact.add(name)
        self._parted.pop(name, None)
        if self._fetch and self._fetch.model == name:
            self._drop_fetch()

    def _settle_pending(
        self, name: str, store: Store, anchor: Anchor, refused: object, done: Round
    ) -> None:
        """Count what a member's anchor contains, unless that is about to come."""
        state = store.state
        pending = state.pending
        if pending is None or anchor.of != state.anchor.of:
            return
        number = anchor.number_of(self._host(state))
        is_coming = self._fetch is not None and self._fetch.model == name
        if number >= pending.number and not (is_coming or self._is_returning):
            self._count(name, store, done)
        elif isinstance(refused, int) and refused >= pending.number > number:
            self._drop(name, store, done, "a mean with others that is not finite")

    def _count(self, name: str, store: Store, done: Round) -> None:
        """Let what is counted be a part of the anchor here, which no other host has."""
        state = store.state
        assert state.pending
        slot = 1 - state.slot
        # the other region may have an anchor that was prepared; the members have decided on it
        store.write(dataclasses.replace(state, prepared=None))
        store.contents(slot).copy_(store.contents(state.slot))
        self._rests[name] = self._contribution(name, store)[1]
        flat.add(store.tensors(slot), flat.vector(store.tensors(SNAPSHOT)))
        flat.add_integers(store.tensors(slot), flat.integer_vector(store.tensors(SNAPSHOT)))
        host, steps = self._host(state), state.pending.made - state.mark
        counted = {host: (state.pending.number, steps)}
        anchor = state.anchor.follow(digest(store, slot), counted, [host])
        self._exact.discard(name)
        self._commit(name, store, anchor, done)
        done.models += 1

    def _contribution(self, name: str, store: Store) -> tuple[Tensor, Tensor]:
        """Return the pending contribution as `int8`, always the same, and what rounding leaves."""
        values = flat.vector(store.tensors(SNAPSHOT))
        rest = self._rests.get(name)
        if rest is not None and rest.numel() == values.numel():
            values += rest
        change = formats.encode(values, "int8")
        return change, values - formats.decode(change, len(values), "int8")

    def _contribute_to(
        self,
        call: SealedCall,
        request: Mapping[str, object],
        name: str,
        store: Store,
        anchor: Anchor,
    ) -> None:
        """Send the pending contribution, once over each connection.

        Raises:
            CallError: It was sent long ago, and the member has not counted it.

        """
        pending = store.state.pending
        if pending is None or not self._is_awaited(store, anchor):
            return
        number, at = self._sent.get(name, (0, 0.0))
        if number == pending.number:
            if time.monotonic() - at > self._patience:
                raise CallError(f'host "{call.other}" does not count what it is sent')
            return
        change, _ = self._contribution(name, store)
        integers = flat.integer_vector(store.tensors(SNAPSHOT))
        found = {
            **request,
            "do": "contribute",
            "number": pending.number,
            "steps": pending.made - store.state.mark,
            "of": list(anchor.of),
        }
        call.send(found, view_of(change), view_of(integers.view(torch.uint8)))
        answer = call.receive()
        if "error" in answer:
            raise CallError(str(answer["error"]))
        self._sent[name] = pending.number, time.monotonic()

    # --- anchors ---

    def _begin_fetch(
        self, request: Mapping[str, object], name: str, store: Store, anchor: Anchor
    ) -> None:
        """Begin to receive the members' anchor, if it has what this one has not.

        After a pause that is as long as the last one took: half of the link is for others.
        """
        state = store.state
        if (self._is_returning and name in self._exact) or self._member is None:
            return
        if not self._takes_anchors or self._fetch or time.monotonic() < self._fetch_at:
            return
        if anchor.key == state.anchor.key:
            self._exact.add(name)
            if state.fresh:
                # members without steps: what is learned here may be added to theirs
                store.write(dataclasses.replace(state, fresh=False))
        elif self._is_contained(name, store, anchor):
            size = store.contents(state.slot).numel()
            self._fetch = _Fetch(self._settings, self._ring, self._member, name, request, size)
            self._fetch.start()

    def _is_contained(self, name: str, store: Store, anchor: Anchor) -> bool:
        """Return whether an anchor has all that was counted, or no member will ever have it."""
        if store.state.fresh or anchor.contains(store.state.anchor):
            self._parted.pop(name, None)
            return True
        # for a moment it is one of a member that is behind others
        seconds = time.monotonic() - self._parted.setdefault(name, time.monotonic())
        least = LOST * self._settings.timeout
        if seconds > least:
            self._say(name, "the members do not have all that they have counted before", store)
        return self._settings.guest == "always" and seconds > FORGOTTEN * least

    def _take_fetched(self, name: str, store: Store, done: Round) -> None:
        """Take an anchor that has come."""
        fetch = self._fetch
        if fetch is None or fetch.model != name or fetch.is_alive():
            return
        self._fetch = None
        self._fetch_at = time.monotonic() + fetch.seconds
        self._is_slow = fetch.seconds > limit(self._settings)
        self.received += fetch.received
        if fetch.anchor is None:
            log.info('model "%s": an anchor did not come: %s', name, fetch.problem)
            return
        state = store.state
        if fetch.layout != hashlib.sha256(store.layout).hexdigest():
            # of the code before
            return
        if fetch.is_on_trial and _would_try(store, fetch.anchor):
            return
        if not self._is_contained(name, store, fetch.anchor):
            return
        pending = state.pending
        if pending and fetch.anchor.number_of(self._host(state)) >= pending.number:
            self._rests[name] = self._contribution(name, store)[1]
        slot = 1 - state.slot
        store.write(dataclasses.replace(state, prepared=None))
        store.contents(slot).copy_(fetch.data)
        if digest(store, slot) != fetch.anchor.digest:
            raise ClusterError(f'the state of "{name}" is not the one that was announced')
        self._commit(name, store, fetch.anchor, done)
        self._parted.pop(name, None)
        self._exact.add(name)
        done.models += 1

    def _say(self, name: str, text: str, store: Store) -> None:
        """Log a problem of a model, once until there is another one."""
        if self._said.get(name) != text:
            self._said[name] = text
            log.warning('model "%s": %s', store.name, text)


def _places(members: Sequence[Member]) -> set[tuple[str, str, int]]:
    return {(each.id, each.address, each.port) for each in members}


def _would_try(store: Store, anchor: Anchor) -> bool:
    """Return whether a guest would try an anchor's weights: no host would judge them there."""
    return not store.state.fresh and anchor.of > store.state.anchor.of


class _Fetch(threading.Thread):
    """Receives an anchor over a connection of its own."""

    def __init__(
        self,
        settings: Settings,
        ring: Ring,
        member: Member,
        name: str,
        request: Mapping[str, object],
        size: int,
    ) -> None:
        super().__init__(name="anchor", daemon=True)
        self.model = name
        self.layout = request["layout"]
        self._settings = settings
        self._ring = ring
        self._member = member
        self._request = request
        self._call: SealedCall | None = None
        self.data = torch.empty(size, dtype=torch.uint8)
        self.anchor: Anchor | None = None
        self.is_on_trial = False
        self.problem = ""
        self.received = 0
        self.seconds = 0.0

    @property
    def part(self) -> float:
        """The part that is there, from 0 to 1."""
        if not self.is_alive():
            return 1.0
        call = self._call
        return call.received / max(1, len(self.data)) if call else 0.0

    def run(self) -> None:
        """Receive it."""
        begun = time.monotonic()
        member = self._member
        try:
            call = self._call = connect(self._settings, self._ring, member.address, member.port)
            try:
                call.send({**self._request, "do": "anchor"})
                answer = call.receive()
                if "error" in answer or answer["size"] != len(self.data):
                    raise ClusterError(str(answer.get("error", "it has another size")))
                anchor = Anchor.read(answer.get("anchor"))
                self.is_on_trial = bool(answer.get("is_on_trial"))
                call.receive_into(view_of(self.data))
                self.anchor = anchor
            finally:
                call.close()
                self.received = call.received
        except ClusterError as error:
            self.problem = str(error)
        self.seconds = max(time.monotonic() - begun, self._settings.interval)

    def close(self) -> None:
        """Let it end."""
        if self._call:
            self._call.close()
