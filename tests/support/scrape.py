"""What webtorch_status says, read by the parser of prometheus-client."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from nginx import Nginx

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]

# it has no types
parse_openmetrics: Callable[[str], Iterable[Any]] = openmetrics.text_string_to_metric_families


def _samples(families: Iterable[Any]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def scrape(server: Nginx, arguments: str = "") -> Samples:
    """Return the samples in OpenMetrics' format, each by its name and labels."""
    answer = server.get(f"/status?format=openmetrics{arguments}")
    assert answer.status_code == 200, answer.text
    return _samples(parse_openmetrics(answer.text))


def scrape_prometheus(server: Nginx) -> Samples:
    """Return the samples in Prometheus' own format."""
    return _samples(parse_prometheus(server.get("/status?format=prometheus").text))


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples that have a name and these labels; 0 if there is none."""
    return sum(
        number
        for (found, pairs), number in samples.items()
        if found == name and labels.items() <= dict(pairs).items()
    )


def counters(samples: Samples) -> Samples:
    """Return what must never go back."""
    suffixes = ("_total", "_count", "_sum", "_bucket")
    return {key: number for key, number in samples.items() if key[0].endswith(suffixes)}


def check_order(before: Samples, after: Samples) -> None:
    """Check that no counter has gone back or vanished."""
    late = counters(after)
    for key, number in counters(before).items():
        assert late.get(key, -1) >= number, key
