"""What `webtorch status` shows, from the JSON of webtorch_status."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from webtorch._core.text import printable
from webtorch.cli._text import duration, number, size, table

Entry = Mapping[str, Any]

Rows = list[Sequence[str]]

NOTHING: Entry = {"handlers": [], "models": [], "stages": [], "balancers": [], "workers": []}


def _without_controls(value: Any) -> Any:
    """Return an answer whose strings cannot control the terminal."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_without_controls(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_controls(each) for name, each in value.items()}
    return value


class Report:
    """The lines of an answer.

    Args:
        now: The answer.
        before: The one before, since which rates and latencies are; None: since the counts began.
        has_colors: Whether the lines have colours.

    Raises:
        LookupError: It is not an answer of webtorch_status with all scopes.

    """

    def __init__(self, now: Entry, before: Entry | None = None, has_colors: bool = False) -> None:
        now = self._now = _without_controls(now)
        # nginx was started again: its counts are from the beginning
        restarted = before and before["server"]["started"] != now["server"]["started"]
        self._before: Entry = NOTHING if before is None or restarted else before
        self._since = self._before.get("time", now["server"]["started"])
        self._has_colors = has_colors
        self.problems = [*now["problems"], *self._errors()]

    def lines(self) -> list[str]:
        """Return what is wrong, then the server and tables of its parts."""
        return [*self._problems(), "", self._server(), *self._parts()]

    def _style(self, text: str, color: str) -> str:
        return click.style(text, fg=color) if self._has_colors else text

    def _problems(self) -> list[str]:
        if not self.problems:
            return [self._style("nothing is wrong", "green")]
        return [self._style(f"! {text}", "red") for text in self.problems]

    def _errors(self) -> Iterator[str]:
        """Yield functions that have failed since the answer before."""
        for one in self._now["handlers"]:
            old = self._old("handlers", one)
            if old and (count := _failed(one) - _failed(old)) > 0:
                yield f"{_name(one)} has answered {count} requests with an error just now"

    def _server(self) -> str:
        server = self._now["server"]
        zone = server["zone_size"]
        facts = [
            f"WebTorch {server['version']}, nginx {server['nginx']}",
            f"{len(self._now['workers'])} workers",
            *([f"counts since {self._age(server['started'])}"] if server["started"] else []),
            *([f"zone {size(server['zone_used'])} of {size(zone)}"] if zone else []),
        ]
        return ", ".join(facts)

    def _parts(self) -> Iterator[str]:
        parts: list[tuple[Sequence[str], Callable[[Entry], Rows], str]] = [
            (HANDLERS, lambda one: [self._handler(one)], "handlers"),
            (MODELS, lambda one: [self._model(one)], "models"),
            (STAGES, lambda one: [self._stage(one)], "stages"),
            (SERVERS, self._servers, "balancers"),
            (WORKERS, lambda one: [self._worker(one)], "workers"),
        ]
        for titles, rows, name in parts:
            found = [row for one in self._now[name] for row in rows(one)]
            if found:
                head, *lines = table([titles, *found])
                yield from ("", self._style(head, "cyan"), *lines)

    # --- rows ---

    def _handler(self, one: Entry) -> Sequence[str]:
        old = self._old("handlers", one)
        calls = _grown(one["rows"], old and old["rows"])
        modes = [name for name in ("inline", "thread") if one[name]]
        return (
            _name(one),
            self._rate(_total(one), _total(old) if old else 0),
            number(_total(one)),
            number(_failed(one)),
            f"{one['waiting']}/{one['running']}",
            *(self._quantile(one["request"], old and old["request"], q) for q in (0.5, 0.9, 0.99)),
            self._quantile(one["run"], old and old["run"], 0.99),
            number(calls["sum"] / calls["count"] if calls["count"] else None),
            "+".join(modes) or "-",
        )

    def _model(self, one: Entry) -> Sequence[str]:
        old = self._old("models", one)
        return (
            one["name"],
            number(one["steps"]),
            self._rate(one["steps"], old["steps"] if old else 0),
            number(one.get("loss")),
            number(one.get("average")),
            f"{self._age(one['saved'])} ago" if one["saved"] else "-",
            str(one["workers"]),
        )

    def _stage(self, one: Entry) -> Sequence[str]:
        seconds = one["seconds"]
        return (
            one["name"],
            number(seconds["count"]),
            number(one["rows"]),
            number(one["errors"]),
            duration(seconds["sum"] / seconds["count"] if seconds["count"] else None),
            number(one.get("distance")),
        )

    def _servers(self, one: Entry) -> Rows:
        return [
            (
                one["name"],
                each["name"],
                number(each["picks"]),
                str(each["in_flight"]),
                duration(each["service"]),
                "-" if each["error"] is None else f"{each['error'] * 100:.1f} %",
                "by an operator" if each["out"] else "yes" if each["ejected"] else "no",
            )
            for each in one["servers"]
        ]

    def _worker(self, one: Entry) -> Sequence[str]:
        return (
            str(one["worker"]),
            str(one["pid"]),
            self._age(one["started"]),
            size(one["memory"]),
            duration(one["lag"]),
            duration(one["gil"]),
        )

    # --- differences ---

    def _age(self, time: int) -> str:
        """Return how long ago a time was, in milliseconds since 1970."""
        return duration((self._now["time"] - time) / 1000)

    def _old(self, part: str, one: Entry) -> Entry | None:
        """Return the same entry of the answer before."""
        return next((old for old in self._before[part] if _name(old) == _name(one)), None)

    def _rate(self, now: int, before: int) -> str:
        seconds = (self._now["time"] - self._since) / 1000
        return number((now - before) / seconds) if seconds > 0 else "-"

    def _quantile(self, now: Entry, old: Entry | None, share: float) -> str:
        """Return the upper bound of a share of times: the last ones, or all if there were none."""
        counts = _grown(now, old)["buckets"]
        bounds = self._now["server"]["bounds"]
        seen, wanted = 0, share * sum(counts)
        for index, count in enumerate(counts):
            seen += count
            if seen and seen >= wanted:
                return duration(bounds[min(index, len(bounds) - 1)])
        return "-"


HANDLERS = (
    *("HANDLER", "REQ/S", "REQUESTS", "ERRORS", "WAIT/RUN", "P50", "P90", "P99"),
    *("CALL P99", "ROWS/CALL", "MODE"),
)
MODELS = ("MODEL", "STEPS", "STEPS/S", "LOSS", "AVERAGE", "CHECKPOINT", "WORKERS")
STAGES = ("STAGE", "CALLS", "ROWS", "ERRORS", "MEAN TIME", "DISTANCE")
SERVERS = ("BALANCER", "SERVER", "PICKS", "IN FLIGHT", "SERVICE", "FAILED", "EJECTED")
WORKERS = ("WORKER", "PID", "AGE", "MEMORY", "LAG", "GIL WAIT")


def _name(one: Entry) -> str:
    """Return the name of an entry; a function of phases is counted for each location."""
    return f"{one['name']} in {one['location']}" if "location" in one else str(one["name"])


def _total(one: Entry) -> int:
    return sum(one["requests"].values())


def _failed(one: Entry) -> int:
    return sum(count for code, count in one["requests"].items() if code.startswith("5"))


def _grown(now: Entry, old: Entry | None) -> Entry:
    """Return what a histogram has counted since an answer; all if there was nothing."""
    if old is None or now["count"] == old["count"]:
        return now
    return {
        "buckets": [a - b for a, b in zip(now["buckets"], old["buckets"], strict=True)],
        "count": now["count"] - old["count"],
        "sum": now["sum"] - old["sum"],
    }
