"""What was counted at this host of a model; it touches cffi."""

from webtorch._cluster.rollout_judge import Figures
from webtorch._models import model_versions
from webtorch._native import ffi, lib
from webtorch._worker.loading import loader


def count(key: str) -> Figures:
    """Return the answers of handlers that use a model, and its steps and losses.

    They are those of all workers that there were since nginx was started. Answers are not counted
    by versions of the model.

    Args:
        key: The model's key.

    """
    first, second = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    losses = ffi.new("double *")
    name, _ = model_versions.split(key)
    answers = errors = 0
    for handler in loader.users(name):
        lib.ngx_webtorch_metrics_sum_answers(handler.encode(), first, second)
        answers += first[0]
        errors += second[0]
    lib.ngx_webtorch_metrics_sum_losses(key.encode(), first, losses)
    return Figures(answers, errors, first[0], losses[0])
