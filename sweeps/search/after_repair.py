"""How a search continues after `ear store verify --repair` removed some of its results.

Finished trials keep their values in the study. The removed results are computed again. If they come out the same, the
search continues. If not, the damaged values have influenced all later proposals, and the study can't be corrected.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ear.errors import UserError
from ear.store import Store
from ear.store.repair import removed_keys
from sweeps.spec.result_comparison import same_number
from sweeps.spec.runs import PlannedRun

STEERED = "steered"  # study attribute: trials whose recomputed results differ from the damaged ones


class RemovedResults:
    """The keys of all results that were ever removed from a store, including those computed again since."""

    def __init__(self, store: Store) -> None:
        self._keys = removed_keys(store)

    def concerns(self, run: PlannedRun) -> bool:
        """Whether the run's evaluation or one of its stages was removed."""
        return not self._keys.isdisjoint((run.keys.evaluation, *run.keys.stages))


def rests_on_results(trial: FrozenTrial) -> bool:
    """Whether a finished trial rests on the results of all its runs, rather than on early stopping or a failure."""
    known = trial.user_attrs
    return trial.state is TrialState.COMPLETE or "diverged_at" in known or "not finite" in known


def came_out_alike(
    trial: FrozenTrial, state: TrialState, values: Sequence[float] | None, attributes: Mapping[str, Any]
) -> bool:
    """Whether the recomputed state, values and attributes of a finished trial agree with the study's."""
    known = trial.user_attrs
    if state is not trial.state:
        return False
    if values is not None and not all(map(same_number, values, trial.values)):
        return False
    if known.get("diverged_at") != attributes.get("diverged_at"):
        return False
    metrics = attributes.get("metrics", {})
    return all(same_number(metrics.get(name), value) for name, value in known.get("metrics", {}).items())


def refuse_steered(trials: Sequence[int] | None, name: str) -> None:
    """Refuses to continue a search that damaged results have influenced.

    Raises:
        UserError: `trials`, those whose results have changed, is not empty.
    """
    if trials:
        raise UserError(steered_words(trials, name))


def steered_words(trials: Sequence[int], name: str) -> str:
    """Returns the message for a search that damaged results have influenced, with the fix."""
    numbers = f"trial{'s' if len(trials) > 1 else ''} {', '.join(map(str, trials))}"
    return (
        f"Damaged results have influenced the search {name!r}: `ear store verify --repair` removed them, and the "
        f"recomputed results change {numbers}, on which later proposals are based. Rename the sweep (for example, "
        f"{name}-2) and run it again: it reuses the results in the store and computes only new proposals."
    )
