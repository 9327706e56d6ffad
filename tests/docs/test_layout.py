"""The layout of the sources: rooms, includes, calls, imports and the length of files.

`ngx_webtorch_rooms` in ngx_webtorch/config lists the rooms (folders) from the bottom to the top. A
file uses its own room and those before it in the list.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from nginx import ROOT

C = ROOT / "ngx_webtorch"
PACKAGE = ROOT / "python/webtorch"
CONFIG = (C / "config").read_text()

(_ROOMS,) = re.findall(r'ngx_webtorch_rooms="([^"]*)"', CONFIG)
ROOMS: list[str] = _ROOMS.replace("\\", "").split()

SOURCES = sorted(path for path in C.rglob("ngx_*") if path.suffix in (".c", ".cpp"))
HEADERS = sorted(path for path in C.rglob("ngx_*") if path.suffix in (".h", ".hpp"))

STANDALONE = ("tensor", "exchange", "frame", "features", "balance")
"""The rooms that need no header of nginx or Python."""

MAX_LINES = 700

GENERATED = C / "api/ngx_webtorch_bridge.c"

# The bridge calls the functions that Python gets, wherever they are, and is called by what runs
# Python.
MUTUAL = {"ngx_webtorch_balancer.c", "ngx_webtorch_bridge.c", "ngx_webtorch_python.c"}

Graph = Mapping[str, set[str]]


def room_of(path: Path) -> str:
    return str(path.parent.relative_to(C))


def is_above(room: str, other: str) -> bool:
    """Return whether a room is further up in the house, so that the other may not use it."""
    return ROOMS.index(room) > ROOMS.index(other)


def includes_of(path: Path) -> list[Path]:
    """Return the headers of ours that a file includes."""
    by_name = {header.name: header for header in HEADERS}
    names = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M)
    return [by_name[name] for name in names if name in by_name]


def circles(graph: Graph) -> list[list[str]]:
    """Return the sets of nodes that reach each other (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            start = stack.index(node)
            if len(stack) - start > 1 or node in graph[node]:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return sorted(found)


def lines_of(texts: Iterable[object]) -> str:
    return "\n" + "\n".join(map(str, texts))


# --- files ---


def test_layout_rooms_exist():
    folders = {room_of(path) for path in C.rglob("ngx_*") if path.parent != C}
    assert folders == set(ROOMS)
    files = [path.name for path in C.iterdir() if path.suffix in (".c", ".cpp", ".h", ".hpp")]
    assert not files, f"not in a room: {files}"


def test_layout_files_are_in_config():
    listed = set(re.findall(r"\$ngx_addon_dir/(\S+\.(?:c|cpp|h|hpp))\b", CONFIG))
    present = {str(path.relative_to(C)) for path in SOURCES + HEADERS}
    assert listed == present


def test_layout_functions_have_names_of_their_own():
    """Also static ones: a reader finds one definition of each name."""
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        if path != GENERATED:
            for name in set(re.findall(r"^(ngx_\w+)\(", path.read_text(), re.M)):
                places.setdefault(name, []).append(path.name)
    several = [f"{name}: {', '.join(files)}" for name, files in places.items() if len(files) > 1]
    assert not several, lines_of(several)


def test_layout_files_are_short():
    roots = (C, ROOT / "python", ROOT / "bench")
    kinds = (".c", ".cpp", ".h", ".hpp", ".py", ".pyi", ".lua", ".sh")
    long = [
        f"{path.relative_to(ROOT)}: {count} lines, at most {MAX_LINES} are wanted"
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.suffix in kinds and path != GENERATED
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    ]
    assert not long, lines_of(long)


# --- includes ---


def test_layout_waits_do_not_follow_the_wall_clock():
    """A clock that is set back would make them longer by that."""
    calls = r"CLOCK_REALTIME|pthread_timedjoin_np|pthread_mutex_timedlock|sem_timedwait"
    wrong = [
        f"{path.relative_to(ROOT)}: {call}"
        for path in SOURCES
        for call in re.findall(rf"\b(?:{calls})\b", path.read_text())
        if path != GENERATED
    ]
    assert not wrong, lines_of(wrong)


def test_layout_includes_go_down():
    wrong = [
        f"{path.relative_to(C)} includes {header.relative_to(C)}, of a room above"
        for path in SOURCES + HEADERS
        for header in includes_of(path)
        if is_above(room_of(header), room_of(path))
    ]
    assert not wrong, lines_of(wrong)


def test_layout_headers_have_no_circles():
    graph = {path.name: {header.name for header in includes_of(path)} for path in HEADERS}
    assert not circles(graph), lines_of(circles(graph))


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if room_of(path) in STANDALONE],
    ids=lambda path: path.name,
)
def test_layout_source_needs_no_nginx(path):
    rooms = ROOMS[: ROOMS.index(room_of(path)) + 1]
    compiler = ["c++", "-std=c++17"] if path.suffix == ".cpp" else ["cc", "-std=gnu11"]
    command = [*compiler, "-fsyntax-only", *(f"-I{C / room}" for room in rooms), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- calls ---


@pytest.fixture(scope="module")
def symbols() -> dict[Path, dict[str, str]]:
    """Return the kind (as of nm) of each symbol of each source's object."""
    found = {}
    for path in SOURCES:
        # nginx's build puts objects into a folder named as the last one of the source
        objects = ROOT / "build/nginx/objs/addon" / path.parent.name / f"{path.stem}.o"
        assert objects.exists(), f"{objects} has not been built"
        output = subprocess.run(
            ["nm", "--extern-only", "--format=posix", objects],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found[path] = {line.split()[0]: line.split()[1] for line in output.splitlines()}
    return found


def uses(symbols: dict[Path, dict[str, str]], kinds: str) -> list[tuple[Path, Path, str]]:
    """Return which source uses which, and by what symbol of one of the kinds."""
    definitions = {
        name: path for path, table in symbols.items() for name in table if table[name] in kinds
    }
    return [
        (path, definitions[name], name)
        for path, table in symbols.items()
        for name in sorted(table)
        if table[name] == "U" and name in definitions
    ]


def test_layout_calls_go_down(symbols):
    wrong = [
        f"{path.relative_to(C)} uses {name} of {other.relative_to(C)}, of a room above"
        for path, other, name in uses(symbols, "TDBR")
        if path != GENERATED
        and is_above(room_of(other), room_of(path))
        and not re.fullmatch(r"ngx_\w+_module", name)
    ]
    assert not wrong, lines_of(wrong)


def test_layout_calls_have_no_circles(symbols):
    graph: dict[str, set[str]] = {path.name: set() for path in SOURCES}
    for path, other, _ in uses(symbols, "T"):
        graph[path.name].add(other.name)
    wrong = [circle for circle in circles(graph) if not set(circle) <= MUTUAL]
    assert not wrong, lines_of(wrong)


# --- Python ---


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, for types only or when it runs."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules else str(node.module))
    return found & modules


def test_layout_imports_have_no_circles():
    paths = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: imports_of(path, set(paths)) for name, path in paths.items()}
    # a package's list of public names imports them lazily
    for name, path in paths.items():
        if path.name == "__init__.py":
            graph[name] = set()
    assert not circles(graph), lines_of(circles(graph))


def test_layout_imports_go_down():
    """In the order of the table in docs/inside.md."""
    inside = (ROOT / "docs/inside.md").read_text()
    folders = re.findall(r"^\| `(_[\w/]+)/` \|", inside, re.M)
    paths = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    rooms = {name: str(path.parent.relative_to(PACKAGE)) for name, path in paths.items()}
    inner = {name for name, room in rooms.items() if room in folders}
    assert len(folders) > 10 and len(inner) > 100
    wrong = [
        f"{name} imports {other}, of a folder above"
        for name in sorted(inner)
        for other in sorted(imports_of(paths[name], inner))
        if folders.index(rooms[other]) > folders.index(rooms[name])
    ]
    assert not wrong, lines_of(wrong)


def test_layout_private_modules_are_in_folders():
    """Beside the public modules there is the generator of the bridge alone, and what it makes."""
    beside = {path.name for path in PACKAGE.glob("_*.py*")}
    assert beside == {"__init__.py", "__main__.py", "_bridge_build.py", "_native.pyi"}


# --- tests ---


def test_layout_tests_import_no_tests():
    """What several modules use is in tests/support."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), re.M)
        if re.fullmatch(r"(\w+\.)*(test_\w+|conftest)", name)
    ]
    assert not wrong, lines_of(wrong)
