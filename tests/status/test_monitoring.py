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
    """Return the names in the sources of webtorch_status, and of those who count beside it."""
    sources = [*(ROOT / "ngx_webtorch/status").glob("*.c")]
    sources.append(ROOT / "ngx_webtorch/shared/ngx_webtorch_split.c")
    for name in ("cluster/metrics", "threads/uploader"):
        sources.append(ROOT / f"python/webtorch/_worker/{name}.py")
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


# in five minutes: a version that a tenth of the requests get breaks, a shadow begins to differ
ALERTS = """
rule_files: [RULES]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'webtorch_requests_total{instance="a",handler="app:f",code="200"}'
        values: '0+100x5 590+90x30'
      - series: 'webtorch_requests_total{instance="a",handler="app:f",code="500"}'
        values: '0+0x5 10+10x30'
      - series: 'webtorch_shadow_requests_total{LABELS,outcome="agreed"}'
        values: '0+10x5 58+8x30'
      - series: 'webtorch_shadow_requests_total{LABELS,outcome="differed"}'
        values: '0+0x5 2+2x30'
      - series: 'webtorch_shadow_requests_total{LABELS,outcome="dropped"}'
        values: '0+90x5 540+90x30'
    alert_rule_test:
      - eval_time: 5m
        alertname: WebTorchErrors
      - eval_time: 15m
        alertname: WebTorchErrors
        exp_alerts:
          - exp_labels: {severity: critical, instance: a, handler: "app:f"}
            exp_annotations: {summary: "app:f answers 10% with errors"}
      - eval_time: 5m
        alertname: WebTorchShadowDiffers
      - eval_time: 30m
        alertname: WebTorchShadowDiffers
        exp_alerts:
          - exp_labels: {severity: warning, instance: a, handler: "app:f", shadow: "app:g"}
            exp_annotations: {summary: "app:g disagrees with app:f in 20%"}
"""


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian's prometheus is not installed")
def test_alerts_of_canary_and_shadow(tmp_path):
    path = tmp_path / "alerts.test.yaml"
    labels = 'instance="a",handler="app:f",shadow="app:g"'
    rules = str(MONITORING / "alerts.yaml")
    path.write_text(ALERTS.replace("LABELS", labels).replace("RULES", rules))
    done = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
