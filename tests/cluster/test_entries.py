"""What a host says of itself to the membership service, and when it is believed."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cluster_threads import settings
from webtorch._cluster.interfaces import OutsiderError
from webtorch._cluster.membership import MAX_SKEW, Lighthouse
from webtorch._cluster.seal import Ring

RING = Ring("test", [b"x" * 32])


def view_after(seconds: float, **changes: float):
    """Return what a host sees in an answer that comes so long after its request."""
    host = Lighthouse(replace(settings("a"), **changes), RING, "1")
    entry = host._entry()
    created = time.time() + seconds
    found = SimpleNamespace(
        replica_id="a/1", data={"entry": entry, "mac": RING.sign(entry.encode())}
    )
    return host._view(
        SimpleNamespace(
            quorum_id=1,
            participants=[found],
            created=SimpleNamespace(seconds=int(created), nanos=0),
        )
    )


def test_time_that_a_request_waits_is_no_fault_of_the_clock():
    """It waits for hosts that ask once in an interval."""
    assert view_after(290, interval=300.0).ids == ("a",)
    assert view_after(190, timeout=100.0).ids == ("a",)


@pytest.mark.parametrize("seconds", [MAX_SKEW + 12 + 9, -MAX_SKEW - 9])
def test_entry_with_wrong_clock(seconds):
    with pytest.raises(OutsiderError, match=r"its clock differs by 1[56][0-9] s from that of"):
        view_after(seconds, interval=2.0, timeout=5.0)
