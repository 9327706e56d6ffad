"""examples/gpgpu/norms.py: a kernel of Triton, by its interpreter and on a GPU."""

import importlib.util

import pytest
import torch

from nginx import ROOT, Nginx, running

has_triton = importlib.util.find_spec("triton") is not None
has_gpu = torch.cuda.is_available()

APP = """
import webtorch
from norms import has_kernel, norm, normalise  # what is served

@webtorch.handler
def about(request):
    return {"has_kernel": has_kernel(norm.module.weight)}
"""

LOCATIONS = """
location = /normalise { webtorch_handler app:normalise; }
location = /about { webtorch_handler app:about; }
"""


def check(main: str, has_kernel: bool) -> None:
    """Serve the function, and compare it with its definition."""
    path = f"webtorch_path {ROOT}/examples/gpgpu;"
    with running(Nginx(LOCATIONS, app=APP, http=path, main=main)) as server:
        x = 3 * torch.randn(5, 1024)
        answer = server.post("/normalise", x.tolist())
        assert answer.ok, server.log()[-4000:]
        expected = x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(torch.tensor(answer.json()), expected, rtol=1e-5, atol=1e-5)
        assert server.get("/about").json() == {"has_kernel": has_kernel}


def test_norms_without_a_kernel():
    check("", has_gpu and has_triton)


@pytest.mark.skipif(not has_triton, reason="pip install triton, 1 GB")
def test_norms_by_the_interpreter(monkeypatch):
    # in nginx's own environment, too: PyTorch imports Triton in the master
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check("env TRITON_INTERPRET;", True)


@pytest.mark.gpu
@pytest.mark.skipif(not (has_triton and has_gpu), reason="Triton or a GPU is missing")
def test_norms_on_a_gpu():
    check("", True)
