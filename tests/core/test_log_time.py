"""Time in the error log, for lines that are written beside the event loop."""

import re

from nginx import wait_for

APP = """
import logging, threading, webtorch

logging.getLogger().setLevel(logging.INFO)
stop = threading.Event()


def tick():
    while not stop.wait(0.2):
        logging.getLogger().info("tick")


threading.Thread(target=tick, daemon=True).start()


@webtorch.handler
def answer(request: webtorch.Request) -> str:
    return "answer"
"""


def test_time_of_log_lines_of_threads_goes_on_in_an_idle_worker(start):
    server = start("location = /x { webtorch_handler app:answer; }", APP)

    def times() -> set[str]:
        return set(re.findall(r"^(\S+ \S+) .*webtorch: tick", server.log(), re.MULTILINE))

    # no request comes, nginx's own clock stands still
    wait_for(lambda: len(times()) >= 3, "log lines of three seconds")
