"""docs/ agrees with the sources."""

import importlib
import re

import click
import yaml

import webtorch
from nginx import ROOT
from pages import block, blocks
from webtorch.cli import cli

SOURCES = [
    path.read_text()
    for path in (ROOT / "ngx_webtorch").rglob("*.c*")
    if path.name != "ngx_webtorch_bridge.c"
]


def test_every_directive_has_its_reference():
    tables = re.findall(r"^static ngx_command_t .*?^};", "\n".join(SOURCES), re.M | re.S)
    directives = re.findall(r'ngx_string\("(webtorch_\w+)"\)', "".join(tables))
    page = (ROOT / "docs/directives.md").read_text()
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    index = re.findall(r"^\| \[(webtorch_\w+)\]\(#\1\) \|", page, re.MULTILINE)
    assert directives and [*sorted(directives), "Variables"] == headings
    assert index == sorted(directives)


def test_every_variable_has_its_reference():
    sources = "\n".join(SOURCES)
    tables = re.findall(r"^static ngx_http_variable_t .*?^};", sources, re.M | re.S)
    tables += re.findall(r"static ngx_str_t  name = [^;]*;\s*var = ngx_http_add_variable", sources)
    variables = re.findall(r'ngx_string\("(webtorch_\w+)"\)', "".join(tables))
    section = (ROOT / "docs/directives.md").read_text().partition("\n## Variables\n")[2]
    documented = re.findall(r"^\| `\$(webtorch_\w+)` \|", section, re.MULTILINE)
    assert variables and sorted(documented) == sorted(variables)


def test_every_option_has_its_reference():
    """Of directives: all words with "=" that the module compares parameters with."""
    folders = ("core", "http", "module", "status", "balancer")
    texts = [
        path.read_text()
        for folder in folders
        for path in (ROOT / "ngx_webtorch" / folder).rglob("*.c")
    ]
    compared = r'(?:ngx_str(?:n?)cmp\((?:value|option|arg)[^;{]*?, |ngx_string\()"([a-z_]+=)"'
    options = {name for text in texts for name in re.findall(compared, text)}
    page = (ROOT / "docs/directives.md").read_text()
    missing = {name for name in options if f"`{name}" not in page}
    assert len(options) > 20 and not missing


def test_every_metric_has_its_reference():
    texts = [path.read_text() for path in (ROOT / "ngx_webtorch/status").glob("*.c")]
    texts.append((ROOT / "ngx_webtorch/shared/ngx_webtorch_split.c").read_text())
    for name in ("cluster/metrics", "threads/uploader"):
        texts.append((ROOT / f"python/webtorch/_worker/{name}.py").read_text())
    directives = re.findall(r"^## (\w+)$", (ROOT / "docs/directives.md").read_text(), re.M)
    names = {name for text in texts for name in re.findall(r'"(webtorch_\w+)"', text)}
    metrics = names - set(directives)
    page = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| (`webtorch_\w+`.*?) \|", page, re.M)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(metrics) > 50
    assert documented == metrics


def test_every_public_name_has_its_reference():
    page = (ROOT / "docs/python.md").read_text()
    modules = {"webtorch": webtorch}
    for path in (ROOT / "python/webtorch").iterdir():
        name = f"webtorch.{path.stem}"
        if not path.stem.startswith("_") and path.suffix in (".py", "") and path.stem != "cli":
            modules[name] = importlib.import_module(name)
    names = {f"{name}.{each}" for name, module in modules.items() for each in module.__all__}
    headings = re.findall(r"^### ([\w.]+)$", page, re.M)
    assert sorted(headings) == sorted(names - modules.keys())
    # the docstring of each, unless it is a constant or an alias
    shown = re.findall(r"^<!-- docstring ([\w.]+)", page, re.M)
    for heading in headings:
        found = getattr(modules[heading.rpartition(".")[0]], heading.rpartition(".")[2])
        if isinstance(found, type) or hasattr(found, "__code__"):
            assert any(each.endswith(f".{heading.rpartition('.')[2]}") for each in shown), heading


def test_every_command_has_its_reference():
    """Each option is in the section of its command."""
    page = (ROOT / "docs/cli.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    sections["nginx"] = sections["run"]
    # the options of requests are those of `call`
    sections["bench"] += sections["call"]
    missing = []

    def check(command: click.Command, section: str) -> None:
        for each in command.params:
            if isinstance(each, click.Option) and each.opts[0] not in section:
                missing.append(f"{command.name} {each.opts[0]}")
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            assert f" {inner.name}" in section
            check(inner, section)

    for name, command in cli.commands.items():
        check(command, sections[name])
    assert not missing, missing


def test_every_page_says_for_whom_it_is_and_what_comes_next():
    for path in (ROOT / "docs").rglob("*.md"):
        text = path.read_text()
        assert re.match(r"# .+\n\n\*For [^*]+\.\*\n", text), path.name
        assert text.rstrip().rpartition("\n\n")[2].startswith("Next: "), path.name


def test_messages_of_troubleshooting_are_those_of_the_sources():
    page = (ROOT / "docs/howto/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \| (?:emerg|alert|error|warn) \|", page, re.M)
    python = [path.read_text() for path in (ROOT / "python/webtorch").rglob("*.py")]
    # strings over several lines are one
    texts = [re.sub(r'"\s*\n\s*f?"', "", text).replace(r"\"", '"') for text in SOURCES + python]
    known = ("ModuleNotFoundError: No module named",)  # Python's own
    missing = [each for each in messages if each not in known and not any(each in t for t in texts)]
    assert len(messages) > 15 and not missing


def test_every_code_of_an_error_is_documented():
    documented = set()
    for row in re.findall(r"^\|[^|]+\|([^|]+)\|", (ROOT / "docs/errors.md").read_text(), re.M):
        documented.update(re.findall(r"`(\w+)`", row))
    words = {word for source in SOURCES for word in re.findall(r'"([a-z]+(?:_[a-z]+)*)"', source)}
    in_python = {
        code
        for path in (ROOT / "python/webtorch").rglob("*.py")
        for line in path.read_text().splitlines()
        if "webtorch.HTTPError" not in line  # an example in a docstring
        for code in re.findall(r'\bcode="([a-z_]+)"[,)]*(?: from \w+)?$', line)
    }
    assert documented and documented <= words | in_python

    # what the sources write where a code stands, after a status
    codes = {
        code
        for source in SOURCES
        for code in re.findall(r'(?:\b[45]\d\d|NGX_HTTP_[A-Z_]+|status),\s*"([a-z_]+)"', source)
    }
    assert codes and codes | in_python <= documented


def test_every_folder_is_on_the_map():
    inside = (ROOT / "docs/inside.md").read_text()
    for top in ("ngx_webtorch", "python/webtorch"):
        for source in (ROOT / top).rglob("*.[cp]*"):
            folder = source.parent.relative_to(ROOT / top)
            if "templates" in folder.parts:
                folder = type(folder)(*folder.parts[: folder.parts.index("templates") + 1])
            if source.suffix in (".c", ".cpp", ".py") and folder.name:
                assert f"| `{folder}/` |" in inside, f"{folder}/ is not in docs/inside.md"


def test_deployment_has_the_probes_of_its_configuration():
    (text,) = blocks("docs/howto/kubernetes.md", "yaml")
    locations = re.findall(r"location = (\S+)", block("docs/howto/kubernetes.md", "nginx"))
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    ports = [each["containerPort"] for each in container["ports"]]
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        probe = container[name]["httpGet"]
        assert probe["path"] in locations and probe["port"] in ports
