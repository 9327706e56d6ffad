"""The directive webtorch_access: a model says who enters."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from gate import GATE_APP, GATE_SERVER, Gate
from nginx import Nginx, quit_cleanly, wait_for
from wire import connections, request, settle

APP = (
    GATE_APP
    + '''
from jaxtyping import Float32, UInt8

scored: list[str] = []


def texts(bytes):
    return [row.numpy().tobytes().rstrip(b"\\0").decode("latin-1") for row in bytes]


@webtorch.infer
def guard(bytes: UInt8[Tensor, "batch 256"]) -> Float32[Tensor, "batch 1"]:
    """Take "attack" for an attack, 0.75, and fail at "raise"."""
    found = texts(bytes)
    scored.extend(found)
    if any("raise" in text for text in found):
        raise ValueError("as the request says")
    known = {"attack": 0.75, "nan": float("nan")}
    scores = [next((s for word, s in known.items() if word in text), 0.25) for text in found]
    return torch.tensor(scores).unsqueeze(1)


@webtorch.infer
def count(request: Float32[Tensor, "batch 45"]) -> UInt8[Tensor, "batch"]:
    """Deny what has a body, as a number."""
    return (request[:, 22] > 0).to(torch.uint8)


@webtorch.infer
def slow(bytes: UInt8[Tensor, "batch 64"]) -> Float32[Tensor, "batch 1"]:
    """Wait for the gate."""
    calls.append(texts(bytes))
    gate.wait()
    return torch.tensor([[float("attack" in text)] for text in texts(bytes)])


@webtorch.handler
def seen(request: webtorch.Request) -> dict:
    """Tell what was scored since this was asked."""
    told = list(scored)
    scored.clear()
    return {"scored": told}
'''
)

HTTP = """
log_format verdict "$uri $status $webtorch_access_verdict $webtorch_access_score";
limit_req_zone $binary_remote_addr zone=one:64k rate=1r/m;
"""

ECHO = "proxy_pass http://127.0.0.1:$server_port/echo/;"

SERVER = (
    GATE_SERVER
    + """
location = /seen { webtorch_handler app:seen; }

location /guard/ {
    webtorch_access app:guard body=1k;
    add_header Verdict "$webtorch_access_verdict $webtorch_access_score" always;
    ECHO

    location /guard/open/ { webtorch_access off; ECHO }
    location /guard/dry/ {
        webtorch_access app:guard dry_run on_error=deny;
        add_header Verdict "$webtorch_access_verdict $webtorch_access_score" always;
        ECHO
    }
    location /guard/teapot/ { webtorch_access app:guard status=418 threshold=0.75; ECHO }
    location /guard/strict/ { webtorch_access app:guard threshold=0.76; ECHO }
    location /guard/page/ {
        error_page 403 /guard/denied;
        ECHO
    }
    location /guard/index/ { error_page 403 /guard/pages/; ECHO }
    location /guard/pages/ {
        index index.html;
        alias PREFIX/pages/;
    }
    location /guard/recursive/missing/ {
        recursive_error_pages on;
        error_page 403 /guard/recursive/gone;
        ECHO
    }
    location = /guard/recursive/gone {
        recursive_error_pages on;
        error_page 404 /guard/recursive/next;
        return 404;
    }
    location = /guard/recursive/next { ECHO }
    location /guard/recursive/ {
        recursive_error_pages on;
        error_page 403 /guard/denied;
        ECHO
    }
    location = /guard/denied { proxy_pass http://127.0.0.1:$server_port/denied; }
    location /guard/try/ { try_files $uri /guard/elsewhere; }
    location /guard/deny/ { webtorch_access app:guard on_error=deny; ECHO }
}

location = /ssi { default_type text/html; return 200 '<!--# include virtual="/guard/attack" -->'; }
location = /with_ssi { ssi on; proxy_pass http://127.0.0.1:$server_port/ssi; }
location = /guard/with_ssi {
    webtorch_access app:guard;
    ssi on;
    proxy_pass http://127.0.0.1:$server_port/ssi;
}

location /echo/ { webtorch_handler app:echo; }
location = /denied { return 200 "you are denied"; }

location /missing/ { error_page 404 = @guarded; return 404; }
location /missing/uri/ { error_page 404 = /guard/x; return 404; }
location @guarded { webtorch_access app:guard on_error=deny; ECHO }
location /accel/ { proxy_pass http://127.0.0.1:$server_port/to_internal/; }
location /to_internal/ { add_header X-Accel-Redirect /internal/page; return 200; }
location /internal/ { internal; webtorch_access app:guard; ECHO }
location /any/page/ {
    satisfy any;
    allow 127.0.0.1;
    webtorch_access app:guard;
    error_page 404 = @guarded;
    root PREFIX/nowhere;
}
location /count/ { webtorch_access app:count; ECHO }

location /any/ {
    satisfy any;
    webtorch_access app:guard;
    deny 127.0.0.1;
    ECHO
    location /any/allowed/ { allow 127.0.0.1; ECHO }
}
location /all/ {
    webtorch_access app:guard;
    ECHO
    location /all/denied/ { deny all; ECHO }
    location /all/limited/ {
        limit_req zone=one;
        ECHO
    }
    location /all/auth/ {
        auth_request /auth;
        ECHO
    }
}
location = /auth {
    webtorch_access app:guard;
    ECHO
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
}

location /slow/ {
    access_log PREFIX/access.log verdict;
    webtorch_access app:slow mode=thread timeout=300ms queue=2;
    ECHO
    location /slow/deny/ {
        webtorch_access app:slow mode=thread timeout=300ms queue=2 on_error=deny status=503;
        ECHO
    }
    location /slow/patient/ {
        webtorch_access app:slow mode=thread timeout=30s;
        ECHO
    }
}
"""
).replace("ECHO", ECHO)

APP += '''

@webtorch.handler
def echo(request: webtorch.Request) -> str:
    """Tell what came."""
    return f"{request.method} {request.path} {len(request.body)} {bytes(request.body[:10])!r}"
'''


@pytest.fixture(scope="module")
def shared_server():
    server = Nginx("", APP)
    server.configure(http=HTTP, server=SERVER.replace("PREFIX", str(server.prefix)))
    try:
        server.start()
        yield server
        quit_cleanly(server)
    finally:
        server.stop()


def seen(server) -> list[str]:
    return server.get("/seen").json()["scored"]


@pytest.mark.parametrize(
    ("path", "status", "verdict"),
    [
        ("/guard/page", 200, "allow 0.25"),
        ("/guard/attack", 403, "deny 0.75"),
        ("/guard/x?q=%61ttack", 403, "deny 0.75"),
        ("/guard/x?q=%2561TTACK", 403, "deny 0.75"),
    ],
)
def test_score_at_threshold_is_denied(server, path, status, verdict):
    answer = server.get(path)
    assert (answer.status_code, answer.headers["Verdict"]) == (status, verdict)
    assert ("GET" in answer.text) == (status == 200)


def test_options(server):
    assert server.get("/guard/open/attack").status_code == 200
    assert server.get("/guard/teapot/attack").status_code == 418
    assert server.get("/guard/strict/attack").status_code == 200


def test_dry_run_only_sets_variables(server):
    answer = server.get("/guard/dry/attack")
    assert (answer.status_code, answer.headers["Verdict"]) == (200, "dry_run 0.75")
    answer = server.get("/guard/dry/raise")
    assert (answer.status_code, answer.headers["Verdict"]) == (200, "error ")


@pytest.mark.parametrize("size", [0, 1, 100, 200_000])
def test_bodies_are_seen_and_kept(server, size):
    answer = server.post("/guard/x", data=b"b" * size)
    assert answer.text.startswith(f"POST /echo/ {size} ")
    assert server.post("/guard/x", data=b"attack" + b"b" * size).status_code == 403
    assert server.post("/guard/x", data=iter([b"b" * size, b"bb"])).text.startswith(
        f"POST /echo/ {size + 2} "
    )
    assert server.post("/guard/x", data=iter([b"att", b"ack", b"b" * size])).status_code == 403


def test_body_not_read_unless_asked_for(server):
    assert server.post("/all/x", data=b"attack").status_code == 200


def test_body_in_pieces(server):
    with connections(server, 1) as (wire,):
        whole = request("/guard/x", b"attack", method="POST")
        wire.send(whole[:-4])
        settle(server)
        wire.send(whole[-4:])
        assert wire.answer().status == 403


def test_scores_may_be_integers(server):
    assert server.get("/count/x").status_code == 200
    assert server.post("/count/x", data=b"body").status_code == 403


def test_each_request_is_scored_once(server):
    seen(server)
    assert server.get("/guard/try/x").status_code == 200
    assert seen(server) == ["/guard/try/x\x1d\x1e"]
    assert server.get("/all/auth/x").status_code == 200
    assert seen(server) == ["/all/auth/x\x1d\x1e"]
    assert server.get("/guard/page/attack").text == "you are denied"
    assert seen(server) == ["/guard/page/attack\x1d\x1e"]


@pytest.mark.parametrize(
    ("path", "scored"), [("/with_ssi", []), ("/guard/with_ssi", ["/guard/with_ssi\x1d\x1e"])]
)
def test_subrequests_of_ssi_are_not_scored(server, path, scored):
    seen(server)
    assert server.get(path).text.startswith("GET /echo/")
    assert seen(server) == scored


@pytest.mark.parametrize("path", ["/missing/", "/missing/uri/", "/accel/", "/any/page/"])
def test_access_after_internal_redirect(server, path):
    """Only the error page of a denial is exempt, not what other redirects lead to."""
    assert server.get(f"{path}x").status_code == 200
    assert server.get(f"{path}attack").status_code == 403


def test_access_denied_page_with_recursive_error_pages(server):
    answer = server.get("/guard/recursive/attack")
    assert (answer.status_code, answer.text) == (403, "you are denied")
    # the error page of the page's own error is not exempt
    assert server.get("/guard/recursive/missing/x").status_code == 200
    assert server.get("/guard/recursive/missing/attack").status_code == 403


def test_access_denied_page_of_an_index(server):
    (server.prefix / "pages").mkdir(exist_ok=True)
    (server.prefix / "pages/index.html").write_text("the page of an index")
    answer = server.get("/guard/index/attack")
    assert (answer.status_code, answer.text) == (403, "the page of an index")


def test_combined_with_other_checks(server):
    assert server.get("/all/denied/x").status_code == 403
    assert server.get("/all/auth/attack").status_code == 403
    assert server.get("/all/limited/x").status_code == 200
    assert server.get("/all/limited/x").status_code == 503


def test_satisfy_any_does_not_allow(server):
    assert server.get("/any/x").status_code == 403
    assert server.get("/any/attack").status_code == 403
    assert server.get("/any/allowed/x").status_code == 200
    # one who is allowed by another check passes
    assert server.get("/any/allowed/attack").status_code == 200
    lines = [line for line in server.log().splitlines() if "/any/allowed/attack" in line]
    assert len(lines) == 1
    assert "[info]" in lines[0] and "denied by webtorch handler" in lines[0]
    assert "unless another check allows it" in lines[0]


@pytest.mark.parametrize("path", ["/guard/", "/guard/deny/"])
@pytest.mark.parametrize("word", ["raise", "nan"])
def test_errors_of_the_model(server, path, word):
    answer = server.get(f"{path}{word}")
    allowed = path == "/guard/"
    assert answer.status_code == (200 if allowed else 403)
    if allowed:
        assert answer.headers["Verdict"] == "error "
    assert server.get(f"{path}x").status_code == 200
    outcome = "allowed" if allowed else "denied"
    server.wait_for_log(
        rf'webtorch handler "app:guard" has not scored a request: .*, {outcome}, and .* "GET {path}'
    )


@pytest.mark.parametrize(("path", "status"), [("/slow/", 200), ("/slow/deny/", 503)])
def test_timeout_and_full_queue(server, gate, path, status):
    with gate, connections(server, 5) as wires:
        for number, wire in enumerate(wires):
            wire.send(request(f"{path}{number}?attack", method="GET"))
            settle(server)
        assert [wire.answer().status for wire in wires] == [status] * 5
        gate.open()
        wires[0].send(request(f"{path}?attack", method="GET"))
        answer = wires[0].answer()
        assert answer.status == (503 if status == 503 else 403)
        wires[0].send(request(f"{path}x", method="GET"))
        assert wires[0].answer().status == 200

    def verdicts():
        log = (server.prefix / "access.log").read_text()
        return re.findall(rf"{path}\d {status} (\w+) -?\n", log)

    # two waited, three found the queue full
    wait_for(lambda: len(verdicts()) == 5, "the access log")
    assert sorted(verdicts()) == ["error"] * 3 + ["timeout"] * 2


def test_requests_are_scored_together(server, gate):
    with gate, connections(server, 4) as wires:
        wires[0].send(request("/slow/patient/0", method="GET"))
        gate.wait_for_calls(1)
        for wire in wires[1:]:
            wire.send(request("/slow/patient/attack", method="GET"))
            settle(server)
        gate.open()
        assert [wire.answer().status for wire in wires] == [200, 403, 403, 403]
        assert [len(call) for call in gate.calls()] == [1, 3]


def test_client_abort_before_scoring(server, gate):
    with gate, connections(server, 3) as wires:
        for number, wire in enumerate(wires):
            wire.send(request(f"/slow/patient/{number}", method="GET"))
            settle(server)
        gate.wait_for_calls(1)
        wires[0].reset()
        wires[1].reset()
        settle(server)
        gate.open()
        assert wires[2].answer().status == 200
        assert gate.calls() == [["/slow/patient/0\x1d\x1e"], ["/slow/patient/2\x1d\x1e"]]


def test_pipelined_requests(server):
    with connections(server, 1) as (wire,):
        wire.send(
            b"".join(request(f"/guard/{path}", method="GET") for path in ("a", "attack", "b"))
        )
        assert [wire.answer().status for _ in range(3)] == [200, 403, 200]


def test_malformed_request_answered_by_nginx(server):
    with connections(server, 1) as (wire,):
        wire.send(b"GET /guard/\x01 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer().status == 400
    with connections(server, 1) as (wire,):
        wire.send(b"GET http://localhost/guard/%61ttack?x HTTP/1.0\r\n\r\n")
        assert wire.answer().status == 403


def test_graceful_quit_waits_for_scores(start):
    server = start(
        GATE_SERVER + "location / { webtorch_access app:slow mode=thread; empty_gif; }", APP
    )
    gate = Gate(server)
    gate.shut()
    with connections(server, 2) as (wire, opener):
        wire.send(request("/x", method="GET"))
        gate.wait_for_calls(1)
        opener.send(request("/gate?open", method="GET")[:-2])
        settle(server)
        server.process.send_signal(signal.SIGQUIT)
        opener.send(b"\r\n")
        opener.answer()
        assert wire.answer().status == 200
    assert wait_for(lambda: server.process.poll() is not None, "nginx to quit")


CONFLICT = """
import webtorch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor
from webtorch import Strings


@webtorch.infer
def unknown(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]: return x

@webtorch.infer
def early(outcome: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]: return outcome

@webtorch.infer
def dtype(client: Float64[Tensor, "batch 1"]) -> Float64[Tensor, "batch 1"]: return client

@webtorch.infer
def wide(site: Float32[Tensor, "batch 9"]) -> Float32[Tensor, "batch 9"]: return site

@webtorch.infer
def short(id: UInt8[Tensor, "batch 15"]) -> UInt8[Tensor, "batch 15"]: return id

@webtorch.infer
def deep(ngrams: Int64[Tensor, "batch 4 4"]) -> Int64[Tensor, "batch 4 4"]: return ngrams

@webtorch.infer
def one(site: Float32[Tensor, "8"]) -> Float32[Tensor, "8"]: return site

@webtorch.infer
def variable(bytes: UInt8[Tensor, "batch n"]) -> UInt8[Tensor, "batch n"]: return bytes

@webtorch.infer
def two(
    tokens: Int32[Tensor, "batch 5 n"], segments: Int64[Tensor, "batch m"]
) -> Float32[Tensor, "batch"]:
    return tokens[:, 0, 0].float()

@webtorch.infer
def words(site: Float32[Tensor, "batch 8"]) -> Strings[list[str], "batch"]:
    return [""] * len(site)

@webtorch.handler
def request(request: webtorch.Request) -> str: return ""

@webtorch.infer
def good(site: Float32[Tensor, "batch 8"]) -> Float32[Tensor, "batch 8"]: return site
"""


@pytest.mark.parametrize(
    ("directive", "error"),
    [
        ("webtorch_access app:unknown", 'no feature "x" here, known are "ngrams" "bytes"'),
        ("webtorch_access app:early", 'there is no feature "outcome" here'),
        ("webtorch_access app:dtype", r'feature "client" is float32 \[batch, 1 to 31\]'),
        ("webtorch_access app:wide", r'feature "site" is float32 \[batch, 1 to 8\]'),
        ("webtorch_access app:short", r'feature "id" is uint8 \[batch, 16\]'),
        ("webtorch_access app:deep", r'feature "ngrams" is int32 or int64 \[batch, 1 to 65536\]'),
        ("webtorch_access app:one", 'an axis "batch" is needed'),
        ("webtorch_access app:variable", 'feature "bytes" is uint8 .batch, 1 to 16384.'),
        ("webtorch_access app:two", "more variable axes than that of tokens"),
        ("webtorch_access app:words", "does not return a number"),
        ("webtorch_access app:request", "is a function of requests"),
        ("webtorch_access app:missing", "missing"),
        ("webtorch_access app", 'invalid handler "app"'),
        ("webtorch_access off dry_run", 'invalid handler "off"'),
        ("webtorch_access app:good status=200", 'invalid parameter "status=200"'),
        ("webtorch_access app:good threshold=", 'invalid parameter "threshold="'),
        ("webtorch_access app:good threshold=nan", 'invalid parameter "threshold=nan"'),
        ("webtorch_access app:good threshold=0.5x", 'invalid parameter "threshold=0.5x"'),
        ("webtorch_access app:good on_error=ignore", 'invalid parameter "on_error=ignore"'),
        ("webtorch_access app:good on_unread=ignore", 'invalid parameter "on_unread=ignore"'),
        ("webtorch_access app:good body=1m", 'invalid parameter "body=1m", it is at most 16384'),
        ("webtorch_access app:good timeout=0", 'invalid parameter "timeout=0"'),
        ("webtorch_access app:good; webtorch_access off", "is duplicate"),
    ],
)
def test_configuration_errors(reconfigured, directive, error):
    server = reconfigured(f"location /x {{ {directive}; }}", CONFLICT)
    output = server.refuse()
    assert re.search(rf"\[emerg\].*{error}.*{re.escape(str(server.conf))}:\d+", output), output


def test_directive_is_inherited(start):
    server = start(
        """
        location / {
            location /inner/ { empty_gif; }
            location /off/ { webtorch_access off; empty_gif; }
        }
        """,
        APP,
        http="webtorch_access app:guard;",
    )
    assert server.get("/inner/x").status_code == 200
    assert server.get("/inner/attack").status_code == 403
    assert server.get("/off/attack").status_code == 200


def test_model_not_loaded(start):
    server = start("location / { webtorch_access app:guard; empty_gif; }", APP)
    server.write_app("raise RuntimeError('broken')")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGTERM)
    wait_for(lambda: server.workers() not in ([], [worker]), "another worker")
    assert server.get("/x").status_code == 200
    server.wait_for_log("has not scored a request: it is not loaded")


LOCALE_APP = """
import webtorch
from torch import Tensor
import locale
import os
from jaxtyping import Float32

os.environ["LOCPATH"] = "{path}"
locale.setlocale(locale.LC_NUMERIC, "comma")


@webtorch.infer
def half(request: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    return request * 0 + 0.25
"""


@pytest.mark.skipif(
    not Path("/usr/share/i18n/locales/de_DE").exists(), reason="no sources of locales"
)
def test_numbers_have_points_in_any_locale(start):
    with tempfile.TemporaryDirectory() as where:
        os.chmod(where, 0o755)  # workers of another user read it
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", f"{where}/comma"], check=True)
        server = start(
            "location / { webtorch_access app:half; webtorch_set $number app:half;"
            ' add_header Score "$webtorch_access_score $number"; empty_gif; }',
            LOCALE_APP.format(path=where),
        )
        assert server.get("/").headers["Score"] == "0.25 0.25"
