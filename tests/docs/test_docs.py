"""docs/ agrees with the sources."""

import re

from nginx import ROOT

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
        for code in re.findall(r'\bcode="([a-z_]+)"[,)]*$', line)
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
