"""The settings of `webtorch_cluster`, as C has parsed them."""

from typing import Any, Final, Literal

from webtorch._cluster.coordinator import normal_address
from webtorch._cluster.interfaces import Compression, Outer, Rolling, Settings
from webtorch._native import ffi, lib

_COMPRESS: Final[dict[int, Compression]] = {
    lib.WEBTORCH_COMPRESS_NONE: "none",
    lib.WEBTORCH_COMPRESS_BF16: "bf16",
    lib.WEBTORCH_COMPRESS_INT8: "int8",
}

_GUEST: Final[dict[int, Literal["auto", "always", "off"]]] = {
    lib.WEBTORCH_GUEST_AUTO: "auto",
    lib.WEBTORCH_GUEST_ALWAYS: "always",
    lib.WEBTORCH_GUEST_OFF: "off",
}


def read_settings(found: Any) -> Settings | None:
    """Return the settings of a `webtorch_cluster_t`; None if there is none."""
    if found == ffi.NULL:
        return None
    outer = Outer()
    if found.outer == lib.WEBTORCH_OUTER_NESTEROV:
        outer = Outer("nesterov", found.rate, found.momentum)
    return Settings(
        name=_text(found.name),
        id=_text(found.id),
        coordinator=(_text(found.coordinator), found.coordinator_port),
        address=normal_address(_text(found.address)),
        port=found.port,
        secrets=tuple(
            bytes(ffi.buffer(found.secret[index], found.secret_len[index]))
            for index in range(found.nsecrets)
        ),
        interval=found.interval / 1000,
        timeout=found.timeout / 1000,
        compress=_COMPRESS[found.compress],
        outer=outer,
        rolling=Rolling(found.rollout, found.pause / 1000) if found.rollout else None,
        guest=_GUEST[found.guest],
    )


def _text(value: Any) -> str:
    return "" if value == ffi.NULL else ffi.string(value).decode()
