"""The dashboard, the alert rules and the documentation name metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nginx import ROOT

MONITORING = ROOT / "nginx-conf/monitoring"


def names_in(text: str) -> set[str]:
    found = re.findall(r"\bwebtorch_[a-z_]+", text)
    return {re.sub(r"_(?:bucket|count|sum)$", "", name) for name in found}


def exported() -> set[str]:
    """Return the names in the sources of webtorch_status."""
    sources = (ROOT / "ngx_webtorch/status").glob("*.c")
    return {
        name for path in sources for name in re.findall(r'"(webtorch_[a-z_]+)"', path.read_text())
    }


def test_monitoring_names_exist():
    board = json.loads((MONITORING / "grafana.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) > 10
    named = names_in("\n".join(expressions)) | {
        name
        for line in (MONITORING / "alerts.yaml").read_text().splitlines()
        for name in names_in(line)
        if not line.lstrip().startswith(("#", "summary"))
    }
    assert len(named) > 15
    assert named <= exported()


def test_documented_metrics_are_those_that_exist():
    rows = re.findall(r"^\| `webtorch_.*$", (ROOT / "docs/metrics.md").read_text(), re.M)
    documented = {name for row in rows for name in re.findall(r"`(webtorch_[a-z_]+)`", row)}
    # a row may name a directive after its metric
    assert documented - {"webtorch_zone", "webtorch_log"} == exported()


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's prometheus is not installed")
def test_alerts_pass_promtool():
    path: Path = MONITORING / "alerts.yaml"
    done = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
