"""Choices that are taken as often as they earn rewards."""

import os
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from nginx import wait_for

APP = """
    import multiprocessing
    import webtorch

    @webtorch.handler
    def earn(request, split: str, choice: str, value: float, times: int = 1):
        for _ in range(times):
            try:
                webtorch.reward(split, choice, value)
            except (LookupError, ValueError) as error:
                return {"error": f"{type(error).__name__}: {error}"}
        return {}

    @webtorch.handler
    def fork(request):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=webtorch.reward, args=("way", "a", 1))
        process.start()
        process.join()
        return {"code": process.exitcode}
"""

SERVER = """
    location = /way { return 200 $way; }
    location = /earn { webtorch_handler app:earn; }
    location = /fork { webtorch_handler app:fork; }
    location = /status { webtorch_status; }
"""

SPLIT = "webtorch_split $way a b key=$arg_key min=0% half_life=off;"


def ways(server, keys) -> Counter[str]:
    return Counter(server.get(f"/way?key={key}").text for key in keys)


def earn(server, choice, value, times=1):
    path = f"/earn?split=way&choice={choice}&value={value}&times={times}"
    assert server.post(path).json() == {}


def metrics(server):
    text = server.get("/status?format=openmetrics").text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("webtorch_split"):
                bound = float(sample.labels["le"]) if "le" in sample.labels else None
                key = (sample.name, sample.labels["choice"], bound)
                assert sample.labels["split"] == "way"
                found[key] = sample.value
    return found


def test_choices_are_equal_until_one_earns_more(start):
    server = start(SERVER, APP, http=SPLIT, workers=2)
    keys = range(200)
    before = {key: server.get(f"/way?key={key}").text for key in keys}
    assert 60 < Counter(before.values())["a"] < 140
    # a key stays with its choice, in any worker
    assert all(server.get(f"/way?key={key}").text == way for key, way in before.items())

    earn(server, "a", 0.9, 50)
    earn(server, "b", 0.8, 50)
    between = {key: server.get(f"/way?key={key}").text for key in keys}
    assert 150 < Counter(between.values())["a"] < 200
    # those of the better one have stayed
    assert sum(between[key] == "b" for key in keys if before[key] == "a") < 10

    earn(server, "a", 0.9, 2000)
    earn(server, "b", 0.8, 2000)
    assert ways(server, keys) == {"a": 200}

    found = metrics(server)
    assert found["webtorch_split_requests_total", "b", None] == sum(
        way == "b" for way in [*before.values(), *before.values(), *between.values()]
    )
    assert found["webtorch_split_reward_count", "a", None] == 2050
    assert found["webtorch_split_reward_sum", "a", None] == pytest.approx(0.9 * 2050)
    assert found["webtorch_split_reward_bucket", "b", 0.75] == 0
    assert found["webtorch_split_reward_bucket", "b", 1.0] == 2050


def test_empty_key_is_none(start):
    server = start(SERVER, APP, http=SPLIT)
    assert len({server.get("/way?key=").text for _ in range(60)}) == 2


def test_variable_that_is_only_logged_is_not_used(start):
    server = start(
        """
        access_log way.log way;
        location = /way { return 200 $way; }
        location = /file { return 200 "x"; }
        location = /earn { webtorch_handler app:earn; }
        location = /status { webtorch_status; }
        """,
        APP,
        http='log_format way "$uri $way"; webtorch_split $Way a b reward=1;',
    )
    for _ in range(5):
        assert server.get("/file").ok
    way = server.get("/way").text
    path = server.prefix / "way.log"
    wait_for(lambda: len(path.read_text().splitlines()) >= 6, "the access log")
    assert path.read_text().splitlines()[-6:] == ["/file -"] * 5 + [f"/way {way}"]
    found = metrics(server)
    assert sum(found["webtorch_split_requests_total", each, None] for each in "ab") == 1
    assert found["webtorch_split_reward_sum", way, None] == 1


def test_reload_that_begins_to_forget(start):
    server = start(SERVER, APP, http=SPLIT)
    earn(server, "a", 1, 500)
    earn(server, "b", 0, 500)
    server.configure(http=SPLIT.replace("off", "10s"))
    server.reload()
    assert ways(server, range(30))["a"] > 25


def test_without_a_key_each_request_has_a_draw(start):
    server = start(SERVER, APP, http="webtorch_split $way a b c;")
    found = ways(server, range(300))
    assert len(found) == 3
    assert min(found.values()) > 60


def test_minimum_share_of_a_bad_choice(start):
    server = start(SERVER, APP, http="webtorch_split $way a b key=$arg_key min=20%;")
    earn(server, "a", 1, 1000)
    earn(server, "b", 0, 1000)
    assert 25 < ways(server, range(200))["b"] < 60


def test_rewards_of_the_log_phase(start):
    server = start(
        """
        location = /serve { if ($way = bad) { return 500; } return 200; }
        location = /odd { add_header Way $way; set $value 2; return 200; }
        location = /later { add_header Way $way; set $value ""; return 200; }
        location = /unused { return 200; }
        location = /earn { webtorch_handler app:earn; }
        location = /status { webtorch_status; }
        """,
        APP,
        http="""
        map $status $answered { 200 1; default 0; }
        map $uri $reward { /serve $answered; default $value; }
        webtorch_split $way bad good min=0% reward=$reward;
        """,
    )
    answers = Counter(server.get("/serve").status_code for _ in range(300))
    assert answers[500] < 60
    found = metrics(server)
    assert found["webtorch_split_reward_count", "good", None] == answers[200]
    assert found["webtorch_split_reward_sum", "good", None] == answers[200]
    assert found["webtorch_split_reward_count", "bad", None] == answers[500]
    assert found["webtorch_split_reward_sum", "bad", None] == 0

    for path in ("odd", "odd", "later", "unused"):
        assert server.get(f"/{path}").ok
    server.wait_for_log(
        r'\[warn\].*webtorch_split "\$way": the reward "2" is not a number from 0 to 1'
    )
    assert metrics(server)["webtorch_split_reward_count", "good", None] == answers[200]


def test_reload_keeps_what_is_known(start):
    server = start(SERVER, APP, http=SPLIT, workers=2)
    earn(server, "a", 1, 500)
    earn(server, "b", 0, 500)
    server.reload()
    assert ways(server, range(50)) == {"a": 50}

    # a choice that is new begins with equal chances, others stay as they are
    server.configure(http=SPLIT.replace("a b", "b c"))
    server.reload()
    found = ways(server, range(100))
    assert found.keys() <= {"b", "c"}
    assert found["c"] > 90
    earn(server, "c", 0, 500)
    server.configure(http=SPLIT.replace("a b", "c a b"))
    server.reload()
    assert ways(server, range(50)) == {"a": 50}


def test_choices_beyond_those_that_are_remembered(start):
    server = start(SERVER, APP, http=SPLIT)
    earn(server, "a", 1, 500)
    for i in range(6):
        names = " ".join(f"n{i}-{j}" for j in range(15))
        server.configure(http=SPLIT.replace("a b", f"a {names}"))
        server.reload()
        assert ways(server, range(30))["a"] > 20
    server.configure(http=SPLIT)
    server.reload()
    assert ways(server, range(50))["a"] > 40


def test_rewards_while_workers_are_killed(start):
    server = start(SERVER, APP, http=SPLIT, workers=2, expected=("exited on signal 9",))

    def run(number):
        for _ in range(40):
            try:
                earn(server, "ab"[number % 2], 1, 50)
            except (requests.RequestException, AssertionError):
                continue  # the worker was killed

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(run, number) for number in range(4)]
        for _ in range(5):
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_for(lambda: len(server.workers()) == 2, "a new worker")
        for each in done:
            each.result()
    assert ways(server, range(20)).total() == 20


def test_reward_that_cannot_be_given(start):
    server = start(SERVER, APP, http=SPLIT)

    def error(query):
        return server.post(f"/earn?{query}").json()["error"]

    assert error("split=no&choice=a&value=1") == (
        "LookupError: the configuration has no webtorch_split for $no"
    )
    assert error("split=way&choice=%ff%00&value=1").startswith("LookupError: webtorch_split $way")
    assert error("split=way&choice=a&value=1.1") == "ValueError: a reward is from 0 to 1, not 1.1"
    assert error("split=way&choice=a&value=nan") == "ValueError: a reward is from 0 to 1, not nan"

    # a forked child reports nothing
    assert server.post("/fork").json() == {"code": 0}
    assert metrics(server)["webtorch_split_reward_count", "a", None] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("way a b", 'invalid variable name "way"'),
        ("$way a", "needs two choices or more"),
        ("$way a a", "has a choice twice"),
        ("$way a b/c", 'invalid choice "b/c"'),
        ("$way a " + "b" * 65, "invalid choice"),
        ("$way " + " ".join(map(str, range(17))), "has more than 16 choices"),
        ("$way a b min=5", 'invalid parameter "min=5"'),
        ("$way a b min=51%", 'has a "min=" that is too large'),
        ("$way a b half_life=1s", 'invalid parameter "half_life=1s"'),
        ("$way a b key=", 'invalid parameter "key="'),
        ("$way a b key=$x key=$y", "has a parameter twice"),
        ("$way a b often=1", 'invalid parameter "often=1"'),
        ("$host a b", 'the duplicate "host" variable'),
    ],
)
def test_directive_errors(configured, text, message):
    status, output = configured(SERVER, APP, http=f"webtorch_split {text};").check()
    assert status == 1
    line = next(line for line in output.splitlines() if "[emerg]" in line)
    assert message in line
    assert re.search(r"nginx\.conf:\d+$", line)
