"""What a model shows of the hosts that train it."""

from dataclasses import dataclass

from webtorch._zone.shared_state import SharedState


@dataclass(frozen=True)
class ModelCluster:
    """What this host knows of a model that all hosts of a cluster train.

    Attributes:
        members: Ids of the hosts that take part now, this one among them, sorted; this one alone
            if it is cut off.
        generation: Number of the group that they form; it grows when hosts come or go.
        steps: Optimizer steps of all hosts that the last round's weights contain.
        uncounted: Steps of this host since then, which the next round counts.
        last_round: When the last round of the model ended, seconds since 1970; 0: there was none.

    """

    members: list[str]
    generation: int
    steps: int
    uncounted: int
    last_round: float


def describe_cluster(shared: SharedState) -> ModelCluster | None:
    """Return what is known of a model; None if it stays with its host."""
    store = shared.rounds_store(shared.blocks)
    if store is None:
        return None
    state = store.state
    return ModelCluster(
        members=list(state.members),
        generation=state.generation,
        steps=state.anchor.steps,
        uncounted=max(0, store.made() - state.mark),
        last_round=state.time,
    )
