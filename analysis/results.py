"""The results of a sweep as a table with a row per run, from the store, or from MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.axis_values import NOT_DRAWN, axis_column
from analysis.conditions import Conditions, conditions_of
from analysis.store_source import stored_sweep
from analysis.sweep_runs import METRICS, RunOfSweep, SweepRuns
from ear.config import load_config
from ear.errors import UserError
from sweeps.spec.search_schema import BoundConfig
from sweeps.spec.sweep_record import recorded_names
from sweeps.spec.tags import CONFIRMATION_ROLE

__all__ = ["METRICS", "SweepResults", "load_results", "load_runs"]


@dataclass(frozen=True)
class SweepResults:
    """The results of a sweep."""

    name: str
    axes: list[str]  # dotted parameters
    frame: pd.DataFrame  # a row per ended run (analysis.sweep_runs), sorted by the axes and the seed
    conditions: list[Conditions]  # distinct evaluation conditions; several only if an axis varies them
    client: Any  # the MlflowClient that read the runs, for their files; None if they come from the store
    confirmations: pd.DataFrame  # a search's confirmation runs
    objectives: list[str]  # the metrics that rank
    constraints: dict[str, BoundConfig] = field(default_factory=dict)  # of a search, by metric
    earlier: list[list[str]] = field(default_factory=list)  # axes of earlier sweeps of this name, newest first
    incomplete: str = ""  # what the sweep still lacks, as a sentence; empty if nothing
    experiment: str | None = None  # MLflow's id of its experiment, if known
    base: dict[str, Any] = field(default_factory=dict)  # of a grid: the base's value of each axis, where it is known

    @property
    def objective(self) -> str:
        """The first objective."""
        return self.objectives[0]

    @property
    def searched(self) -> bool:
        """Whether the sweep is a search, not a grid."""
        return "trial" in self.frame

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of finished runs."""
        return self.frame[self.frame["outcome"] == "finished"]

    @property
    def rests_on(self) -> set[str]:
        """The store keys of the evaluations that give the numbers, and of the stages of diverged runs."""
        return {key for run in self.all_runs for key in run["rests_on"]}

    @property
    def all_runs(self) -> list[dict[str, Any]]:
        """All rows, including those of a search's confirmation."""
        return [run for frame in (self.frame, self.confirmations) for run in frame.to_dict("records")]


def load_runs(name: str, root: str | Path = "runs", tracking_uri: str | None = None) -> pd.DataFrame:
    """Returns the runs of a sweep that have ended, a row each; `analysis.sweep_runs` describes the columns.

    Args:
        name: the sweep's name, as in its YAML; of several with this name, the one that ran last.
        root: the output root.
        tracking_uri: an MLflow server or database to read instead of the store.

    Raises:
        UserError: as `load_results`.
    """
    return load_results(name, Path(root), tracking_uri).frame


def load_results(name: str, root: Path, tracking_uri: str | None = None) -> SweepResults:
    """Loads the results of the sweep of this name that ran last.

    They come from the store. MLflow is read if it is asked for, and for sweeps of which the store knows nothing:
    earlier versions kept no record, and a store can be deleted or elsewhere.

    Raises:
        UserError: there is none, none of its runs has ended, or its runs were measured under different conditions.
    """
    stored = None if tracking_uri else stored_sweep(name, root)
    if stored is not None and stored.runs:
        return results_of(name, stored)
    try:
        return tracked_results(name, root, tracking_uri)
    except UserError:
        if stored is None:
            raise
    raise UserError(f"No run of {name!r} has ended yet: continue it with `ear sweep run FILE`.")


def tracked_results(name: str, root: Path, uri: str | None) -> SweepResults:
    """As `load_results`, from MLflow.

    Raises:
        UserError: also if MLflow can't be read.
    """
    # MLflow takes seconds to import.
    from analysis.mlflow_source import tracked_sweep
    from ear.terminal.credentials import shown
    from sweeps.tracking.mlflow_client import open_client, tracked_at, tracking_errors, tracking_uri

    with tracked_at(uri):
        client = open_client(root, reading=True)
        with tracking_errors(root):
            found = tracked_sweep(name, client)
            if found is None:
                known = {each.name for each in client.search_experiments()} - {"Default"} | set(recorded_names(root))
                raise unknown_sweep(name, sorted(known), shown(tracking_uri(root)))
    return results_of(name, found, client)


def unknown_sweep(name: str, known: Sequence[str], place: str) -> UserError:
    """Returns the error for a sweep that does not exist; it names similar ones, or all."""
    close = get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}."
    return UserError(f"There is no sweep {name!r} in {place}; {hint}")


def results_of(name: str, sweep: SweepRuns, client: Any = None) -> SweepResults:
    """Returns a sweep's runs as tables.

    Raises:
        UserError: no run has ended that is not a confirmation, or the runs were measured under different conditions.
    """
    measured = [run for run in sweep.runs if run.role != CONFIRMATION_ROLE]
    again = [run for run in sweep.runs if run.role == CONFIRMATION_ROLE and run.row["outcome"] != "failed"]
    if not measured:
        raise UserError(f"No run of {name!r} has ended yet: continue it with `ear sweep run FILE`.")
    return SweepResults(
        name,
        sweep.axes,
        frame_of(measured, sweep.axes, searched=sweep.searched),
        conditions_of(measured, sweep.axes),
        client,
        confirmations(again),
        sweep.objectives,
        constraints(sweep.settings) if sweep.searched else {},
        sweep.earlier,
        sweep.incomplete,
        sweep.experiment,
        {} if sweep.searched else base_values(sweep.settings, sweep.axes),
    )


def constraints(settings: Mapping[str, Any]) -> dict[str, BoundConfig]:
    """Returns a search's constraints."""
    return {metric: BoundConfig(**bound) for metric, bound in settings["search"]["constraints"].items()}


def base_values(settings: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """Returns the base's value of each axis; nothing if the base can't be read any more."""
    try:
        config = load_config(settings["base"]).model_dump(mode="json")
    except (KeyError, UserError):  # a file that was moved
        return {}
    return {axis: settings["set"].get(axis, value_at(config, axis)) for axis in axes}


def value_at(config: Any, parameter: str) -> Any:
    """Returns a dotted parameter's value; None if the configuration does not have it."""
    for part in parameter.split("."):
        try:
            config = config[int(part)] if isinstance(config, list) else config[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return config


def confirmations(runs: Sequence[RunOfSweep]) -> pd.DataFrame:
    """Returns the confirmation runs of a search, a row each; only those with the largest number of images."""
    if not runs:
        return pd.DataFrame()
    found = pd.DataFrame([run.row for run in runs])
    images = found["images"]  # NaN for diverged runs; fewer for runs under earlier settings
    return found[(images == images.max()) | images.isna()].reset_index(drop=True)


def frame_of(runs: Sequence[RunOfSweep], axes: list[str], *, searched: bool) -> pd.DataFrame:
    """Returns a table with a row per run, sorted by the axes and the seed.

    Raises:
        UserError: a grid's run has no value for an axis.
    """
    if not searched:  # in a search, some parameters may not be drawn
        for run in runs:
            require_axes(run.parameters, axes)
    columns = {axis: axis_column([run.parameters.get(axis, NOT_DRAWN) for run in runs]) for axis in axes}
    rows = pd.DataFrame([run.row for run in runs])
    frame = pd.DataFrame({**columns, **rows[[name for name in rows if name not in axes]]})
    return frame.sort_values([*axes, "seed"], ignore_index=True)


def require_axes(point: Mapping[str, Any], axes: Sequence[str]) -> None:
    """Checks that a grid's run has a value for every axis.

    A run may lack one if the YAML spells the axes in another way than before and no driver has updated the run yet.
    Without the value, runs of different configurations would look like seeds of one.

    Raises:
        UserError: a value is missing.
    """
    if missing := [axis for axis in axes if axis not in point]:
        raise UserError(
            f"Runs of this sweep were recorded without a value of {', '.join(missing)}, but of {', '.join(point)}: its "
            "axes were spelled in two ways. Run the sweep again, which trains nothing again, or wait for the running "
            "driver; then write the report."
        )
