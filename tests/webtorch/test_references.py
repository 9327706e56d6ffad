"""Results that a function keeps are noticed, in each version of Python."""

import sys

import torch

from webtorch._core.reference_counts import OWN_ITEM, OWN_LIST

kept = []


def is_kept(function) -> tuple[bool, bool]:
    """Return whether the list that it returns, and what that has, is referenced elsewhere."""
    results = function()
    return (
        sys.getrefcount(results) > OWN_LIST,
        any(sys.getrefcount(result) > OWN_ITEM for result in results),
    )


def keep_item():
    kept.append(torch.zeros(2))
    return [kept[-1]]


def keep_list():
    kept.append([torch.zeros(2), torch.zeros(3)])
    return kept[-1]


def test_results_that_are_kept():
    assert is_kept(lambda: [torch.zeros(2), torch.zeros(3)]) == (False, False)
    assert is_kept(lambda: [torch.zeros(2), keep_item()[0]]) == (False, True)
    assert is_kept(keep_item) == (False, True)
    assert is_kept(keep_list) == (True, False)
