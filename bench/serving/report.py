"""The table, and the plot."""

from pathlib import Path
from typing import Any

from measure import ROWS, Cell

BEGIN, END = "<!-- measured by bench/serving -->", "<!-- end -->"

Cells = dict[str, dict[str, Cell]]
"""Of each server, by its name, and of each row, by its key."""


def ranked(cells: Cells, row: str) -> list[str]:
    """Return the servers that have a value in a row, the best one first."""
    values = {
        name: found[row].value
        for name, found in cells.items()
        if row in found and found[row].value is not None
    }
    sign = -1 if ROWS[row].more_is_better else 1
    return sorted(values, key=lambda name: sign * (values[name] or 0))


def text(cell: Cell | None) -> str:
    """Return a value with three digits, or a dash."""
    if cell is None or cell.value is None:
        return "-"
    digits = f"{cell.value:,.0f}" if cell.value >= 100 else f"{cell.value:.3g}"
    return digits + ("*" if cell.reason else "")


def table(cells: Cells, rows: list[str]) -> str:
    """Return the table in Markdown: a line for each server; the best values are bold."""
    head = ["", *(f"{ROWS[row].name}, {ROWS[row].unit}" for row in rows)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * len(rows)]
    winners = {row: "".join(ranked(cells, row)[:1]) for row in rows}
    for name, found in cells.items():
        values = [text(found.get(row)) for row in rows]
        values = [
            f"**{value}**" if winners[row] == name else value
            for row, value in zip(rows, values, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def notes(cells: Cells, rows: list[str], unavailable: dict[str, str]) -> list[str]:
    """Return sentences about what is missing, has failed, or is won by peers."""
    found = []
    for row in rows:
        order = ranked(cells, row)
        ahead = order[: order.index("WebTorch")] if "WebTorch" in order else []
        if ahead:
            found.append(f"Better than WebTorch in {ROWS[row].name}: {'; '.join(ahead)}.")
    for name, by_row in cells.items():
        reasons: dict[str, list[str]] = {}
        for row, cell in by_row.items():
            if cell.reason:
                reasons.setdefault(cell.reason, []).append(ROWS[row].name)
        found += [f"{name}, {'; '.join(names)}: {why}." for why, names in reasons.items()]
    found += [f"{name} was not measured: {why}." for name, why in unavailable.items()]
    return found


def write_page(page: Path, lines: list[str]) -> None:
    """Replace what a page has between its two comments.

    Args:
        page: File in Markdown.
        lines: Paragraphs of the new text.

    Raises:
        ValueError: The page does not have both comments.

    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    page.write_text(before + begin + "\n\n" + "\n\n".join(lines) + "\n\n" + end + after)


def plot(
    cells: Cells,
    rows: list[str],
    path: Path,
    title: str,
    suffixes: tuple[str, ...] = (".svg", ".png"),
) -> None:
    """Draw a panel for each row.

    Args:
        cells: What was measured.
        rows: Which rows are drawn.
        path: File without a suffix.
        title: A line with the machine and the date.
        suffixes: Formats that are written.

    """
    import matplotlib

    matplotlib.use("Agg")
    # text stays text: it can be found, and is small
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    columns = min(3, len(rows))
    height = -(-len(rows) // columns)
    figure, panels = pyplot.subplots(
        height, columns, figsize=(4 * columns, 2.6 * height), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(rows) :]:
        panel.axis("off")
    names = list(cells)[::-1]
    for panel, row in zip(panels.flat, rows, strict=False):
        values: list[Any] = [getattr(cells[name].get(row), "value", None) or 0 for name in names]
        colors = ["tab:green" if name == "WebTorch" else "tab:gray" for name in names]
        bars = panel.barh(names, values, color=colors)
        labels = [text(cells[name].get(row)) for name in names]
        panel.bar_label(bars, labels, padding=3, fontsize=8)
        arrow = "more" if ROWS[row].more_is_better else "less"
        panel.set_title(f"{ROWS[row].name}\n{ROWS[row].unit}, {arrow} is better", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.2)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    for suffix in suffixes:
        figure.savefig(path.with_suffix(suffix), dpi=120)
    pyplot.close(figure)
