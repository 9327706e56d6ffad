"""The imports among the files of the package, lazy ones and those of types included."""

import ast
import functools
import re
from pathlib import Path

import webtorch

ROOT = Path(webtorch.__file__).parent


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules():
    """Return the syntax trees of the package's files."""
    return {module_of(path): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}


def imports(tree):
    """Return the names of modules of the package that a file imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= members & modules().keys()
            if not members <= modules().keys():
                names.add(node.module)
    return names


@functools.cache
def graph():
    """Return what each file of the package imports."""
    return {name: imports(tree) for name, tree in modules().items()}


def test_imports_have_no_circle():
    def visit(name, path):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        for other in sorted(graph()[name] & modules().keys()):
            visit(other, [*path, name])

    for name in graph():
        visit(name, [])


def test_imports_of_worker_are_its_own():
    users = {name for name, used in graph().items() if any("webtorch._worker" in u for u in used)}
    # and of requests in the process of a test, which the same code runs
    assert users and all(re.match(r"webtorch\.(_worker|testing)\.", name) for name in users)


def test_imports_of_zone():
    outside = set()
    for name, used in graph().items():
        if name.startswith("webtorch._zone."):
            outside |= {u for u in used if u.startswith("webtorch") and "._zone" not in u}
    # the package itself for its version, counts for checkpoints that are written
    used = ("digests", "flat", "lineage", "rollout", "rollout_judge", "store")
    rounds = {f"webtorch._cluster.{name}" for name in used}
    assert outside == {
        *rounds,
        "webtorch",
        "webtorch._metrics.counts",
        "webtorch._native",
        "webtorch._core.optimizer_step",
    }


def test_imports_of_cffi():
    users = {name for name, used in graph().items() if "webtorch._native" in used}
    modules = ("bridge", "loading.loader")
    modules += ("cluster.model_counts", "cluster.settings", "control.draining", "control.peers")
    modules += ("exchange.failures", "exchange.replies", "exchange.requests")
    modules += ("models.native_nets", "models.served_versions")
    runners = ("coroutines", "device_runner", "generation_runner", "generator_runner")
    runners += ("policy_runner", "posting", "request_runner", "stream_life_runner", "tensor_runner")
    modules += tuple(f"runners.{name}" for name in runners)
    telemetry = ("batch_logs", "batch_traces", "log", "shared_cells", "shared_rewards", "spans")
    modules += tuple(f"telemetry.{name}" for name in telemetry)
    assert users == {"webtorch._zone.zone", *(f"webtorch._worker.{name}" for name in modules)}
