"""`%%webtorch`, and examples/notebook, whose cells are run as they are."""

import json
import re

import pytest
import requests
from IPython.core.interactiveshell import InteractiveShell

from nginx import BINARY, MODULE, ROOT, free_port, release_port

APP = """\
import webtorch
from jaxtyping import Float32
from torch import Tensor

@webtorch.infer
def scale(x: Float32[Tensor, "batch 2"]) -> Float32[Tensor, "batch 2"]:
    return 2 * x
"""


@pytest.fixture
def port(monkeypatch):
    number = free_port()
    monkeypatch.setenv("WEBTORCH_SERVE_NGINX", BINARY.path)
    if BINARY.load_module:
        monkeypatch.setenv("WEBTORCH_SERVE_MODULE", str(MODULE))
    # plots are drawn, and not shown
    monkeypatch.setenv("MPLBACKEND", "Agg")
    yield number
    release_port(number)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    yield shell
    shell.run_line_magic("unload_ext", "webtorch.notebook")
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def test_cells_of_the_example(shell, port, capfd):
    cells = json.loads((ROOT / "examples/notebook/notebook.ipynb").read_text())["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            shell.run_cell("".join(cell["source"]).replace("8000", str(port))).raise_error()
    output = capfd.readouterr().out
    assert f"Serving app at http://127.0.0.1:{port}" in output
    (first, last) = re.search(r"accuracy ([\d.]+), and ([\d.]+) after", output).groups()
    assert float(first) < float(last) > 0.9
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=5)


def test_changed_and_broken_cells(shell, port, capfd):
    def run(text: str) -> None:
        shell.run_cell_magic("webtorch", f"--port {port}", text)

    def scale() -> list[list[float]]:
        answer = requests.post(f"http://127.0.0.1:{port}/scale", json=[[1, 2]], timeout=60)
        return answer.json()

    shell.run_line_magic("load_ext", "webtorch.notebook")
    run(APP)
    assert scale() == [[2, 4]]
    run(APP.replace("2 * x", "3 * x"))
    assert scale() == [[3, 6]]
    run(APP.replace("2 * x", "2 * )"))
    assert "SyntaxError" in capfd.readouterr().out
    assert scale() == [[3, 6]]
    # nothing has changed, so there is nothing to wait for
    run(APP.replace("2 * x", "2 * )"))

    with pytest.raises(ValueError, match="followed by a cell"):
        shell.run_line_magic("webtorch", "start")
    with pytest.raises(RuntimeError, match="has ended"):
        shell.run_cell_magic("webtorch", "--port 99999", APP)
