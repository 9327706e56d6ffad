"""Pages of other origins in Chromium: nginx-conf/browser.conf, fetch() and webtorch_cors."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nginx import DEADLINE, ROOT, Nginx, free_port, release_port, running

APP = """
import webtorch
from jaxtyping import Float32
from torch import Tensor
from webtorch import Strings

@webtorch.infer
def double(x: Float32[Tensor, "batch n"]) -> Float32[Tensor, "batch n"]:
    return 2 * x

@webtorch.infer
def reverse(files: Strings[list[bytes], "batch"]) -> Strings[list[bytes], "batch"]:
    return [file[::-1] for file in files]

@webtorch.handler(methods=["GET", "DELETE"])
def session(request):
    return webtorch.Response({"cookie": request.headers.get("cookie")}, headers=[("X-Seen", "1")])
"""

LOCATIONS = """
location = /double { webtorch_handler app:double; }
location = /reverse { webtorch_handler app:reverse; }
location = /session { webtorch_cors PAGE credentials; webtorch_handler app:session; }
location = /cookie {
    webtorch_cors PAGE credentials;
    add_header Set-Cookie "a=1; Path=/" always;
    return 204;
}
location = /other { webtorch_cors https://other.example; webtorch_handler app:double; }
location = /any { webtorch_cors *; webtorch_handler app:session; }
location = /large { client_max_body_size 1; webtorch_handler app:double; }
"""

QUESTIONS = """
const raw = { "Content-Type": "application/octet-stream", "Tensor-Shape": "1,3" };
const form = new FormData();
form.append("note", "text");
form.append("file", new Blob(["abc"]), 'quote " and \\\\ and \\u20ac.txt');
form.append("file", new Blob(["\\r\\n--def"]));
const credentials = { credentials: "include" };
const post = { method: "POST" };
const questions = {
  json: () => ask("/double", { ...post, body: JSON.stringify([[1, 2]]) }),
  named: () => ask("/double", { ...post, body: JSON.stringify({ x: [[1, 2]] }) }),
  header: () => ask("/double", {
    ...post, headers: { "Content-Type": "application/json" }, body: "[[1, 2]]" }),
  typed: async () => {
    const body = new Float32Array([1, 2, 3]);
    const answer = await fetch(api + "/double", { ...post, headers: raw, body });
    const numbers = new Float32Array(await answer.arrayBuffer());
    return [answer.headers.get("Tensor-Shape"), ...numbers];
  },
  form: () => ask("/reverse", { ...post, body: form }),
  error: () => ask("/double", { ...post, body: "[[1, " }),
  large: () => ask("/large", { ...post, body: "[[1, 2]]" }),
  missing: () => ask("/nowhere", post),
  refused: () => ask("/other", { ...post, body: "[[1, 2]]" }),
  preflight_refused: () => ask("/other", { ...post, headers: raw, body: "abc" }),
  cookie: async () => {
    await fetch(api + "/cookie", credentials);
    return ask("/session", credentials);
  },
  method: () => ask("/session", { ...credentials, method: "DELETE" }),
  exposed: async () => (await fetch(api + "/any")).headers.get("X-Seen"),
};
"""

PAGE = """<!DOCTYPE html>
<output id="found"></output>
<script type="module">
const api = API;
async function ask(path, options) {
  const answer = await fetch(api + path, options);
  return [answer.status, answer.status === 404 ? null : await answer.json()];
}
QUESTIONS
const found = {};
for (const [name, question] of Object.entries(questions)) {
  try { found[name] = await question(); } catch (error) { found[name] = error.name; }
}
document.getElementById("found").textContent = JSON.stringify(found) + " end";
</script>
"""


def browse(url: str, tmp_path: Path) -> str:
    """Load a page in Chromium until its requests are answered; return its document."""
    chromium = shutil.which("chromium")
    assert chromium, "./build.sh test installs Chromium"
    options = (
        "--headless=new",
        "--no-sandbox",  # it does not work for root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=20000",  # stands still while a request is not answered
        "--dump-dom",
    )
    done = subprocess.run(
        [chromium, *options, url], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def page_port() -> Iterator[int]:
    port = free_port()
    yield port
    release_port(port)


@pytest.fixture(scope="module")
def shared_server(page_port) -> Iterator[Nginx]:
    """Serve the models, and pages at another port, which makes them another origin."""
    server = Nginx(app=APP)
    origin = f"http://127.0.0.1:{page_port}"
    api = json.dumps(server.url(""))
    server.configure(
        server=f"webtorch_cors {origin};" + LOCATIONS.replace("PAGE", origin),
        http=f"server {{ listen 127.0.0.1:{page_port}; root {server.prefix}/pages; }}"
        "types { text/html html; }",
    )
    (server.prefix / "pages").mkdir()
    page = PAGE.replace("API", api).replace("QUESTIONS", QUESTIONS)
    (server.prefix / "pages/page.html").write_text(page)
    with running(server):
        yield server


def test_fetch(server, page_port, tmp_path):
    document = browse(f"http://127.0.0.1:{page_port}/page.html", tmp_path)
    text = re.search(r'<output id="found">(.*) end</output>', document, re.S)
    assert text, document
    found = json.loads(html.unescape(text[1]))
    assert found.pop("error")[0] == 400
    assert found.pop("large") == [
        413,
        {"error": 'the body is larger than "client_max_body_size" allows', "code": "too_large"},
    ]
    assert found == {
        "json": [200, [[2, 4]]],
        "named": [200, {"output": [[2, 4]]}],
        "header": [200, [[2, 4]]],
        "typed": ["1,3", 2, 4, 6],
        "form": [200, ["cba", "fed--\n\r"]],
        "missing": [404, None],
        "refused": "TypeError",
        "preflight_refused": "TypeError",
        "cookie": [200, {"cookie": "a=1"}],
        "method": [200, {"cookie": "a=1"}],
        "exposed": "1",
    }


@pytest.fixture(scope="module")
def example(page_port) -> Iterator[Nginx]:
    """Run the real configuration, at other ports and in another directory."""
    text = (ROOT / "nginx-conf/browser.conf").read_text()
    models, page = re.findall(r"    server \{\n(.*?)\n    \}\n", text, re.S)
    port = free_port()
    assert "listen       3000;" in models
    models = models.split("server_name  localhost;")[1].replace(":3001", f":{port}")
    page = page.replace("3001", f"127.0.0.1:{port}").replace("../examples", f"{ROOT}/examples")
    http = f"webtorch_path {ROOT}/examples/xor {ROOT}/examples/images; server {{ {page} }}"
    with running(Nginx(models, http=http)) as server:
        server.page = f"http://localhost:{port}/browser.html?api={server.url('')}"
        yield server
    release_port(port)


def test_example_page(example, tmp_path):
    document = browse(example.page, tmp_path)
    found = dict(re.findall(r'<output id="(\w+)">([^<]*)</output>', document))
    expected = f"{example.post('/v1/output', [[0.5, -0.5]]).json()[0][0]:.4f}"
    assert found["json"] == found["typed"] == expected, document
    assert found["drawn"] == "1", document
