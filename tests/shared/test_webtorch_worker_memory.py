"""webtorch_worker_memory: a worker that outgrows it is replaced."""

import pytest

from nginx import wait_for

APP = """
    import os
    import webtorch

    kept = []

    @webtorch.handler
    def leak(request):
        kept.append(bytes([len(kept) % 256]) * (10 << 20))
        return str(os.getpid())
"""

SERVER = "location = /leak { webtorch_handler app:leak; }"


def test_leaking_worker_replaced_without_lost_requests(start):
    server = start(SERVER, APP, http="webtorch_worker_memory 500m;", workers=2)
    before = set(server.workers())
    answered = set()

    def replaced():
        answered.add(int(server.get("/leak").text))
        return len(answered - before) > 1

    wait_for(replaced, "two new workers")
    server.wait_for_log(r"the worker has \d+k of memory, which is above \"webtorch_worker_memory\"")


@pytest.mark.parametrize("size", ["0x", "-1", ""])
def test_invalid_sizes(configured, size):
    status, output = configured(SERVER, APP, http=f'webtorch_worker_memory "{size}";').check()
    assert status == 1
    assert '"webtorch_worker_memory" directive invalid value' in output
