"""The page of webtorch_status in Chromium: its numbers are those of the JSON."""

import html
import re
import shutil
import subprocess
from pathlib import Path

from nginx import DEADLINE, ROOT, Nginx, free_port, release_port, running, wait_for

APP = """
import torch
import webtorch
from jaxtyping import Float32
from torch import Tensor, nn, optim

model = webtorch.Model("line", nn.Linear(1, 1), lambda p: optim.SGD(p, lr=0.01))

@webtorch.train
def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    with webtorch.stage("run", sample=1) as s:
        y = model(x)
        s.leaves(y)
    model.step(y.square().mean())
    return x
"""

STOPPED = """
from webtorch._metrics.cells import MetricKind, Wanted, own_cells
from webtorch.metrics import Gauge

# as the worker that does rounds shows it
@webtorch.handler
def stop(request):
    labels = 'model="line",host="web-7",reason="loss"'
    wanted = Wanted(MetricKind.MAX, "webtorch_cluster_rollout_stopped", labels, "It has stopped.")
    Gauge(own_cells(wanted)).set(1.0)
    return {}
"""

SERVER = """
location = /train { webtorch_handler app:train max_batch=1; }
location = /status { webtorch_status; }
"""


def browse(url: str, tmp_path: Path) -> tuple[str, str]:
    """Load a page in Chromium for some seconds of its own time; return its document and log."""
    chromium = shutil.which("chromium")
    assert chromium, "./build.sh test installs Chromium"
    options = (
        "--headless=new",
        "--no-sandbox",  # it does not work for root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=9000",  # stands still while a request is not answered
        "--dump-dom",
    )
    done = subprocess.run(
        [chromium, *options, url], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    return done.stdout, done.stderr


def test_status_page(tmp_path):
    with running(Nginx(SERVER, APP, workers=1)) as nginx:
        for number in range(5):
            assert nginx.post("/train", [[float(number)]]).ok
        assert nginx.post("/train", "nonsense").status_code == 422
        document, log = browse(nginx.url("/status"), tmp_path)
        found = nginx.get("/status?format=json").json()

    errors = [line for line in log.splitlines() if "CONSOLE" in line]
    assert not errors
    facts = {
        html.unescape(name): value
        for name, value in re.findall(r'<dd data-fact="([^"]*)">([^<]*)</dd>', document)
    }
    (handler,) = found["handlers"]
    (model,) = found["models"]
    assert facts["requests:app:train"] == str(sum(handler["requests"].values())) == "6"
    assert facts["steps:line"] == str(model["steps"]) == "5"
    assert "200: 5, 422: 1" in document
    assert "nothing is wrong" in document
    assert document.count("<polyline") >= 4
    (stage,) = found["stages"]
    assert (stage["seconds"]["count"], stage["rows"], stage["samples"]) == (5, 5, 5)
    for heading in ("Handlers", "Models", "Stages", "Workers"):
        assert f"<h2>{heading}</h2>" in document


def test_status_page_needs_nothing_from_outside():
    page = (ROOT / "ngx_webtorch/status/status.html").read_text()
    assert not re.search(r"(?:src|href)\s*=", page)
    assert "http://" not in page
    assert "https://" not in page


def test_status_page_of_a_cluster(tmp_path):
    port = free_port()
    http = (
        "webtorch_zone models:1m; webtorch_cluster test id=web-7 secret=off timeout=1s "
        f"interval=50ms coordinator=127.0.0.1:{port} address=127.0.0.1 port={port};"
    )
    stop = "location = /stop { webtorch_handler app:stop; }"
    with running(Nginx(SERVER + stop, APP + STOPPED, http=http)) as nginx:
        assert nginx.get("/stop").ok
        for number in range(5):
            assert nginx.post("/train", [[float(number)]]).ok
        steps = 'webtorch_cluster_host_steps{host="web-7"} 5\n'
        wait_for(lambda: steps in nginx.get("/status?format=prometheus").text, steps)
        document, log = browse(nginx.url("/status"), tmp_path)
    release_port(port)
    assert "Uncaught" not in log
    row = "".join(
        f"<td>{cell}</td>" for cell in ("web-7", "takes part", "now", "0 µs", "5", "100.0 %")
    )
    assert row in document
    text = 'the rollout of new weights has stopped: model="line",host="web-7",reason="loss"'
    assert f"<li>{text}</li>" in document
    assert "webtorch_cluster_host" not in document.split("</script>")[-1]
