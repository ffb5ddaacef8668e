"""What becomes of a search of which `ear store verify --repair` removed results.

Trials that have ended stay in the study with the values that they were told. What was removed is computed anew: where
it comes to the same, the search goes on; where it does not, damaged values have steered what was proposed since then,
and nothing in the study undoes that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ear.errors import UserError
from ear.store import Store
from ear.store.repair import removed_keys
from sweeps.spec.result_comparison import same_number
from sweeps.spec.runs import PlannedRun

STEERED = "steered"  # attribute of the study: trials that came out differently when they were computed anew


class Removed:
    """What was ever removed from a store; some is there again."""

    def __init__(self, store: Store) -> None:
        self._keys = removed_keys(store)

    def concerns(self, run: PlannedRun) -> bool:
        return not self._keys.isdisjoint((run.keys.evaluation, *run.keys.stages))


def rests_on_results(trial: FrozenTrial) -> bool:
    """Whether results of all of its runs decided how it ended; else it was stopped early, or failed."""
    known = trial.user_attrs
    return trial.state is TrialState.COMPLETE or "diverged_at" in known or "not finite" in known


def came_out_alike(
    trial: FrozenTrial, state: TrialState, values: Sequence[float] | None, attributes: Mapping[str, Any]
) -> bool:
    """Whether a trial that has ended would be told the same now."""
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
    """
    Raises:
        UserError: damage has steered the search; `trials` are those that show it.
    """
    if trials:
        raise UserError(steered_words(trials, name))


def steered_words(trials: Sequence[int], name: str) -> str:
    """A sentence with the remedy."""
    numbers = f"trial{'s' if len(trials) > 1 else ''} {', '.join(map(str, trials))}"
    return (
        f"Damaged results have steered the search {name!r}: `ear store verify --repair` removed them, and computed "
        f"anew they change {numbers}, from which it went on. Give the sweep another name (say, {name}-2) and run it: "
        "what is trained and evaluated is found in the store, and only what it proposes otherwise is computed."
    )
