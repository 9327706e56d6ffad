"""Rewards for the choices of `webtorch_split`."""

from collections.abc import Callable

report: Callable[[str, str, float], None] | None = None
"""Reports to workers' memory; None outside nginx."""


def reward(split: str, choice: str, value: float) -> None:
    """Report what a choice of `webtorch_split` has earned.

        @webtorch.handler
        def clicked(request, shown: str):
            webtorch.reward("version", shown, 1)

    All workers know it from then on, and choose by it. Outside nginx only the value is checked.

    Args:
        split: The name of the variable, without `$`.
        choice: One of its values.
        value: From 0, for a failure, to 1, for a success.

    Raises:
        ValueError: The value is not from 0 to 1.
        LookupError: The configuration has no such split, or the split no such choice.

    """
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"a reward is from 0 to 1, not {value}")
    if report is not None:
        report(split, choice, number)
