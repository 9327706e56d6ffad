"""Who comes to the site, and what they do: people, floods, and crowds of people.

A client is a generator of what it does: it waits, loads targets and waits for their answers, or
sends a request without waiting for its answer. What runs it sends it the time.
"""

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Protocol

PEOPLE, PAGES, ASSETS = 200, 60, 80
WORKERS, QUEUE = 16, 400  # of the site
PAGE, ASSET = 0.04, 0.005  # seconds that it takes on average
VISIT = 12  # pages that a person reads on average before another one comes
NEWS = "/news/1"  # a page that is new to the site
AGENTS = [
    f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
    for version in (115, 121, 128)
]


class Draws(Protocol):
    """The module random, or a generator of it."""

    def lognormvariate(self, mu: float, sigma: float, /) -> float: ...


@dataclass(frozen=True)
class Wait:
    seconds: float


@dataclass(frozen=True)
class Load:
    """Requests of these targets, each after some seconds; goes on when all are answered."""

    targets: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Send:
    target: str


Acts = Generator[Wait | Load | Send, float, None]
"""What a client does; it is sent the seconds since the beginning."""


@dataclass(frozen=True)
class Client:
    """A host, and whether it is of the attack."""

    address: str
    agent: str
    cookie: bool
    attacks: bool
    acts: Callable[[random.Random], Acts]


@dataclass(frozen=True)
class Times:
    """Seconds from the beginning: of the flood, of its full strength, and of its end."""

    begin: float
    full: float
    end: float


def seconds_of(target: str, rng: Draws) -> float:
    """Draw how long the site takes for a target."""
    mean = ASSET if target.startswith("/a/") else PAGE
    return mean * rng.lognormvariate(-0.125, 0.5)


def page_of(rng: random.Random) -> int:
    return min(PAGES, int(rng.paretovariate(0.8))) - 1


def read_page(rng: random.Random, target: str, page: int) -> Acts:
    """Load a page, and its assets when it is there."""
    yield Load(((0.0, target),))
    yield Wait(rng.uniform(0.1, 0.4))
    assets = [(page * 7 + rng.randrange(10)) % ASSETS for _ in range(rng.randint(3, 8))]
    yield Load(tuple((rng.uniform(0, 0.5), f"/a/{each}") for each in assets))


def read(rng: random.Random, until: float, pages: float = math.inf, first: str = "") -> Acts:
    """Read pages as a person does."""
    now = yield Wait(0)
    count = 0
    while now < until and count < pages:
        page = page_of(rng)
        yield from read_page(rng, first or f"/p/{page}", page)
        first = ""
        count += 1
        now = yield Wait(min(30, 6 * math.exp(rng.gauss(0, 0.7))))


def join(*parts: Acts) -> Acts:
    for part in parts:
        yield from part


def wait(seconds: float) -> Acts:
    yield Wait(seconds)


def person_of(address: str, acts: Callable[[random.Random], Acts], attacks: bool = False) -> Client:
    return Client(address, random.Random(address).choice(AGENTS), True, attacks, acts)


def people(times: Times, rng: random.Random, count: int, stay: bool = False) -> list[Client]:
    """Make people for the whole time: so many at once, each with an address of its own."""
    clients: list[Client] = []
    until = times.end
    for _ in range(count):
        now = rng.uniform(0, 8)
        pages = 0 if stay else rng.randrange(2 * VISIT)  # of this visit, some have passed before
        while now < until:
            count_of = math.inf if stay else 1 + pages
            address = f"127.1.{len(clients) // 100}.{len(clients) % 100 + 1}"
            clients.append(
                person_of(
                    address,
                    lambda each, now=now, count_of=count_of: join(  # type: ignore[misc]
                        wait(now), read(each, until, count_of)
                    ),
                )
            )
            now = math.inf if stay else now + (1 + pages) * 8.6
            pages = min(10 * VISIT, int(rng.expovariate(1 / VISIT)))
    return clients


@dataclass(frozen=True)
class Attack:
    """What each attacker does.

    Args:
        count: Attackers.
        rate: Requests per second of each, or pages per second with assets.
        profile: "fixed", one page with a random query; "mimic", pages as people; "assets", pages
            with their assets; "news", the page that a crowd comes for.
        behaves: Whether they read as people before the flood, from the beginning.
        prefix: The first two numbers of their addresses.
        first: The least last number of an address; those of people are 1 to 100.

    """

    count: int = 500
    rate: float = 1.8
    profile: str = "mimic"
    behaves: bool = False
    prefix: str = "127.2"
    first: int = 101

    def clients(self, times: Times, rng: random.Random) -> list[Client]:
        made = []
        for number in range(self.count):
            # who comes when: all at the beginning, or evenly until the full strength
            at = times.begin + (times.full - times.begin) * number / self.count
            browser = self.profile != "fixed"
            made.append(
                Client(
                    f"{self.prefix}.{number // 100}.{self.first + number % 100}",
                    rng.choice(AGENTS) if browser else "Mozilla/5.0",
                    browser,
                    True,
                    lambda each, at=at: self._acts(times, at, each),  # type: ignore[misc]
                )
            )
        return made

    def _acts(self, times: Times, at: float, rng: random.Random) -> Acts:
        if self.behaves:
            yield Wait(rng.uniform(0, min(8, at)))
            yield from read(rng, at)
        now = yield Wait(0)
        now = yield Wait(max(0, at - now) + rng.expovariate(self.rate))
        while now < times.end:
            page = page_of(rng)
            begin = now
            if self.profile == "fixed":
                yield Send(f"/p/search?q={rng.getrandbits(40):x}")
            elif self.profile == "mimic":
                yield Send(f"/p/{page}")
            elif self.profile == "news":
                yield Send(NEWS)
            else:
                yield from read_page(rng, f"/p/{page}", page)
            now = yield Wait(0)
            now = yield Wait(max(0, rng.expovariate(self.rate) - (now - begin)))


def crowd(times: Times, rng: random.Random, count: int) -> list[Client]:
    """Make people who come within seconds, to one new page first."""
    made = []
    for number in range(count):
        at = times.begin + rng.expovariate(1 / 5)
        made.append(
            person_of(
                f"127.3.{number // 250}.{number % 250 + 1}",
                lambda each, at=at: join(  # type: ignore[misc]
                    wait(at), read(each, times.end, 1 + each.expovariate(1 / VISIT), NEWS)
                ),
            )
        )
    return made


def behind_nat(times: Times, count: int) -> list[Client]:
    """Make people with one address."""
    return [
        person_of(
            "127.4.0.1",
            lambda each: join(wait(each.uniform(0, 8)), read(each, times.end)),
        )
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Scenario:
    """A flood, or a crowd, or both.

    Args:
        description: One line.
        attack: Attackers, or None.
        flood: Seconds of the flood.
        ramp: Seconds of these until its full strength.
        crowd: People who come at its beginning.
        nat: People behind one address from the beginning.

    """

    description: str
    attack: Attack | None = None
    flood: float = 40
    ramp: float = 0
    crowd: int = 0
    nat: int = 0

    def times(self, calm: float) -> Times:
        return Times(calm, calm + self.ramp, calm + self.flood)

    def clients(
        self, calm: float, rng: random.Random, stay: bool = False, scale: float = 1
    ) -> list[Client]:
        """Make all clients; with a scale of 0.5 half of them."""
        times = self.times(calm)
        made = people(times, rng, round(PEOPLE * scale), stay)
        if self.attack:
            attack = replace(self.attack, count=round(self.attack.count * scale))
            made += attack.clients(times, rng)
        made += crowd(times, rng, round(self.crowd * scale))
        return made + behind_nat(times, round(self.nat * scale))


SCENARIOS = {
    "fixed": Scenario("one page with a random query", Attack(profile="fixed")),
    "mimic": Scenario("pages as people, without assets", Attack()),
    "assets": Scenario("a page with its assets each 1.8 s", Attack(profile="assets", rate=1 / 1.8)),
    "assets-slow": Scenario(
        "2000 that load 0.28 pages/s with assets", Attack(2000, 0.28, "assets")
    ),
    "ramp": Scenario("mimic, from 0 to 500 in ten minutes", Attack(), flood=660, ramp=600),
    "ramp-assets": Scenario(
        "assets, from 0 to 2000 in ten minutes", Attack(2000, 0.28, "assets"), 660, 600
    ),
    "prefixes": Scenario("mimic from networks of people", Attack(prefix="127.1")),
    "behaved": Scenario(
        "read as people at first, then fixed", Attack(profile="fixed", behaves=True)
    ),
    "behaved-mimic": Scenario("read as people at first, then mimic", Attack(behaves=True)),
    "behaved-assets": Scenario(
        "read as people at first, then 1 page/s with assets", Attack(500, 1.0, "assets", True)
    ),
    "crowd": Scenario("1000 people more, to a new page first, no attack", crowd=1000),
    "nat": Scenario("500 people behind one address, no flood", nat=500),
    "nat-flood": Scenario("500 people behind one address, mimic", Attack(), nat=500),
    "crowd-flood": Scenario("500 people more, and mimic", Attack(), crowd=500),
    "crowd-assets": Scenario(
        "500 people more, and assets", Attack(profile="assets", rate=1 / 1.8), crowd=500
    ),
    "crowd-page": Scenario(
        "500 people more, and a flood to their page", Attack(profile="news"), crowd=500
    ),
    "crowd-large": Scenario("5000 people more, twice what the site bears", crowd=5000),
}
