"""What a process counts: cells, counts of models, stages of pipelines, rewards of splits.

In nginx's workers cells and rewards are in shared memory, see `_worker/telemetry/`. The public
interface is `webtorch.metrics`.
"""
