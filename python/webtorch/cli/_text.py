"""Numbers and tables as commands print them."""

from collections.abc import Sequence

_TIMES = (1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with the cells of rows below each other; the first row has the titles."""
    *widths, _ = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last])
        for *cells, last in rows
    ]


def duration(seconds: float | None) -> str:
    """Return a time in a unit that fits; None: it is not known."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    for limit, unit, name in _TIMES:
        if seconds < limit:
            return f"{_figures(seconds / unit)} {name}"
    return f"{_figures(seconds / 86400)} d"


def size(count: int) -> str:
    """Return a number of bytes."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{_figures(count / unit)} {name}"
    return f"{count} B"


def number(value: float | None) -> str:
    """Return a number in about three figures; None: it is not known."""
    if value is None:
        return "-"
    if abs(value) < 10000:
        return str(int(value)) if value == int(value) else _figures(value)
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{_figures(value / unit)}{name}"
    return f"{_figures(value / 1e3)}k"


def _figures(value: float) -> str:
    # below 1 zeros after the point are no figures
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
