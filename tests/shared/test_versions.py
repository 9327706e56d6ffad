"""Versions of models: the same code with other weights, for some of the requests."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from answers import check_error
from nginx import wait_for
from scale import APP, http, infer, put, weight

SERVER = """
    location = /output { webtorch_handler app:output; }
    location = /two { webtorch_handler app:output model=scale@2; }
    location = /any { webtorch_handler app:output model=scale@$arg_version max_delay=100ms; }
    location = /train { webtorch_handler app:train model=scale@2 max_batch=1; }
    location = /about { webtorch_handler app:about model=scale@$arg_version; }
    location = /later { webtorch_handler app:later model=scale@$arg_version; }
    location = /own_loop {
        webtorch_handler app:own_loop model=scale@$arg_version mode=thread;
    }
    location /v2 { webtorch_inference_protocol; }
"""


def test_version_of_a_location_and_of_a_request(start, directory):
    put(directory, 2, 2)
    put(directory, "v3.1", 3)
    server = start(SERVER, APP, http=http(directory), workers=2)

    assert weight(server, "/output") == 1
    assert weight(server, "/two") == 2
    assert weight(server, "/any?version=") == weight(server, "/any?version=1") == 1
    assert weight(server, "/any?version=2") == 2
    assert weight(server, "/any?version=v3.1") == 3
    check_error(server.post("/any?version=9", [[1.0]]), 404, "unknown_version", '"scale@9"')
    check_error(server.post("/any?version=" + "9" * 999, [[1.0]]), 404, "unknown_version")
    for path in ("about", "later"):
        assert server.post(f"/{path}?version=2").json()["weight"] == 2
        assert server.post(f"/{path}?version=").json()["weight"] == 1
    assert server.post("/later?version=2").json()["batched"] == 2
    assert server.post("/own_loop?version=2").json()["batched"] == 2

    # requests of several versions wait at the same time: no batch has two of them
    def ask(index):
        version = index % 3 + 1
        name = "v3.1" if version == 3 else str(version)
        answer = server.post(f"/any?version={name}", [[1.0]]).json()
        return answer["output_0"][0][0] == version, answer["output_1"][0]

    with ThreadPoolExecutor(24) as pool:
        answers = [*pool.map(ask, range(120))]
    assert all(is_right for is_right, _ in answers)
    assert Counter(rows for _, rows in answers).keys() - {1}, "batches have several requests"

    # training changes this version alone
    assert server.post("/train", [[1.0]]).ok
    about = {v: server.post(f"/about?version={v}").json() for v in ("", "2", "v3.1")}
    assert about[""] == {"weight": 1, "steps": 0}
    assert about["v3.1"] == {"weight": 3, "steps": 0}
    assert about["2"]["steps"] == 1
    assert 0 < about["2"]["weight"] < 2

    # the inference protocol
    trained = pytest.approx(about["2"]["weight"])
    assert infer(server, "") == infer(server, "/versions/1") == ("1", 1)
    assert infer(server, "/versions/2") == ("2", trained)
    assert infer(server, "/versions/v3.1") == ("v3.1", 3)
    assert server.get("/v2/models/output").json()["versions"] == ["1", "2", "v3.1"]
    assert server.get("/v2/models/output/versions/2/ready").ok
    check_error(server.get("/v2/models/output/versions/9"), 404, "unknown_version")
    index = server.post("/v2/repository/index").json()
    found = {(each["name"], each["version"]) for each in index if each["state"] == "READY"}
    assert found == {(name, v) for name in ("output", "train") for v in ("1", "2", "v3.1")}

    # a reload keeps what a version has learned, and finds new ones
    put(directory, 4, 4)
    server.reload()
    assert weight(server, "/two") == trained
    assert weight(server, "/any?version=4") == 4

    # new code, which a reload of the code imports, has the versions, too
    assert server.quit() == 0
    assert (directory / f"scale@2/{1:012}.safetensors").exists()
    server.configure(http=http(directory) + "webtorch_reload on;")
    server.start()
    assert weight(server, "/two") == trained
    server.write_app(APP.replace("return model(x), torch", "return -model(x), torch"))
    negative = pytest.approx(-about["2"]["weight"])
    wait_for(lambda: weight(server, "/two") == negative, "the new code")
    # of either worker
    wait_for(lambda: weight(server, "/output") == -1, "the new code for all versions")


def test_version_that_cannot_be_used_is_refused(start, directory):
    server = start("", APP, http=http(directory))

    zones = http(directory)

    def refused(option, app=APP, zone=zones):
        server.write_app(app)
        server.configure(
            server=f"location / {{ webtorch_handler app:output model={option}; }}", http=zone
        )
        return server.refuse()

    for option in ("scale", "scale@", "@2", "@$arg_v", "$arg_v@2", "$arg_v"):
        assert 'it must be "model=name@version"' in refused(option)
    assert 'has a second "model="' in refused("scale@2 model=scale@3")
    assert 'the code makes no model "other", it makes scale' in refused("other@$arg_v")
    assert f"there are no safetensors files in {directory}/scale@2" in refused("scale@2")
    assert "is not a string of 1 to 64 letters" in refused("scale@a/b")
    assert "with webtorch_zone and webtorch_checkpoint" in refused("scale@2", zone="")

    put(directory, 2, 2, size=3)
    assert 'tensor "weight" is F32 [1, 3], F32 [1, 1] is expected' in refused("scale@2")
    # a version that no directive names does not keep nginx from starting
    server.write_app(APP)
    server.configure(server=SERVER.replace("scale@2", "scale@1"), http=http(directory))
    server.reload()
    server.wait_for_log(r'version "2" of model "scale" is not loaded: .*F32 \[1, 3\]')
    check_error(server.post("/any?version=2", [[1.0]]), 404, "unknown_version")

    other = APP + '    webtorch.Model("scale", net(2, 3), version="2")\n'
    assert '"weight" is F32 [1, 3], F32 [1, 1] is expected; give it' in refused("scale@2", other)
    stream = (
        APP
        + """
    @webtorch.handler
    def several(request):
        yield "a"
    """
    )
    server.write_app(stream)
    server.configure(server="location / { webtorch_handler app:several model=scale@1; }")
    assert '"model=" is for functions that answer a request at once' in server.refuse()


def test_version_of_the_code_without_a_zone(start):
    # the model is found beside many other objects, and a module that has no attributes
    app = APP.replace(
        "return model(x), torch", "return model(x[:len(words)] if lazy else x), torch"
    )
    app += """
    import types
    words = {f"word {n}": n for n in range(20000)}
    lazy = types.ModuleType("lazy")
    lazy.__getattr__ = lambda name: {}[name]
"""
    app += """
    import functools

    def scaled(x: Float32[Tensor, "batch 1"], by) -> Float32[Tensor, "batch 1"]:
        return by(x)

    partial = webtorch.infer(functools.partial(scaled, by=model))
"""
    app += '    webtorch.Model("scale", net(2), lambda p: optim.SGD(p, lr=0.1), version="2")\n'
    server = start(
        SERVER + "location = /partial { webtorch_handler app:partial model=scale@2; }", app
    )
    assert server.post("/partial", [[1.0]]).json() == [[2]]
    assert weight(server, "/output") == 1
    assert weight(server, "/two") == weight(server, "/any?version=2") == 2
    assert infer(server, "/versions/2") == ("2", 2)
