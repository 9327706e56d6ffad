"""The directive webtorch_path."""

MODULE = """
import webtorch

@webtorch.handler
def f(request): return {name!r}
"""


def test_first_of_several_directories_wins(configured, start):
    server = configured()
    for name in ("one", "two"):
        (server.prefix / name).mkdir()
        (server.prefix / name / "both.py").write_text(MODULE.format(name=name))
    (server.prefix / "two" / "second.py").write_text(MODULE.format(name="second"))

    running = start(
        "location = /both { webtorch_handler both:f; }"
        "location = /second { webtorch_handler second:f; }",
        http=f"webtorch_path {server.prefix}/one; webtorch_path {server.prefix}/two;",
    )
    assert running.get("/both").text == "one"
    assert running.get("/second").text == "second"


def test_packages_and_relative_directories(configured):
    server = configured("location = / { webtorch_handler package.inner:f; }")
    (server.prefix / "code" / "package").mkdir(parents=True)
    (server.prefix / "code" / "package" / "inner.py").write_text(MODULE.format(name="inner"))
    server.configure(http="webtorch_path code;")
    status, output = server.check()
    assert status == 0, output


def test_missing_directory(configured):
    status, output = configured(http="webtorch_path nowhere;").check()
    assert status == 1
    assert "[emerg]" in output and 'nowhere" is not a directory in ' in output


def test_current_directory_is_not_searched(configured, monkeypatch):
    server = configured("location = / { webtorch_handler stray:f; }")
    (server.prefix / "stray.py").write_text(MODULE.format(name="stray"))
    monkeypatch.chdir(server.prefix)
    status, output = server.check()
    assert status == 1 and "No module named 'stray'" in output
