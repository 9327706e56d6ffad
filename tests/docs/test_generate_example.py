"""nginx-conf/generate.conf: a character model that is trained, and writes."""

import subprocess
import sys

import pytest

from browser import open_page
from nginx import ROOT, Nginx, running, wait_for


@pytest.fixture(scope="module")
def shared_server():
    """Run the real file, at another port and in another directory."""
    text = (ROOT / "nginx-conf/generate.conf").read_text()
    server_block = text[text.index("        location = /v1/write") : text.rindex("    }\n}")]
    server_block = server_block.replace("../examples", f"{ROOT}/examples")
    with running(Nginx(server_block, http=f"webtorch_path {ROOT}/examples/generate;")) as server:
        yield server


def test_text_is_written(server):
    whole = server.post("/v1/write", json={"prompt": "nginx ", "temperature": 0.5}).json()
    assert len(whole["text"]) == 400
    assert all(len(character) == 1 for character in whole["text"])
    command = ["curl", "-sN", "-H", "Accept: text/event-stream", server.url("/v1/write?prompt=a+b")]
    events = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert events.startswith('id: 0\ndata: "')
    assert events.count("\n\n") == 400
    # without arguments the defaults are used
    assert len(server.get("/v1/write?temperature=0.1").json()["text"]) == 400


def test_page_writes(server, tmp_path):
    """EventSource shows each character, and does not begin again after the end."""
    with open_page(server.url("/generate.html"), tmp_path) as page:
        wait_for(lambda: page.evaluate("document.readyState") == "complete", "the page")
        page.evaluate("document.querySelector('form').requestSubmit()")
        ended = "document.querySelector('#state').textContent"
        wait_for(lambda: page.evaluate(ended) == "It has ended.", "the end")
        # the prompt and a character of each step
        text = page.evaluate("document.querySelector('#text').textContent")
        assert text.startswith("The ") and len(text) == 4 + 400


def test_training_learns():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'examples/generate')!r})\n"
        "import torch, generate\n"
        "torch.set_num_threads(1); torch.manual_seed(1)\n"
        "generate.net = generate.Writer()\n"
        "bits = generate.train(0.1)\n"
        "while bits > 5:\n    bits = generate.train(1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
