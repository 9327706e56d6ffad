"""Rewards for choices in the memory that workers share, see `webtorch._metrics.rewards`."""

from webtorch._native import lib


def report(split: str, choice: str, value: float) -> None:
    """Add a reward.

    Raises:
        LookupError: There is no such split, or it has no such choice.

    """
    # what cannot be encoded is not in the configuration
    name, label = (text.encode("utf-8", "surrogateescape") for text in (split, choice))
    found = lib.ngx_webtorch_split_reward(name, len(name), label, len(label), value)
    if found < 0:
        raise LookupError(f"the configuration has no webtorch_split for ${split}")
    if found > 0:
        raise LookupError(f"webtorch_split ${split} has no choice {choice!r}")
