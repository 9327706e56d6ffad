"""What bench/cluster_storage.py wants to know of a host's model."""

from typing import Any

import cluster_app

import webtorch


@webtorch.handler
def about(request: webtorch.Request) -> dict[str, Any]:
    """Return the steps of the model, and those of this host that no round has counted."""
    model = cluster_app.model
    return {"steps": model.steps, "uncounted": model.cluster.uncounted if model.cluster else 0}
