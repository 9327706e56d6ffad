"""Detectors of intrusions and floods, for `webtorch_access` and for any other handler.

`PayloadClassifier` tells attacks by the payload of a request, `Anomaly` what is new to a site, and
`FloodDetector` who is part of a flood. They are modules of PyTorch, and their inputs are features
that nginx computes; `Payloads` are those of requests, and `Recent` keeps them for a while.
`python -m webtorch.detect` trains a `PayloadClassifier`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webtorch.detect._anomaly import Anomaly
    from webtorch.detect._flood import FloodDetector
    from webtorch.detect._payload import PayloadClassifier
    from webtorch.detect._payloads import Payloads
    from webtorch.detect._recent import Recent
else:
    # imported when they are first asked for, as the rest of the package
    _MODULES = {
        "Anomaly": "_anomaly",
        "FloodDetector": "_flood",
        "PayloadClassifier": "_payload",
        "Payloads": "_payloads",
        "Recent": "_recent",
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
        """List the names that are not imported yet, too."""
        return sorted({*globals(), *__all__})


__all__ = ["Anomaly", "FloodDetector", "PayloadClassifier", "Payloads", "Recent"]
