"""The drain of the server that operators order; it calls C."""

from collections.abc import Mapping
from typing import Any

from webtorch._native import lib


def drain(_: Mapping[str, Any]) -> dict[str, bool]:
    """Let readiness fail in all workers, while requests are served."""
    lib.ngx_webtorch_drain_set(1)
    return get_drain({})


def undrain(_: Mapping[str, Any]) -> dict[str, bool]:
    """End the drain."""
    lib.ngx_webtorch_drain_set(0)
    return get_drain({})


def get_drain(_: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether the server is drained."""
    return {"drained": bool(lib.ngx_webtorch_drain_get())}
