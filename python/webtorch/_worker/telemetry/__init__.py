"""What a worker reports: logs, traces and spans, cells of metrics, rewards of splits.

The modules of `_metrics/` count; `shared_cells` and `shared_rewards` put what they count into the
memory that workers share.
"""
