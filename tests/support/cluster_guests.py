"""Members and guests in one process: rounds of threads, and connections over loopback."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from cluster_threads import Adding, Crash, Host, Memory, run_until_settled, settings
from nginx import free_port, release_port
from webtorch._cluster.guest_rounds import Visits
from webtorch._cluster.guests import Guests
from webtorch._cluster.interfaces import Member, Settings
from webtorch._cluster.reception import Reception
from webtorch._cluster.rounds import Round
from webtorch._cluster.seal import Ring

SECRET = b"this is a secret of 32 bytes....."

_nets = itertools.count(1)


class Site:
    """Addresses and settings of hosts, and the members that guests know."""

    def __init__(self, port: int) -> None:
        self._net = f"127.{os.getpid() % 200 + 20}.{next(_nets)}"
        self._numbers = itertools.count(1)
        self._port = port
        self.ring = Ring("test", (SECRET,))
        self.members: list[Member] = []
        self.receptions: list[Reception] = []

    def settings(self, host: str, **others: Any) -> Settings:
        """Return settings of a host with an address of its own; the first one's leads to all."""
        address = f"{self._net}.{next(self._numbers)}"
        found = replace(
            settings(host, interval=0.01, timeout=2.0, **others),
            coordinator=(f"{self._net}.1", 1),
            address=address,
            port=self._port,
            secrets=(SECRET,),
        )
        return found

    def close(self) -> None:
        for each in self.receptions:
            each.close()


@contextmanager
def made_site() -> Iterator[Site]:
    """Make a site whose ports nothing else uses."""
    port = free_port()
    found = Site(port)
    try:
        yield found
    finally:
        found.close()
        release_port(port)


class MemberHost(Host):
    """A member that answers guests; its process loses what it has of them."""

    def __init__(self, site: Site, host: str, make: Callable[[], dict[str, Memory]]) -> None:
        self.site = site
        self.reception: Reception | None = None
        self.settings = site.settings(host)
        site.members.append(Member(host, self.settings.address, self.settings.port))
        super().__init__(host, make, Adding)

    def start(self) -> None:
        """Start a process, as after a kill."""
        if self.reception:
            self.reception.close()
        guests = Guests()
        self.guests = guests
        self.rounds = self.kind(self.settings, lambda: self.models, guests)
        self.reception = Reception(self.settings, self.site.ring, guests)
        self.site.receptions.append(self.reception)
        self.reception.admit(self.site.members)
        self.reception.start(self._pinned)

    @contextmanager
    def _pinned(self) -> Iterator[Mapping[str, Memory]]:
        yield self.models


class GuestHost(Host):
    """A guest; also a host that can be in a round."""

    def __init__(self, site: Site, host: str, make: Callable[[], dict[str, Memory]]) -> None:
        self.site = site
        self.visits: Visits | None = None
        self.settings = site.settings(host, guest="always")
        super().__init__(host, make, Adding)

    def start(self) -> None:
        """Start a process, as after a kill."""
        super().start()
        self.restart()

    def restart(self, *members: Member) -> None:
        """Begin to visit: these members, or those that the first one names."""
        if self.visits:
            self.visits.close()
        site = self.site
        self.visits = Visits(self.settings, lambda: self.models, site.ring, members)

    def turn(self) -> Round | None:
        """Do a turn; None: the process was killed meanwhile."""
        assert self.visits
        try:
            self.visits.resume()
            return self.visits.turn()
        except Crash:
            self.start()
            return None

    def turn_until_taken(self) -> None:
        """Do turns until the guest has the members' anchor."""
        if self.visits:
            # it may have had the one before
            self.visits._exact.clear()
        for _ in range(2000):
            self.turn()
            assert self.visits
            fetch = self.visits._fetch
            if fetch:
                fetch.join()
            elif self.visits._exact >= self.models.keys():
                return
        raise AssertionError("the anchor is not taken")


def make_own(name: object) -> Callable[[], dict[str, Memory]]:
    """Return what makes the memory of a host."""

    def build() -> dict[str, Memory]:
        weights = {"a": torch.zeros(5000), "n": torch.zeros(2, dtype=torch.int64)}
        return {"m": Memory(f"memory-{name}", weights)}

    return build


def start(site: Site, members: int = 2) -> list[Any]:
    """Return members with an anchor, and a guest that has it."""
    hosts = [MemberHost(site, f"web-{index}", make_own(index)) for index in range(members)]
    guest = GuestHost(site, "guest", make_own("guest"))
    for host in hosts:
        host.memory.train()
    run_until_settled(hosts)
    guest.turn_until_taken()
    assert guest.memory.all_steps == members
    return [*hosts, guest]


def layout_of(memory: Memory) -> str:
    return hashlib.sha256(memory.layout).hexdigest()


def offered(member: MemberHost) -> list[str]:
    """Return the memories of the guests whose contributions a member has."""
    memory = member.memory
    return [*member.guests.offer("m", memory.state.anchor, layout_of(memory))]
