"""The directive webtorch_intraop_threads: threads of a torch operator."""

import os

import pytest

APP = """
import torch, webtorch

@webtorch.handler
def threads(request): return str(torch.get_num_threads())
"""

SERVER = """
location = /inline { webtorch_handler app:threads mode=inline; }
location = /thread { webtorch_handler app:threads mode=thread; }
"""


def test_threads_of_handlers_and_of_the_event_loop(start):
    server = start(SERVER, APP, http="webtorch_intraop_threads 3;")
    assert server.get("/thread").text == "3"
    assert server.get("/inline").text == "1"


@pytest.mark.parametrize("workers", [1, 2])
def test_default_shares_the_cores_among_workers(start, workers):
    server = start(SERVER, APP, workers=workers)
    assert server.get("/thread").text == str(max(1, (os.cpu_count() or 1) // workers))


@pytest.mark.parametrize("value", ["0", "-1", "x", "1025"])
def test_invalid_values(configured, value):
    status, output = configured(SERVER, APP, http=f"webtorch_intraop_threads {value};").check()
    assert status == 1 and "[emerg]" in output
