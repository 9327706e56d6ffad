"""bench/serving: what its table, its notes and its page say."""

import sys

import pytest

from nginx import ROOT

sys.path += [str(ROOT / "bench/serving/apps"), str(ROOT / "bench/serving"), str(ROOT / "bench")]

import report
from measure import Cell
from servers import PEERS

CELLS = {
    "WebTorch": {"xor": Cell(50000.4), "memory": Cell(300.0), "body": Cell(5.0)},
    "other": {"xor": Cell(0.1234), "memory": Cell(20.0), "body": Cell(9.0, "3 failures")},
    "third": {"xor": Cell(reason="no such format"), "memory": Cell(400.0)},
}
ROWS = ["xor", "memory", "body"]


def test_best_values_are_bold():
    lines = report.table(CELLS, ROWS).splitlines()
    assert lines[2:] == [
        "| WebTorch | **50,000** | 300 | 5 |",
        "| other | 0.123 | **20** | **9*** |",
        "| third | - | 400 | - |",
    ]


def test_notes_name_what_is_lost_and_what_is_missing():
    assert report.notes(CELLS, ROWS, {"fourth": "no wheel"}) == [
        "Better than WebTorch in memory after the load: other.",
        "Better than WebTorch in 602 KB of float32: other.",
        "other, 602 KB of float32: 3 failures.",
        "third, XOR, JSON: no such format.",
        "fourth was not measured: no wheel.",
    ]


def test_page_is_replaced_between_its_comments(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before {report.BEGIN} old {report.END} after")
    for text in ("one", "two"):
        report.write_page(page, [text, "more"])
        assert page.read_text() == (
            f"before {report.BEGIN}\n\n{text}\n\nmore\n\n{report.END} after"
        )
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no"):
        report.write_page(page, ["one"])
    # the real one has both
    assert report.END in (ROOT / "docs/performance.md").read_text().partition(report.BEGIN)[2]


def test_plot_has_a_panel_for_each_row(tmp_path):
    report.plot(CELLS, ROWS, tmp_path / "plot", "title")
    text = (tmp_path / "plot.svg").read_text()
    assert text.count("is better") == len(ROWS)
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_requests_of_all_peers_are_read_back(tmp_path):
    """The same numbers are sent, whatever the protocol is."""
    import json

    from measure import inputs

    for peer in PEERS.values():
        server = peer(tmp_path)
        for kind in ("xor", "mlp", "mlp_binary", "train", "beginning"):
            x = inputs(kind)
            request = server.request(kind, x)
            if kind in ("mlp_binary", "beginning"):
                assert request.body.endswith(x.tobytes())
            else:
                body = json.loads(request.body)
                sent = body if isinstance(body, list) else body["inputs"][0]["data"]
                assert report.text(Cell(float(x.sum()))) == report.text(Cell(_total(sent)))


def _total(values) -> float:
    return sum(map(_total, values)) if isinstance(values, list) else float(values)
