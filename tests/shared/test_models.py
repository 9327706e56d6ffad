"""Models that workers share: what one of them trains, all of them serve."""

import os
import re
import signal
import textwrap

import pytest
import torch
from safetensors.torch import load_file

from line import about_each
from nginx import wait_for

APP = """
    import os
    import torch, webtorch
    from jaxtyping import Float32
    from torch import Tensor, nn, optim
    from torch.nn.functional import mse_loss

    {module}

    model = webtorch.Model("net", {make}, lambda p: optim.SGD(p, lr=0.1){options})
    {after}

    @webtorch.train
    def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        model.step(mse_loss(model(x), torch.full_like(x, 5)))
        return x

    @webtorch.infer
    def output(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        return model(x)

    @webtorch.handler
    def about(request):
        with torch.no_grad():
            return {{"pid": os.getpid(), "steps": model.steps,
                     "output": model(torch.ones(1, 1)).item()}}
"""

SERVER = """
    location = /train { webtorch_handler app:train; }
    location = /output { webtorch_handler app:output; }
    location = /about { webtorch_handler app:about; }
"""

MEAN = """
class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
        return self.line(x) + self.mean
"""

ZONE = "webtorch_zone models:1m;"


def app(make, module="", options="", after=""):
    module = textwrap.indent(textwrap.dedent(module), "    ").strip()
    return APP.format(module=module, make=make, options=options, after=after)


@pytest.fixture
def directory(directory):
    # nginx makes it before workers have another user
    directory.chmod(0o755)
    return directory / "saved"


@pytest.mark.parametrize("http", ["", ZONE])
def test_scripted_module_serves_what_it_trains(start, http):
    server = start(SERVER, app("torch.jit.script(nn.Linear(1, 1))"), http=http)
    for _ in range(50):
        assert server.post("/train", [[1.0]]).ok
    assert server.post("/output", [[1.0]]).json()[0][0] == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize("lock", [False, True])
def test_assigned_buffer_is_shared_and_saved(start, lock, directory):
    server = start(
        SERVER,
        app("Mean()", MEAN, f", lock={lock}"),
        http=f"{ZONE} webtorch_checkpoint {directory} interval=1h;",
        workers=2,
    )
    for _ in range(10):
        assert server.post("/train", [[8.0]]).ok
    first, second = about_each(server)
    assert first == second
    assert server.quit() == 0
    saved = load_file(directory / "net/000000000010.safetensors")
    assert saved["mean"].item() == pytest.approx(8 - 8 / 2**10)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        ("model.module.load_state_dict(model.module.state_dict())", "app.py, line 11)"),
        (
            "model.module.bias.data.fill_(3)",
            'model "net": its weights are changed after Model()',
        ),
        ("nn.init.zeros_(model.module.bias)", 'model "net": its weights are changed after Model()'),
    ],
)
def test_weights_changed_after_the_model_are_refused(configured, reconfigured, after, text):
    code = app("nn.Linear(1, 1)", after=after)
    output = reconfigured(SERVER, code, http=ZONE).refuse()
    assert text in output
    assert "pass them as Model(..., weights=...)" in output
    assert configured(SERVER, code).check()[0] == 0


def test_loaded_weights_are_those_of_the_first_worker_alone(configured):
    """A reload and a new worker keep what has been trained since."""
    server = configured(
        SERVER, app("nn.Linear(1, 1)", options=", weights='begin.pt'"), http=ZONE, workers=2
    )
    server.expected_in_log.append("signal 9")
    begin = {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}
    torch.save(begin, server.prefix / "app/begin.pt")
    server.start()
    try:
        assert about_each(server) == [{"steps": 0, "output": 3}] * 2
        for _ in range(30):
            assert server.post("/train", [[1.0]]).ok
        trained = about_each(server)
        assert trained[0]["steps"] == 30 and trained[0]["output"] == pytest.approx(5, abs=0.1)
        server.reload()
        assert about_each(server) == trained, server.log()
        killed = server.workers()[0]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(server.workers()) == 2 and killed not in server.workers(), "a worker")
        assert about_each(server) == trained
    finally:
        assert server.quit() == 0
    assert not server.unexpected_in_log()


def test_reloaded_code_that_changes_weights_is_refused(start):
    server = start(SERVER, app("nn.Linear(1, 1)"), http=f"{ZONE} webtorch_reload on;")
    assert server.post("/train", [[1.0]]).ok
    before = about_each(server)
    load = "model.module.load_state_dict({'weight': torch.zeros(1, 1), 'bias': torch.zeros(1)})"
    server.write_app(app("nn.Linear(1, 1)", after=load))
    server.wait_for_log("the old code is still served")
    server.wait_for_log(r"pass them as Model\(\.\.\., weights=\.\.\.\)")
    assert about_each(server) == before


def test_file_of_weights_that_has_changed(configured, tmp_path):
    """The zone's weights are kept, which the log says at each reload, once for all workers."""
    server = configured(
        SERVER, app("nn.Linear(1, 1)", options=", weights='begin.pt'"), http=ZONE, workers=2
    )
    path = server.prefix / "app/begin.pt"
    begin = {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}
    torch.save(begin, path)
    message = r"\[warn\].*model \"\w+\" keeps what it has learned in the zone, 1 steps, although"

    def count() -> int:
        return len(re.findall(message, server.log()))

    server.start()
    try:
        assert server.post("/train", [[1.0]]).ok
        server.reload()
        before = about_each(server)
        assert count() == 0
        torch.save({key: 10 * value for key, value in begin.items()}, path)
        for n in (1, 2):
            server.reload()
            assert about_each(server) == before
            assert count() == n, server.log()
        assert "restart nginx to take it" in server.log()
    finally:
        assert server.quit() == 0
    server.start()
    try:
        assert about_each(server) == [{"steps": 0, "output": 30}] * 2
        assert count() == 2
        checkpoints = f"{ZONE} webtorch_checkpoint {tmp_path};"
        tmp_path.chmod(0o777)
        server.configure(http=checkpoints)
        server.reload()
        torch.save(begin, path)
        server.reload()
        server.wait_for_log("put the file into the model's directory of webtorch_checkpoint")
    finally:
        assert server.quit() == 0
    assert not server.unexpected_in_log()
