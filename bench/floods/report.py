"""What became of the requests in a flood."""

from dataclasses import dataclass, field

WELL = 1.0  # seconds in which a request of a person is to be answered


@dataclass
class Report:
    """Requests of people and of attackers: when, how long they took, and their status."""

    begin: float
    end: float
    people: list[tuple[float, float, int]] = field(default_factory=list)
    attack: list[tuple[float, float, int]] = field(default_factory=list)

    def add(self, attacks: bool, at: float, took: float, status: int) -> None:
        (self.attack if attacks else self.people).append((at, took, status))

    def rates(self) -> dict[str, float]:
        """Return percents over the flood but for its first second; NaN: no such request."""
        people, attack = (
            [each for each in all_of if self.begin + 1 <= each[0] < self.end]
            for all_of in (self.people, self.attack)
        )
        return {
            "served well": percent([status == 200 and took < WELL for _, took, status in people]),
            "denied": percent([status in (403, 429) for _, _, status in people]),
            "attack let through": percent([status == 200 for _, _, status in attack]),
        }


def percent(values: list[bool]) -> float:
    return 100 * sum(values) / len(values) if values else float("nan")
