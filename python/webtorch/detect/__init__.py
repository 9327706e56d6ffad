"""Detectors of intrusions and floods, for `webtorch_access` and for any other handler.

    classifier = PayloadClassifier.pretrained()

    @webtorch.infer
    def score(
        tokens: Int32[Tensor, "batch 5 tokens"], segments: Int64[Tensor, "batch tokens"]
    ) -> Float32[Tensor, "batch 1"]:
        return classifier(tokens, segments)

`PayloadClassifier` detects attacks by the payload of a request, `FieldClassifier` by all of its
fields, with headers, cookies and structured bodies, `Anomaly` requests that are new to a site, and
`FloodDetector` the clients of a flood. They are modules of PyTorch, and their inputs are features
that nginx computes. `Payloads` are these features of requests, and `Recent` keeps the last ones.
`corpus` and `table` have labelled requests, from which `python -m webtorch.detect` trains a
`PayloadClassifier`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webtorch.detect._anomaly import Anomaly
    from webtorch.detect._fields import FieldClassifier
    from webtorch.detect._flood import FloodDetector
    from webtorch.detect._payload import PayloadClassifier
    from webtorch.detect._payloads import Payloads
    from webtorch.detect._recent import Recent
else:
    # imported when they are first used, as in the package itself
    _MODULES = {
        "Anomaly": "_anomaly",
        "FieldClassifier": "_fields",
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
        """List all names, those that are not imported yet among them."""
        return sorted({*globals(), *__all__})


__all__ = [
    "Anomaly",
    "FieldClassifier",
    "FloodDetector",
    "PayloadClassifier",
    "Payloads",
    "Recent",
]
