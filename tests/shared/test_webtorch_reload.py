"""webtorch_reload: code that changes is served without a reload of nginx."""

import pytest

from nginx import wait_for

APP = """
    import torch, webtorch
    from jaxtyping import Float32
    from torch import Tensor, nn, optim

    VERSION = {version}
    model = webtorch.Model("line", nn.Linear(1, 1), lambda p: optim.SGD(p, lr=0.1))

    @webtorch.infer
    def version(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        return x * 0 + VERSION

    @webtorch.train
    def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
        model.step(model(x).sum())
        return x

    @webtorch.handler
    def about(request):
        return {{"version": VERSION, "steps": model.steps, "weight": model.module.weight.item()}}
"""

SERVER = """
    location = /version { webtorch_handler app:version; }
    location = /train { webtorch_handler app:train; }
    location = /about { webtorch_handler app:about; }
"""

ON = "webtorch_reload on;"


def version(server):
    assert server.post("/version", [[1.0]]).json()[0][0] == server.get("/about").json()["version"]
    return server.get("/about").json()["version"]


def wait_for_version(server, expected):
    """Each worker looks for itself."""
    same = [0]

    def is_expected():
        same[0] = same[0] + 1 if server.get("/about").json()["version"] == expected else 0
        return same[0] > 20

    wait_for(is_expected, f"version {expected}")
    assert version(server) == expected


@pytest.mark.parametrize("zone", ["", "webtorch_zone models:1m;"])
def test_new_code_is_served_and_models_keep_their_weights(start, zone):
    server = start(SERVER, APP.format(version=1), http=ON + zone)
    assert server.post("/train", [[1.0]]).ok
    before = server.get("/about").json()
    workers = server.workers()
    for number in (2, 3):
        server.write_app(APP.format(version=number))
        wait_for_version(server, number)
        assert server.get("/about").json() == before | {"version": number}
    server.wait_for_log("app.py: the new code is served")
    assert server.post("/train", [[1.0]]).ok
    assert server.get("/about").json()["steps"] == 2
    assert server.workers() == workers


def test_new_code_taken_by_all_workers(start):
    server = start(SERVER, APP.format(version=1), http=ON, workers=2)
    server.write_app(APP.format(version=2))
    wait_for_version(server, 2)


def test_modules_that_handlers_import_are_watched(configured, start):
    text = APP.format(version="n").replace("import torch", "from number import n\n    import torch")
    server = configured(SERVER, text, http=ON)
    server.write_app("n = 1", "number")
    server.start()
    assert version(server) == 1
    server.write_app("n = 2", "number")
    wait_for_version(server, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("broken(", "SyntaxError"),
        ("raise RuntimeError('on purpose')", "RuntimeError: on purpose"),
        ("", 'module "app" has no function "version"'),
        (
            APP.format(version=2).replace('"batch 1"', '"batch 2"'),
            '"app:version" has another signature or other options: reload nginx',
        ),
        (
            APP.format(version=2).replace(
                "@webtorch.handler", '@webtorch.handler(methods=["PUT"])'
            ),
            '"app:about" has another signature or other options: reload nginx',
        ),
    ],
)
def test_code_that_does_not_fit_leaves_the_old_one_serving(start, text, message):
    server = start(SERVER, APP.format(version=1), http=ON)
    assert server.post("/train", [[1.0]]).ok
    before = server.get("/about").json()
    server.write_app(text)
    server.wait_for_log("app.py: the old code is still served")
    assert message in server.log()
    assert server.get("/about").json() == before
    assert version(server) == 1
    assert server.post("/train", [[1.0]]).ok
    # and mended
    server.write_app(APP.format(version=3))
    wait_for_version(server, 3)
    assert server.get("/about").json()["steps"] == 2


def test_refused_layout_keeps_steps(start):
    server = start(SERVER, APP.format(version=1), http=ON + "webtorch_zone models:1m;")
    assert server.post("/train", [[1.0]]).ok
    before = server.get("/about").json()
    text = APP.format(version=2).replace("nn.Linear(1, 1)", "nn.Linear(1, 3)")
    server.write_app(text + "\n    raise RuntimeError('on purpose')\n")
    server.wait_for_log("app.py: the old code is still served")
    server.write_app(APP.format(version=3))
    wait_for_version(server, 3)
    assert server.get("/about").json() == before | {"version": 3}


def test_memory_of_old_layouts_is_used_again(start):
    """A zone with room for four layouts, in which others follow, in two workers."""
    text = APP.replace("nn.Linear(1, 1)", "nn.Sequential(nn.Linear(1, {n}), nn.Linear({n}, 1))")
    text = text.replace(', "weight": model.module.weight.item()', "")
    server = start(
        SERVER, text.format(version=1, n=151), http=ON + "webtorch_zone models:10k;", workers=2
    )
    for number in range(2, 9):
        server.write_app(text.format(version=number, n=150 + number))
        wait_for_version(server, number)
        assert server.post("/train", [[1.0]]).ok
        assert server.get("/about").json()["steps"] == 1
    assert "the old code is still served" not in server.log()


def test_arguments_of_new_code(start):
    app = "import webtorch\n\n@webtorch.handler\ndef f{}: return {}\n"
    location = r"location ~ ^/f/(?<id>\d+)$ { webtorch_handler app:f; }"
    server = start(location, app.format("(request)", "[]"), http=ON)
    assert server.get("/f/7?n=3").json() == []

    server.write_app(app.format("(id: int, n: int = 1)", "[id, n]"))
    wait_for(lambda: server.get("/f/7?n=3").json() == [7, 3], "the new arguments")

    server.write_app(app.format("(request, other)", "[other]"))
    server.wait_for_log('nothing fills its parameter "other"')
    assert server.get("/f/7").json() == [7, 1]
