"""Time in the error log, for lines that are written beside the event loop."""

import re
import time
from datetime import datetime

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


def test_time_of_log_lines_after_a_long_import(start):
    begin = int(time.time())
    code = "import time\ntime.sleep(2)\n" + APP
    server = start("location = /x { webtorch_handler app:answer; }", code)
    # the check has slept before
    line = re.search(r"^(\S+ \S+) .*start worker process ", server.log(), re.MULTILINE)
    assert datetime.strptime(line[1], "%Y/%m/%d %H:%M:%S").timestamp() >= begin + 2
