"""webtorch.metrics outside nginx, where they count in the process alone."""

import math
import threading

import pytest
import torch

from webtorch import metrics


def test_metrics_refuse_what_is_malformed():
    for name in ("a", "1_total", "webtorch_a_total", "a b_total", ""):
        with pytest.raises(ValueError, match="name"):
            metrics.counter(name)
    for name in ("a_total", "a_sum", "a_bucket", "webtorch_a"):
        with pytest.raises(ValueError, match="name"):
            metrics.gauge(name)
    for label in ("le", "__a", "a-b"):
        with pytest.raises(ValueError, match="label"):
            metrics.histogram("a", labels=[label])
    for buckets in ([], [2, 1], [1, 1], [math.inf], [math.nan], range(33)):
        with pytest.raises(ValueError, match="buckets"):
            metrics.histogram("a", buckets=buckets)
    with pytest.raises(ValueError, match="median"):
        metrics.gauge("a", aggregate="median")
    for amount in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="grow"):
            metrics.counter("a_total").inc(amount)
    with pytest.raises(ValueError, match="kind"):
        metrics.counter("a_total", labels=["kind"]).labels(other=1)


def test_metrics_take_tensors_from_threads():
    count, depth = metrics.counter("tensors_total"), metrics.gauge("depth")
    one = torch.ones(())

    def add() -> None:
        for _ in range(10_000):
            count.inc(one)
            depth.inc(one)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count._floats[0] == depth._floats[1] == 40_000


def test_gauge_is_set_to_numbers_alone():
    depth = metrics.gauge("own_depth")
    with pytest.raises(ValueError, match="to float: 'deep'"):
        depth.set("deep")
    depth.set(torch.tensor(2))
    assert depth._floats[1] == 2


def test_metrics_with_labels_count_nothing_without_them():
    words = metrics.counter("chosen_words_total", labels=["word", "language"])
    with pytest.raises(
        AttributeError, match=r"chosen_words_total has labels.*\.labels\(word=.*inc"
    ):
        words.inc()


def test_metrics_labels_are_bounded(caplog):
    words = metrics.counter("words_total", labels=["word"])
    for number in range(metrics.MAX_CHILDREN + 5):
        words.labels(word=number).inc()
    assert words.labels(word=3) is words.labels(word="3")
    assert caplog.text.count("too many combinations") == 1
