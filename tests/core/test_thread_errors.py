"""Exceptions that end threads of an application."""

import re

APP = """
import sys, threading, webtorch

def fail():
    raise ValueError("no value")

@webtorch.handler
def start(request: webtorch.Request) -> str:
    for target, name in ((fail, "failing"), (sys.exit, "leaving")):
        thread = threading.Thread(target=target, name=name)
        thread.start()
        thread.join()
    return "started"
"""


def test_exceptions_of_threads_are_records_of_the_log(start):
    server = start("location = /start { webtorch_handler app:start; }", APP)
    assert server.get("/start").text == "started"
    server.wait_for_log("ValueError: no value")
    lines = server.log().splitlines()
    (title,) = [line for line in lines if 'thread "failing" has ended:' in line]
    (error,) = [line for line in lines if "ValueError: no value" in line]
    # with time and pid, as all lines of nginx
    start_of_line = re.compile(r"\d{4}/\d\d/\d\d \S+ \[error\] \d+#\d+: ")
    assert start_of_line.match(title) and start_of_line.match(error)
    assert "leaving" not in server.log()
