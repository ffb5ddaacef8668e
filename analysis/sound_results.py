"""Loads a sweep's results if none of them is damaged, outdated or based on such ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.results import SweepResults, load_results
from ear.errors import UserError
from ear.store import Store
from ear.store.outdated import refuse_outdated
from ear.store.repair import removed_keys
from sweeps.spec.result_comparison import STORED_OUTCOMES, differs
from sweeps.spec.runs import stored_result


def sound_results(name: str, root: Path) -> SweepResults:
    """Loads a sweep's results and checks that none is damaged, outdated or based on such ones.

    Raises:
        UserError: one is, the sweep is unknown, none of its runs has ended, or they were not measured alike.
    """
    results, store = load_results(name, root), Store(root, reading=True)
    refuse_outdated(store, results.rests_on)
    if results.client is not None:  # what the store holds can't be stale
        refuse_removed(store, results)
    if results.searched:
        refuse_damaged_search(name, root)
    return results


def refuse_removed(store: Store, results: SweepResults) -> None:
    """Checks that MLflow's numbers do not come from results that a repair removed.

    Raises:
        UserError: some of them do.
    """
    removed = removed_keys(store)
    resting = [
        run
        for run in results.all_runs
        if run["outcome"] in STORED_OUTCOMES.values() and removed & {run["key"], *run["stages"]}
    ]
    if stale := sum(_is_stale(run, store) for run in resting):
        raise UserError(
            f"{stale} of these results were damaged or based on damaged ones, and `ear store verify --repair` "
            "removed them: run the sweep again to recompute them and correct MLflow."
        )


def _is_stale(run: dict[str, Any], store: Store) -> bool:
    """Whether a row differs from the store; compares only the metrics that reports show."""
    result = stored_result(run["stages"], run["key"], store)
    if result is not None:
        result = replace(result, metrics={name: value for name, value in result.metrics.items() if name in run})
    return differs(result, run["outcome"], run)


def refuse_damaged_search(name: str, root: Path) -> None:
    """Checks that no damaged result has influenced a search's proposals.

    Raises:
        UserError: one has, even if MLflow's numbers are correct by now.
    """
    from sweeps.search.after_repair import STEERED, refuse_steered  # these import Optuna
    from sweeps.search.study_summary import load_study

    if study := load_study(name, root / name):
        refuse_steered(study.user_attrs.get(STEERED), name)
