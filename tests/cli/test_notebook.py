"""`%%webtorch`, and examples/notebook, whose cells are run as they are."""

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests
from IPython.core.interactiveshell import InteractiveShell

from nginx import BINARY, DEADLINE, MODULE, ROOT, free_port, release_port, wait_for
from webtorch import notebook

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


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def test_end_of_a_killed_notebook(port, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # the thread that runs a cell may end before the notebook does
    program = f"""
import threading, time
from webtorch import notebook
cell = threading.Thread(target=notebook._serving.run, args=("--port {port}", {APP!r}))
cell.start()
cell.join()
time.sleep(1)
print("is served", flush=True)
time.sleep(1000)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    processes = []
    try:
        assert process.stdout is not None
        assert any("is served" in line for line in process.stdout)
        url = f"http://127.0.0.1:{port}/scale"
        assert requests.post(url, json=[[1, 2]], timeout=DEADLINE).json() == [[2, 4]]
        processes = children(process.pid)
        assert len(processes) >= 3
        process.kill()
        process.wait()
        wait_for(lambda: not list(tmp_path.glob("webtorch-*")), "the end of its directories")
        wait_for(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "the end of all"
        )
        with pytest.raises(requests.ConnectionError):
            requests.post(url, json=[[1, 2]], timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def interrupts():
    """SIGINT raises KeyboardInterrupt, also if it was ignored when the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_cell_after_an_interrupted_one(shell, port):
    def run(text: str) -> None:
        shell.run_cell_magic("webtorch", f"--port {port}", text)

    def scale() -> list[list[float]]:
        answer = requests.post(f"http://127.0.0.1:{port}/scale", json=[[1, 2]], timeout=DEADLINE)
        return answer.json()

    shell.run_line_magic("load_ext", "webtorch.notebook")
    run(APP)
    app = notebook._serving._directory / "app.py"

    def interrupted(text: str) -> None:
        def interrupt() -> None:
            wait_for(lambda: app.read_text() == text, "the cell")
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            run(text)

    interrupted(APP.replace("2 * x", "3 * x"))
    wait_for(lambda: scale() == [[3, 6]], "the interrupted cell")
    run(APP.replace("2 * x", "4 * x"))
    assert scale() == [[4, 8]]
    # what is run next has nothing to wait for but the interrupted cell
    interrupted(APP.replace("2 * x", "5 * x"))
    run(APP.replace("2 * x", "5 * x"))
    assert scale() == [[5, 10]]


def test_outcomes_are_counted():
    outcomes = notebook._Outcomes()
    for _ in range(3):
        outcomes.read("Serving app at http://127.0.0.1:8000, Ctrl-C stops it.\n")
        outcomes.read("printed: the new code is served\n")
    assert outcomes.wait()
    outcomes.expect()
    waiting = threading.Thread(target=outcomes.wait)
    waiting.start()
    outcomes.read("served: the old code is still served\n")
    waiting.join(0.2)
    assert waiting.is_alive()
    outcomes.read("webtorch: app.py: the old code is still served\n")
    waiting.join(DEADLINE)
    assert not waiting.is_alive()
    outcomes.expect()
    outcomes.end()
    assert not outcomes.wait()


def test_outcomes_end_when_changes_are_served_no_more():
    outcomes = notebook._Outcomes()
    outcomes.read("printed: Changes are served no more.\n")
    assert not outcomes._has_ended
    outcomes.read("webtorch: the application cannot be imported. Changes are served no more.\n")
    assert not outcomes.wait()
