"""Detectors of intrusions and floods, for `webtorch_access` and for any other handler.

    classifier = FieldClassifier.pretrained()

    @webtorch.infer
    def score(
        numbers: Int32[Tensor, "batch n"], windows: Int64[Tensor, "batch n"]
    ) -> tuple[Float32[Tensor, "batch 1"], Int64[Tensor, "batch 1"], UInt8[Tensor, "batch 8"]]:
        return classifier(numbers, windows)

`FieldClassifier` detects attacks by all fields of a request, with headers, cookies and structured
bodies, `PayloadClassifier` by its path and parameters alone, `Anomaly` requests that are new to a
site, and `FloodDetector` the clients of a flood. They are modules of PyTorch, and their inputs are
features that nginx computes. `RecentFields`, `RecentWindows` and `Recent` keep the last requests,
for labels.
`Payloads` are features of requests for the latter, `corpus` and `table` have labelled requests,
from which `python -m webtorch.detect` trains a `PayloadClassifier`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webtorch.detect._anomaly import Anomaly
    from webtorch.detect._fields import FieldClassifier
    from webtorch.detect._flood import FloodDetector
    from webtorch.detect._payload import PayloadClassifier
    from webtorch.detect._payloads import Payloads
    from webtorch.detect._recent import Recent, RecentFields, RecentWindows
    from webtorch.detect._site import SiteGuard
else:
    # imported when they are first used, as in the package itself
    _MODULES = {
        "Anomaly": "_anomaly",
        "FieldClassifier": "_fields",
        "FloodDetector": "_flood",
        "PayloadClassifier": "_payload",
        "Payloads": "_payloads",
        "Recent": "_recent",
        "RecentFields": "_recent",
        "RecentWindows": "_recent",
        "SiteGuard": "_site",
    }

    def __getattr__(name):
        """Import a name of the package from its module."""
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found

    def __dir__():
        """List all names, those that are not imported yet among them."""
        return sorted({*globals(), *__all__})


__all__ = [
    "Anomaly",
    "FieldClassifier",
    "FloodDetector",
    "PayloadClassifier",
    "Payloads",
    "Recent",
    "RecentFields",
    "RecentWindows",
    "SiteGuard",
]
