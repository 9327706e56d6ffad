"""The Dockerfile and the compose file: what can be checked without Docker."""

import json
import re
import shlex

from nginx import ROOT
from webtorch.cli import cli

DOCKERFILE = (ROOT / "Dockerfile").read_text()

INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER",
    "VOLUME", "WORKDIR",
}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line.strip()]


def test_dockerfile_instructions():
    found = instructions()
    assert found[0][0] == "FROM" and {name for name, _ in found} <= INSTRUCTIONS
    for name, value in found:
        text = value.partition(" CMD ")[2] if name == "HEALTHCHECK" else value
        if text.startswith("["):
            assert all(isinstance(word, str) for word in json.loads(text))
        elif name in ("RUN", "ENV", "COPY"):
            assert shlex.split(text)
        if name == "COPY":
            *sources, _ = [word for word in shlex.split(value) if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources)
    users = [index for index, (name, _) in enumerate(found) if name == "USER"]
    assert users and users[0] < next(i for i, (name, _) in enumerate(found) if name == "CMD")


def test_dockerfile_runs_a_command_that_exists():
    values = dict(instructions())
    program, command, *arguments = json.loads(values["CMD"])
    assert program == "webtorch"
    serve = cli.commands[command]
    context = serve.make_context(command, arguments, auto_envvar_prefix="NONE")
    assert str(context.params["checkpoint"]) == json.loads(json.dumps(values["VOLUME"]))
    options = {f"WEBTORCH_SERVE_{one.name.upper()}" for one in serve.params}
    assert set(re.findall(r"WEBTORCH_SERVE_\w+", values["ENV"])) <= options


def test_compose_file():
    import yaml

    found = yaml.safe_load((ROOT / "compose.yaml").read_text())
    (service,) = found["services"].values()
    assert service["build"] == "."
    _, path = service["volumes"][0].split(":")
    assert path == dict(instructions())["VOLUME"]
    assert service["volumes"][0].split(":")[0] in found["volumes"]
    assert service["ports"][0].endswith(f":{dict(instructions())['EXPOSE']}")


def test_docker_context_has_what_is_copied():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*" and {"!dist/*.whl", "!examples/xor/xor.py"} == set(ignored[1:])
