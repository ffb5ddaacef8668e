"""Reads a sweep's runs from its record and the store."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from analysis.sweep_runs import METRICS, Row, RunOfSweep, SweepRuns
from ear.evaluation.result import load_evaluation
from ear.store import Store
from ear.store.store import Entry
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.spec.sweep_record import RecordedRun, SweepRecord, load_records
from sweeps.spec.tags import MEASURED_BY, ROLE, TRIAL


def stored_sweep(name: str, root: Path) -> SweepRuns | None:
    """Returns the sweep of this name that ran last; None if no record of one exists.

    Raises:
        UserError: a record or a result is damaged.
    """
    records = load_records(root, name)
    if not records:
        return None
    record, *others = records
    reader = ResultReader(Store(root, reading=True), _ends(record, root))
    found = [run for run in map(reader.read, record.runs) if run is not None]
    return SweepRuns(
        record.axes,
        record.objectives,
        record.settings,
        record.complete,
        found,
        [each.axes for each in others],
        record.experiment,
    )


def _ends(record: SweepRecord, root: Path) -> dict[str, str]:
    """Returns, by evaluation key, how the runs ended that have no result in the store: failed or pruned."""
    ends = {}
    if record.settings.get("search"):
        from sweeps.search.study_summary import ends_noted  # imports Optuna

        ends = ends_noted(record.name, root / record.name)
    failures = SweepFolder(root, record.name).failures()
    return ends | {key: "failed" for failure in failures for key in failure.runs}


class ResultReader:
    """Reads the results of recorded runs; stages that runs share are read once."""

    def __init__(self, store: Store, ends: Mapping[str, str]) -> None:
        self._store = store
        self._ends = ends
        self._published = store.published()
        self._stage = cache(store.entry)

    def read(self, run: RecordedRun) -> RunOfSweep | None:
        """Returns the run with its result; None if it has not ended.

        Raises:
            UserError: a result is damaged.
        """
        stages = self._trained(run)
        if run.evaluation in self._published:
            found = self._finished(run, stages)
        elif stages and stages[-1].details["diverged_at"] is not None:
            found = {"outcome": "diverged", "diverged_at": float(stages[-1].details["diverged_at"])}
            found |= {"rests_on": run.stages, "hosts": _hosts(stages)}
        elif end := self._ends.get(run.evaluation):
            found = {"outcome": end}
        else:
            return None
        return RunOfSweep(run.parameters, run.tags.get(ROLE, ""), self._row(run, stages, found))

    def _trained(self, run: RecordedRun) -> list[Entry]:
        """The entries of its stages in the store, up to the first that is missing or diverged."""
        entries: list[Entry] = []
        for key in run.stages:
            if key not in self._published:
                break
            entries.append(self._stage(key))
            if entries[-1].details["diverged_at"] is not None:
                break
        return entries

    def _finished(self, run: RecordedRun, stages: list[Entry]) -> Row:
        entry = self._store.entry(run.evaluation)
        evaluation = load_evaluation(run.evaluation, self._store, entry)
        return {
            "outcome": "finished",
            **evaluation.metrics,
            **{name: getattr(evaluation, name) or None for name in MEASURED_BY},
            "evaluate_seconds": evaluation.seconds,
            "rests_on": [run.evaluation],
            "git_commit": entry.provenance.get("git_commit"),
            "hosts": _hosts([*stages, entry]),
        }

    def _row(self, run: RecordedRun, stages: list[Entry], found: Row) -> Row:
        last = stages[-1] if stages else None
        return {
            **({"trial": int(run.tags[TRIAL])} if TRIAL in run.tags else {}),
            "seed": run.seed,
            "outcome": found["outcome"],
            "diverged_at": found.get("diverged_at"),
            **{name: found.get(name) for name in (*METRICS, *MEASURED_BY)},
            **run.settings,
            "train_steps": last and last.details["step"],
            "train_seconds": last and last.details["seconds"],
            "evaluate_seconds": found.get("evaluate_seconds"),
            "key": run.evaluation,
            "stages": run.stages,
            "rests_on": found.get("rests_on", []),
            "checkpoint": last and last.key,
            "git_commit": found.get("git_commit", last and last.provenance.get("git_commit")),
            "hosts": found.get("hosts", []),
            "run_id": None,
        }


def _hosts(entries: list[Entry]) -> list[Any]:
    return list(dict.fromkeys(entry.provenance.get("host") for entry in entries))
