"""Generations: many outputs for one request, all that are open in one call."""

import concurrent.futures
import contextlib
import json
import signal
import threading

import httpx
import numpy as np
import pytest
import requests
import torch
import tritonclient.http as triton

from answers import check_error
from nginx import DEADLINE, Nginx, free_port, running, wait_for
from wire import connections, request

APP = """
import threading
from typing import NamedTuple
import torch, webtorch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor
from webtorch import State, Strings

gate = threading.Event()
gate.set()
calls = []

@webtorch.handler
def control(request: webtorch.Request) -> dict:
    if request.args == "shut":
        gate.clear()
        calls.clear()
    elif request.args == "open":
        gate.set()
    return {"calls": calls, "kept": sum(each is not None for each in texts.tables[0]._rows)}

class Count(NamedTuple):
    n: Int64[Tensor, "batch"]
    left: State[Int64[Tensor, "batch"]]
    at: State[Int64[Tensor, "batch"]]
    done: Bool[Tensor, "batch"]

@webtorch.generate
def count(left: State[Int64[Tensor, "batch"]], at: State[Int64[Tensor, "batch"]]) -> Count:
    "Counts from the start of each request, as many numbers as it wants."
    calls.append(len(left))
    gate.wait()
    if (at == 666).any():
        raise ValueError("on purpose")
    if (at == 429).any():
        raise webtorch.HTTPError(429, {"at": 429}, code="no_more")
    left -= 1
    return Count(at.clone(), left, at + 1, left == 0)

@count.open
def begin(start: Int64[Tensor, ""], n: Int64[Tensor, ""] = 3) -> tuple[Tensor, Tensor]:
    if start < 0:
        raise webtorch.HTTPError(403, "not you")
    return n, start

class Text(NamedTuple):
    text: Strings[list[str], "batch"]
    size: Float32[Tensor, "batch 2"]
    words: State[list[list[str]]]
    done: Bool[Tensor, "batch"]

@webtorch.generate
def texts(words: State[list[list[str]]]) -> Text:
    first = [each.pop(0) for each in words]
    sizes = torch.tensor([[len(word), 0.5] for word in first])
    return Text(first, sizes, words, torch.tensor([not each for each in words]))

@texts.open
def begin_texts(prompt: Strings[list[str], "batch"]) -> list[list[str]]:
    return [each.split() for each in prompt]

class Chat(NamedTuple):
    text_output: Strings[list[str], "batch"]
    words: State[list[list[str]]]
    done: Bool[Tensor, "batch"]

@webtorch.generate
def chat(words: State[list[list[str]]]) -> Chat:
    first = [each.pop(0) for each in words]
    return Chat(first, words, torch.tensor([not each for each in words]))

@chat.open
def begin_chat(
    text_input: Strings[list[str], "batch"], max_tokens: Int64[Tensor, "batch"] = 100
) -> list[list[str]]:
    return [list(text)[:most] for text, most in zip(text_input, max_tokens.tolist())]

other_name = count

@webtorch.infer
def guard(bytes: UInt8[Tensor, "batch 64"]) -> Float32[Tensor, "batch"]:
    return (bytes == ord("~")).any(1).float()

@webtorch.generate
def endless(x: State[Float32[Tensor, "batch 3"]]) -> tuple[
    Float32[Tensor, "batch 3"], State[Float32[Tensor, "batch 3"]]
]:
    return x, x + 1

@endless.open
def begin_endless(x: Float32[Tensor, "3"]) -> Float32[Tensor, "3"]:
    return x
"""

H2_PORT = free_port()

SERVER = """
location = /count { webtorch_handler app:count; }
location = /thread { webtorch_handler app:count mode=thread; }
location = /pinged { webtorch_handler app:count mode=thread ping=20ms; }
location = /one { webtorch_handler app:count mode=thread queue=1; }
location = /other { webtorch_handler app:other_name; }
location = /guarded { webtorch_access app:guard body=8k; webtorch_handler app:count; }
location = /texts { webtorch_handler app:texts; }
location = /endless { webtorch_handler app:endless max_steps=5; }
location = /large { webtorch_handler app:endless max_steps=1000000 max_streams=2; }
location = /control { webtorch_handler app:control mode=thread; }
location = /guard { webtorch_handler app:guard; }
location = /chat { webtorch_handler app:chat; }
location /v2 { webtorch_inference_protocol; }
"""

HTTP = f"""
server {{
    listen 127.0.0.1:{H2_PORT} http2;
    {SERVER}
}}
"""


@pytest.fixture(scope="module")
def shared_server():
    with running(Nginx(SERVER, APP, http=HTTP)) as server:
        yield server


def control(server, command=""):
    return server.get(f"/control?{command}").json()


def test_answer_is_json(server):
    answer = server.post("/count", json={"start": 5})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"n": [5, 6, 7]}
    for path in ("/thread", "/other"):
        answer = server.post(path, json={"start": 1, "n": 100})
        assert answer.json() == {"n": [*range(1, 101)]}


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("application/x-ndjson", "5\n6\n7\n"),
        ("text/event-stream", "id: 0\ndata: 5\n\nid: 1\ndata: 6\n\nid: 2\ndata: 7\n\n"),
        ("application/json;q=0.1, text/event-stream;q=0", '{"n":[5,6,7]}'),
        ("*/*", '{"n":[5,6,7]}'),
    ],
    ids=["lines", "events", "json", "any"],
)
def test_format_by_accept(server, accept, text):
    headers = {"Accept": accept}
    answer = server.post("/count", json={"start": 5, "n": 3}, headers=headers)
    assert answer.text == text
    # an EventSource has no body
    assert server.get("/count?start=5&n=3", headers=headers).text == text


def test_strings_and_objects(server):
    answer = server.get("/texts?prompt=a+%22b%22+%C3%A4%2B%26")
    assert answer.json() == {
        "text": ["a", '"b"', "ä+&"],
        "size": [[1, 0.5], [3, 0.5], [3, 0.5]],
    }
    lines = server.post(
        "/texts", json={"prompt": "a b"}, headers={"Accept": "application/x-ndjson"}
    )
    assert [json.loads(line) for line in lines.text.splitlines()] == [
        {"text": "a", "size": [1, 0.5]},
        {"text": "b", "size": [1, 0.5]},
    ]
    wait_for(lambda: control(server)["kept"] == 0, "objects that are released")


def test_end_of_an_event_source(server):
    """It comes back after the end, unless the status is 204."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "2"}
    assert server.get("/count?start=5", headers=headers).status_code == 204


def test_bodies_of_other_formats(server):
    raw = np.array([1, 2, 3], np.float32)
    rows = [[1 + i, 2 + i, 3 + i] for i in range(5)]
    answer = server.post(
        "/endless", data=raw.tobytes(), headers={"Content-Type": "application/octet-stream"}
    )
    assert answer.json() == {"output": rows}
    assert server.post("/endless", json=[1, 2, 3]).json() == {"output": rows}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/count", {"n": 1}, 422, "missing_tensor"),
        ("/count", {"start": "x"}, 422, "wrong_dtype"),
        ("/count", {"start": 1, "other": 1}, 422, None),
        ("/count", {"start": -1}, 403, "forbidden"),
        ("/endless", [1, 2], 422, "wrong_shape"),
        ("/endless", [[1, 2, 3], [1, 2, 3]], 422, None),
        ("/count", {"start": 665}, 500, "handler_failed"),
        ("/count", {"start": 428}, 429, "no_more"),
    ],
)
def test_errors_before_the_head(server, path, body, status, code):
    answer = server.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["code"] == code
    if code is None:
        assert answer.json()["error"]


def test_errors_of_requests(server):
    for query, name, reason in (
        ("start=[", "start", "it ends"),
        ("n=2&start=x", "start", '"x" at byte 1'),
        ("start=1,%22n%22:5", "start", ""),
        ("start=&n=1", "start", ""),
        ("start=1&n=NaN", "n", "JSON has no NaN"),
    ):
        expected = f'argument "{name}": invalid JSON: '
        check_error(server.get(f"/count?{query}"), 400, "malformed_body", expected, reason)
    check_error(server.get("/count?start=1e999"), 422, "out_of_range")
    assert server.request("DELETE", "/count").status_code == 405
    answer = server.post("/count", json={"start": 1}, headers={"Accept": "text/html"})
    assert answer.status_code == 406
    answer = server.post("/count", data=b"x", headers={"Content-Type": "x/y"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("start", "code"), [(665, "handler_failed"), (428, "no_more")], ids=["value", "http"]
)
def test_error_after_the_head(server, start, code):
    """A row that fails ends its own generation, and no other one in the same call."""
    headers = {"Accept": "application/x-ndjson"}
    control(server, "shut")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # the first call waits: the others are one call after it
        good = [
            pool.submit(server.post, "/thread", json={"start": 1, "n": 9}, headers=headers)
            for _ in range(4)
        ]
        bad = pool.submit(server.post, "/thread", json={"start": start, "n": 9}, headers=headers)
        wait_for(lambda: control(server)["calls"], "a call")
        control(server, "open")
        for each in good:
            assert each.result().text == "".join(f"{n}\n" for n in range(1, 10))
        *rows, last = bad.result().text.splitlines()
    assert rows == [str(start)]
    assert json.loads(last)["code"] == code


def test_generations_advance_together(server):
    """Those that come during a call join the next one."""
    count = 30
    control(server, "shut")
    with connections(server, count) as wires:
        for index, wire in enumerate(wires):
            wire.post("/thread", {"start": index, "n": 20})
            if index == 0:
                wait_for(lambda: control(server)["calls"] == [1], "the first call")
        # all have begun when their heads are answered to others
        assert server.post("/endless", json=[1, 2, 3]).ok
        control(server, "open")
        for index, wire in enumerate(wires):
            assert wire.answer().json() == {"n": [*range(index, index + 20)]}
    calls = control(server)["calls"]
    assert sum(calls) == 20 * count
    assert max(calls) > count / 2
    assert len(calls) < 20 * count / 2


def test_graceful_exit_waits(start):
    """Also between two steps."""
    app = APP.replace("    gate.wait()\n", "    time.sleep(0.005)\n")
    server = start(SERVER, app.replace("import threading\n", "import threading, time\n"))
    with requests.post(
        server.url("/count"),
        json={"start": 0, "n": 200},
        headers={"Accept": "application/x-ndjson"},
        stream=True,
        timeout=DEADLINE,
    ) as answer:
        rows = answer.iter_lines()
        assert next(rows) == b"0"
        server.process.send_signal(signal.SIGQUIT)
        assert [int(row) for row in rows] == [*range(1, 200)]


def test_whole_answer_that_is_too_large(server):
    answer = server.post("/large", json=[1, 2, 3])
    assert answer.status_code == 406
    assert "accept application/x-ndjson" in answer.json()["error"]


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ("application/jsonl", "0\n1\n2\n"),
        ("application/json;q=0.5, application/x-ndjson", "0\n1\n2\n"),
        ("application/json;charset=utf-8", '{"n":[0,1,2]}'),
        ("", '{"n":[0,1,2]}'),
    ],
    ids=["jsonl", "quality", "parameter", "empty"],
)
def test_generate_accept_selects_format(server, accept, text):
    answer = server.post("/count", json={"start": 0}, headers={"Accept": accept})
    assert answer.text == text


def test_body_is_scored(server):
    assert server.post("/guarded", json={"start": 0}).status_code == 200
    assert server.post("/guarded", json={"start": 0, "n": "~"}).status_code == 403


def test_pings_while_a_step_is_waited_for(server):
    control(server, "shut")
    headers = {"Accept": "text/event-stream"}
    with httpx.stream(
        "POST", server.url("/pinged"), json={"start": 5}, headers=headers, timeout=DEADLINE
    ) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == [": ping"] * 3
        control(server, "open")
        assert [line for line in lines if "data" in line] == ["data: 5", "data: 6", "data: 7"]


def test_full_queue(server):
    control(server, "shut")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(server.post, "/one", json={"start": 5})
            wait_for(lambda: control(server)["calls"], "the first generation")
            answer = server.post("/one", json={"start": 5})
            assert answer.status_code == 503
            assert answer.json()["code"] == "queue_full"
        finally:
            control(server, "open")
        assert first.result().status_code == 200


def test_max_steps_and_max_streams(server):
    headers = {"Accept": "application/x-ndjson"}
    assert len(server.post("/endless", json=[1, 2, 3], headers=headers).text.splitlines()) == 5
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=DEADLINE))
        for _ in range(2):
            answer = stack.enter_context(
                client.stream("POST", server.url("/large"), json=[1, 2, 3], headers=headers)
            )
            assert answer.status_code == 200
        answer = server.post("/large", json=[1, 2, 3])
        assert answer.status_code == 503
        assert answer.json()["code"] == "too_many_streams"

    # clients that have gone have left their rows
    def is_free():
        with httpx.stream(
            "POST", server.url("/large"), json=[1, 2, 3], headers=headers, timeout=DEADLINE
        ) as answer:
            return answer.status_code == 200

    wait_for(is_free, "a free row")


def test_slow_client_stops_its_generation(server):
    """What it gets when it reads on is whole; no other one waits for it."""
    headers = ("Accept: application/x-ndjson", "Content-Type: application/json")
    with connections(server, 1) as [wire]:
        wire.send(request("/large", b"[0,0,0]", *headers))
        for _ in range(3):
            assert server.post("/count", json={"start": 1}).json() == {"n": [1, 2, 3]}
    with httpx.stream(
        "POST", server.url("/large"), json=[0, 0, 0], headers={"Accept": "application/x-ndjson"}
    ) as answer:
        for number, line in enumerate(answer.iter_lines()):
            assert json.loads(line) == [number] * 3
            if number == 5000:
                break


def test_http2_and_http10(server):
    url = f"http://127.0.0.1:{H2_PORT}"
    with httpx.Client(http1=False, http2=True, timeout=DEADLINE) as client:
        assert client.post(f"{url}/count", json={"start": 1}).json() == {"n": [1, 2, 3]}
        answer = client.get(f"{url}/count?start=1&n=400", headers={"Accept": "text/event-stream"})
        assert answer.text.count("data: ") == 400
    with connections(server, 1) as [wire]:
        accept = "Accept: application/x-ndjson"
        wire.send(request("/count?start=1", b"", accept, method="GET", version="1.0"))
        assert wire.answer().body == b"1\n2\n3\n"


# --- the inference protocol ---


def events(answer):
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    parts = answer.text.split("\n\n")
    assert parts.pop() == "" and all(part.startswith("data: ") for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def test_protocol_generate(server):
    body = {
        "id": 'a"b',
        "text_input": "häh",
        "parameters": {"temperature": 0, "stop_words": [""]},
        "stream": True,
        "max_tokens": 2,
    }
    head = {"model_name": "chat", "model_version": "1", "id": 'a"b'}
    for path in ("/v2/models/chat/generate", "/v2/models/app:chat/versions/1/generate"):
        answer = server.post(path, json=body)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {**head, "text_output": "hä"}
    answer = server.post("/v2/models/chat/generate_stream", json=body)
    assert events(answer) == [{**head, "text_output": text} for text in "hä"]


def test_protocol_generate_of_tensors(server):
    """Arguments are parameters, too, and outputs have an axis for the steps."""
    head = {"model_name": "count", "model_version": "1"}
    for body in ({"start": 5, "n": 2}, {"start": 5, "parameters": {"n": 2}, "id": None}):
        answer = server.post("/v2/models/count/generate", json=body)
        assert answer.json() == {**head, "n": [5, 6]}
        answer = server.post("/v2/models/count/generate_stream", json=body)
        assert events(answer) == [{**head, "n": 5}, {**head, "n": 6}]
    answer = server.post("/v2/models/texts/generate", json={"prompt": "a bc"})
    assert answer.json()["text"] == ["a", "bc"] and answer.json()["size"] == [[1, 0.5], [2, 0.5]]
    large = {"text_input": "x" * 300_000, "max_tokens": 2}
    assert server.post("/v2/models/chat/generate", json=large).json()["text_output"] == "xx"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("chat/generate", [1], 400, "malformed_body"),
        ("chat/generate", b"{", 400, "malformed_body"),
        ("chat/generate", b"", 400, "empty_body"),
        ("chat/generate", {"text_input": "a", "parameters": 1}, 400, "malformed_body"),
        ("chat/generate", {"text_input": "a", "id": 1}, 400, "malformed_body"),
        ("chat/generate", {"text_input": "a", "other": [1]}, 422, "unknown_tensor"),
        ("chat/generate", {"parameters": {}}, 422, "missing_tensor"),
        ("chat/generate", {"text_input": ["a", "b"]}, 422, "wrong_shape"),
        ("count/generate", {"start": 1, "parameters": {"start": 1}}, 400, "malformed_body"),
        ("count/generate_stream", {"start": -1}, 403, "forbidden"),
        ("count/generate", {"start": 428}, 429, "no_more"),
        ("endless/generate", {"x": [1, 2]}, 422, "wrong_shape"),
        ("count/infer", {"inputs": []}, 400, "wrong_operation"),
        ("guard/generate", {"bytes": 1}, 400, "wrong_operation"),
        ("control/generate", {}, 404, "not_found"),
    ],
)
def test_protocol_errors(server, path, body, status, code):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = server.post(f"/v2/models/{path}", data=data)
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code and answer.json()["error"]


def test_protocol_error_after_the_head(server):
    answer = server.post("/v2/models/count/generate_stream", json={"start": 665, "n": 9})
    first, last = events(answer)
    assert first["n"] == 665
    assert last["error"] and last["code"] == "handler_failed"


def test_protocol_metadata(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert client.is_model_ready("count")
        assert client.get_model_metadata("count") == {
            "name": "count",
            "versions": ["1"],
            "platform": "webtorch_python",
            "inputs": [
                {"name": "start", "datatype": "INT64", "shape": []},
                {
                    "name": "n",
                    "datatype": "INT64",
                    "shape": [],
                    "parameters": {"optional": True, "missing": False},
                },
            ],
            "outputs": [{"name": "n", "datatype": "INT64", "shape": []}],
        }
        config = client.get_model_config("texts")
        assert config["model_transaction_policy"] == {"decoupled": True}
        assert [each["name"] for each in config["output"]] == ["text", "size"]
        assert {entry["name"] for entry in client.get_model_repository_index()} == {
            "count", "other_name", "guard", "texts", "chat", "endless",
        }  # fmt: skip
        # the client's own generate, where it has one, posts the same request
        answer = client._post("v2/models/count/generate", '{"start": 1}', {}, None)
        assert json.loads(answer.read())["n"] == [1, 2, 3]
    options = server.request("OPTIONS", "/count")
    assert options.json()["outputs"] == [{"name": "n", "datatype": "INT64", "shape": []}]
    assert options.headers["Allow"] == "GET, POST, PUT, OPTIONS"


# --- without nginx ---


def test_function_is_called():
    from jaxtyping import Float32
    from torch import Tensor

    import webtorch

    @webtorch.generate
    def grow(
        x: webtorch.State[Float32[Tensor, "batch"]],
    ) -> tuple[Float32[Tensor, "batch"], webtorch.State[Float32[Tensor, "batch"]]]:
        return x, x + 1

    @grow.open
    def begin(x: Float32[Tensor, ""]) -> Float32[Tensor, ""]:
        return x

    assert grow(torch.ones(2))[1].tolist() == [2, 2]
    assert grow.signature.states[0].name == "x"
    with pytest.raises(TypeError, match="which only requests begin"):
        grow.batched(torch.ones(2))
    with pytest.raises(TypeError, match="no function of its end"):
        grow.close(begin)
    assert threading.active_count()


@pytest.mark.parametrize(
    ("arguments", "opened", "message"),
    [
        ("x: F", None, "no function under"),
        ("x: F", "x: Float32[Tensor, '']) -> Float32[Tensor, '']", "not a webtorch.State"),
        ("x: State[F]", "x: Float32[Tensor, '']) -> Float32[Tensor, '2']", "for state"),
        ("x: State[F]", "x: Float32[Tensor, 'batch']) -> Float32[Tensor, '']", "for state"),
        ("x: State[F]", ") -> Float32[Tensor, '']", "it takes no tensors"),
    ],
    ids=["no_open", "no_state", "other_state", "batched", "no_tensors"],
)
def test_signatures_that_are_refused(arguments, opened, message):
    import webtorch

    names: dict[str, object] = {}
    text = (
        "import webtorch\nfrom jaxtyping import Float32\nfrom torch import Tensor\n"
        "from webtorch import State\nF = Float32[Tensor, 'batch']\n"
        f"@webtorch.generate\ndef f({arguments}) -> tuple[F, State[F]]: ...\n"
    )
    if opened:
        text += f"@f.open\ndef begin({opened}: ...\n"
    exec(text, names)
    with pytest.raises(webtorch.SignatureError, match=message):
        _ = names["f"].signature
