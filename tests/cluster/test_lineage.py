"""Anchors: what they contain, and how lineages that have parted become one."""

import dataclasses
import json

import pytest

from webtorch._cluster.lineage import (
    MAX_ANCESTORS,
    MAX_SHARES,
    Anchor,
    Standing,
    first,
    resolve,
)


def follow(anchor: Anchor, host: str, steps: int = 10, members: tuple[str, ...] = ()) -> Anchor:
    """Return the anchor after a round to which one host contributed."""
    number = anchor.number_of(host) + 1
    return anchor.follow(f"{host} {number} {anchor.number}", {host: (number, steps)}, members)


def grow(anchor: Anchor, memories: int, each: int = 1) -> list[Anchor]:
    """Return anchors of rounds of a host that has a new memory after some."""
    found = [anchor]
    for number in range(memories * each):
        found.append(follow(found[-1], f"a/{anchor.number}-{number // each}"))
    return found


def plan(*anchors: Anchor):
    return resolve({rank: Standing(anchor, None) for rank, anchor in enumerate(anchors)})


def test_lineage_contains_ancestors_whose_shares_are_not_named():
    lineage = grow(first("d", 0), 3 * MAX_SHARES, 4)
    last = lineage[-1]
    assert last.steps == 120 * MAX_SHARES
    assert len(last.shares) == MAX_SHARES
    for age in (1, 5, 63, 400):
        assert last.contains(lineage[-1 - age]), age
        assert not lineage[-1 - age].contains(last)
        found = plan(lineage[-1 - age], last)
        assert found.merge is None and found.top == last
    assert len(last.ancestors) <= MAX_ANCESTORS
    assert Anchor.read(json.loads(json.dumps(last.write()))) == last


def test_lineage_names_hosts_that_may_contribute_again():
    anchor = follow(first("d", 0), "idle/1")
    anchor = follow(anchor, "away/1")
    for each in grow(anchor, 2 * MAX_SHARES)[1:]:
        anchor = each
    # as an older memory of another host goes first
    assert anchor.number_of("idle/1") == anchor.number_of("away/1") == 1
    for number in range(2 * MAX_SHARES):
        anchor = follow(anchor, f"host{number}/1", members=("idle/1",))
    assert anchor.number_of("idle/1") == 1
    assert anchor.number_of("away/1") == 0


def test_lineage_merge_counts_once_what_one_side_does_not_name():
    lineage = grow(first("d", 0), MAX_SHARES)
    old = follow(lineage[-1], "b/1", 7)
    new = follow(lineage[-1], "c/1", 20)
    for number in range(3):
        new = follow(new, f"c/x{number}")
    merge = plan(old, new).merge
    assert merge is not None
    assert sorted(merge.weights) == [7, 50]
    assert merge.anchor("m").steps == 10 * MAX_SHARES + 57


@pytest.mark.parametrize(
    ("starts", "expected"), [((0, 500), 1510), ((1000, 1000), 2510), ((0, 0), 1510)]
)
def test_lineage_merge_of_a_host_that_began_with_a_checkpoint(starts, expected):
    one = follow(first("d", starts[0]), "a/1", 1500)
    two = follow(first("e", starts[1]), "b/1", 10)
    merge = plan(one, two).merge
    assert merge is not None
    assert merge.anchor("m").steps == expected
    assert merge.weights[1] == 10


def test_lineage_epochs_that_began_at_a_time():
    one, two = (first("d", 0).restart("e", 3, 1, host) for host in ("a/1", "b/1"))
    assert two.contains(one) and not one.contains(two)
    found = plan(one, two)
    assert found.top == two and found.merge is None and not found.differs
    assert Anchor.read(one.write()) == one


def test_lineage_equal_weights_are_not_one_anchor():
    one, two = (first("d", 0).follow("e", {host: (1, 5)}) for host in ("a/1", "b/1"))
    assert not one.contains(two)
    assert plan(one, two).merge is not None
    named = dataclasses.replace(one, shares={})
    assert one.contains(named)
