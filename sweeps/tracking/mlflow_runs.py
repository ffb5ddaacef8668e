"""Writes a sweep's runs to MLflow: the sweep is a parent run, every configuration and seed a child run.

Runs are found by their store keys. So whatever a driver was doing when it died, the next one continues there and brings
the runs up to date with the store.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ear.store import Store
from ear.store.repair import removed_keys
from ear.training.history import TrainingRecord
from sweeps.spec.identity import SweepIdentity
from sweeps.spec.result_comparison import differs
from sweeps.spec.runs import PlannedRun, result_of
from sweeps.spec.tags import (
    BEST,
    CHECKPOINT_TAG,
    DESCRIPTION,
    HOSTS,
    KEY,
    KIND,
    MEASURED_BY,
    OUTCOME,
    PARAMETERS,
    PARENT,
    SEED,
    STAGES,
    detail,
)
from sweeps.tracking.mlflow_client import refuses, search_runs
from sweeps.tracking.mlflow_values import flatten, log_batch, metrics_at
from sweeps.tracking.parent_run import ParentRun
from sweeps.tracking.run_artifacts import CONFIG, RunArtifacts
from sweeps.tracking.run_names import description, run_name
from sweeps.tracking.run_view import VIEW_TAG, run_view
from sweeps.tracking.summary import SweepSummary

METRICS_PER_CALL = 999  # MLflow's limit is 1000; a multiple of 3 keeps the 3 metrics of a curve's point together
PARAMETERS_PER_CALL = 100


class MlflowRuns:
    """The MLflow runs of one sweep. Every method writes to MLflow before it returns, or raises the client's error.

    A call that raised may have taken effect: `look_up` the run, then call again. `at` is the time of the event in ms;
    with it, a metric that is written twice remains one point.
    """

    def __init__(self, identity: SweepIdentity, store: Store, root: Path, client: Any) -> None:
        self.identity = identity
        self.store = store
        self.client = client
        self._sweep = ParentRun(identity, root, client)
        self.experiment, self.parent = self._sweep.experiment, self._sweep.id
        self._runs: dict[str, str] = {}  # run ids; here and below, by evaluation key
        self._points: dict[str, str] = {}  # the values of the axes in MLflow
        self._ended: set[str] = set()
        self._removed = removed_keys(store)  # keys whose metrics in MLflow may come from damaged results
        self._shown: dict[str, tuple[str, Mapping[str, float]]] = {}  # outcome and metrics in MLflow of such runs
        self._pruned: set[str] = set()
        self._running: set[str] = set()
        self._incomplete: set[str] = set()
        self._viewed = False  # whether this driver has written the experiment's view
        self._curves: dict[str, set[int]] = {}  # steps in MLflow, of running runs
        self._started: dict[str, int] = {}  # in ms since 1970
        self._artifacts = RunArtifacts(store, client, root / identity.name / "logs")
        for child in self._search(f"tags.`{PARENT}` = '{self.parent}'"):
            self._take_in(child)

    def has_ended(self, key: str) -> bool:
        """Whether MLflow has the end of this run, and no repair can have changed its result since."""
        return key in self._ended and key not in self._shown

    def touch(self) -> None:
        """Rewrites what exists, which shows whether MLflow accepts writes now."""
        self._sweep.touch()

    def _search(self, filter_string: str) -> list[Any]:
        return search_runs(self.client, self.experiment, filter_string)

    def look_up(self, key: str) -> None:
        """Discards what is cached about a run and reads it from MLflow again."""
        self._runs.pop(key, None)
        self._curves.pop(key, None)
        for remembered in (self._ended, self._pruned, self._running, self._incomplete):
            remembered.discard(key)
        for run in self._search(f"tags.`{PARENT}` = '{self.parent}' and tags.`{KEY}` = '{key}'"):
            self._take_in(run)

    def _take_in(self, run: Any) -> None:
        tags = run.data.tags
        self._runs[tags[KEY]] = str(run.info.run_id)
        self._points[tags[KEY]] = tags[PARAMETERS]
        self._started[tags[KEY]] = int(run.info.start_time)
        self._artifacts.found(tags[KEY], run)
        if run.info.status == "FINISHED" and tags.get(OUTCOME) in ("finished", "diverged"):
            self._ended.add(tags[KEY])
            # A diverged run has no evaluation that could have been removed, only stages.
            if self._removed & {tags[KEY], *json.loads(tags.get(STAGES, "[]"))}:
                self._shown[tags[KEY]] = (tags[OUTCOME], run.data.metrics)
        if run.info.status == "FINISHED" and tags.get(OUTCOME) == "pruned":
            self._pruned.add(tags[KEY])
        if run.info.status == "RUNNING":
            self._running.add(tags[KEY])
        if STAGES not in tags:
            self._incomplete.add(tags[KEY])

    def begin(self, run: PlannedRun, tags: Mapping[str, str], started: int | None = None) -> None:
        """Creates the run in MLflow with its parameters, if needed, and marks it as RUNNING.

        Args:
            started: when it began, if that is not now, in ms since 1970.
        """
        key = run.keys.evaluation
        self._correct(run)
        if key in self._ended:
            return
        if key not in self._runs:
            self._create(run, tags, started)
        if key in self._incomplete:
            self._describe(run)
        if key not in self._running:
            self.client.update_run(self._runs[key], status="RUNNING")
            self._running.add(key)

    def _create(self, run: PlannedRun, tags: Mapping[str, str], started: int | None) -> None:
        key = run.keys.evaluation
        created = self.client.create_run(
            self.experiment,
            start_time=started,
            run_name=run_name(run, tags),
            tags={
                PARENT: self.parent,
                KEY: key,
                PARAMETERS: json.dumps(run.parameters),
                SEED: str(run.seed),
                KIND: "run",
                DESCRIPTION: description(run),
                **tags,
            },
        )
        self._started[key] = int(created.info.start_time)
        self._runs[key] = str(created.info.run_id)
        self._points[key] = json.dumps(run.parameters)
        self._curves[key] = set()
        self._running.add(key)
        self._incomplete.add(key)

    def _correct(self, run: PlannedRun) -> None:
        """Updates an existing run's axes to their current names and values.

        A sweep can spell an axis in another way, `stages.1` for `stages.-1`, and earlier versions stored a value as
        written in the YAML, `"1.5"`. The tag marks the run as corrected, so it is written last.
        """
        key, point = run.keys.evaluation, json.dumps(run.parameters)
        if key in self._runs and self._points[key] != point:
            self.client.update_run(self._runs[key], name=run_name(run, {}))
            self.client.set_tag(self._runs[key], PARAMETERS, point)
            self._points[key] = point

    def _describe(self, run: PlannedRun) -> None:
        key = run.keys.evaluation
        values = run.config.model_dump(mode="json")
        if not self._viewed:
            view = run_view(self.identity.axes, values, self.identity.objectives)
            self.client.set_experiment_tag(self.experiment, VIEW_TAG, view)
            self._viewed = True
        self.client.log_dict(self._runs[key], values, CONFIG)
        parameters = [(name, str(value)) for name, value in flatten(values)]
        *before, last = (
            dict(parameters[start:][:PARAMETERS_PER_CALL]) for start in range(0, len(parameters), PARAMETERS_PER_CALL)
        )
        for some in before:
            log_batch(self.client, self._runs[key], params=some)
        # The tag marks the run as complete, so it goes with the last parameters.
        log_batch(self.client, self._runs[key], params=last, tags={STAGES: json.dumps(run.keys.stages)})
        self._incomplete.discard(key)

    def progress(self, run: PlannedRun, records: Sequence[TrainingRecord], at: int) -> None:
        """Writes new points of the training curve; skips those that MLflow already has."""
        key = run.keys.evaluation
        if key not in self._running:
            return
        there = self._curve(key)
        fresh = [record for record in records if record.step not in there]
        metrics = [
            metric
            for record in fresh
            for metric in metrics_at(
                {"loss": record.loss, "gradient_norm": record.gradient_norm, "learning_rate": record.learning_rate},
                record.step,
                at,
            )
        ]
        for start in range(0, len(metrics), METRICS_PER_CALL):
            log_batch(self.client, self._runs[key], metrics=metrics[start : start + METRICS_PER_CALL])
        there |= {record.step for record in fresh}

    def _curve(self, key: str) -> set[int]:
        """The steps in MLflow: all, not only the last, as a killed driver may leave a gap and a resumed one repeats."""
        if key not in self._curves:
            self._curves[key] = {metric.step for metric in self.client.get_metric_history(self._runs[key], "loss")}
        return self._curves[key]

    def intermediate(self, run: PlannedRun, step: int, value: float, at: int) -> None:
        """Writes an intermediate value of early stopping."""
        if run.keys.evaluation in self._running:
            log_batch(
                self.client, self._runs[run.keys.evaluation], metrics=metrics_at({"intermediate": value}, step, at)
            )

    def finish(self, run: PlannedRun, tags: Mapping[str, str], at: int) -> None:
        """Writes the run's results from the store, which must exist; if already written, restores missing artifacts."""
        if self._is_written(run, self._ended):
            return
        # Imported here: they import torch, which a sweep with nothing to do does not need (`Tracker.finish`).
        from ear.run import Run
        from ear.training.checkpoint import CHECKPOINT

        stored = Run(run.config, self.store)
        outcome, evaluation = stored.training_outcome(), stored.evaluation()
        assert outcome is not None
        # What the run itself took: MLflow shows the difference of the times as its duration, and most runs wait for
        # others. Those that MLflow did not see begin end now.
        taken = round(1000 * (outcome.seconds + (0.0 if evaluation is None else evaluation.seconds)))
        self.begin(run, tags, at - taken)
        run_id = self._runs[run.keys.evaluation]
        self.progress(run, stored.history(), at)
        entry = self.store.entry(outcome.key)
        tags = {
            OUTCOME: "finished" if outcome.diverged_at is None else "diverged",
            CHECKPOINT_TAG: str(self.store.path(outcome.key) / CHECKPOINT),
            **{
                detail(name): json.dumps(value) if isinstance(value, dict) else str(value)
                for name, value in entry.provenance.items()
            },
        }
        metrics = {"train_seconds": outcome.seconds, "train_steps": float(outcome.step)}
        tags[HOSTS] = json.dumps(self._hosts(run))
        if evaluation is None:
            metrics["diverged_at"] = float(outcome.diverged_at or 0)
        else:
            metrics |= evaluation.metrics
            metrics["evaluate_seconds"] = evaluation.seconds
            # As tags, since MLflow draws a chart of every metric, and these are the same for all runs.
            conditions = {name: getattr(evaluation, name) for name in MEASURED_BY}
            tags |= {detail(name): str(value) for name, value in conditions.items() if value not in (None, "")}
            self._artifacts.log_results(run, run_id)
        log_batch(self.client, run_id, metrics=metrics_at(metrics, outcome.step, at), tags=tags)
        self._end(run, "FINISHED", self._started[run.keys.evaluation] + taken)

    def _retire_stale(self, run: PlannedRun) -> None:
        """Deletes a run that was recorded from a damaged result and differs from the recomputed one, if any; its
        training curve is stale too."""
        key = run.keys.evaluation
        shown = self._shown.pop(key, None)
        if shown is not None and differs(result_of(run, self.store), *shown):
            self.client.delete_run(self._runs[key])  # MLflow keeps it among the deleted runs
            self.look_up(key)

    def _is_written(self, run: PlannedRun, written: set[str]) -> bool:
        """Whether MLflow shows the end that the store has; if so, restores missing artifacts."""
        self._correct(run)
        self._retire_stale(run)  # it is no longer in `written` then
        if run.keys.evaluation not in written:
            return False
        self._artifacts.restore(run, self._runs[run.keys.evaluation])
        return True

    def _hosts(self, run: PlannedRun) -> list[str]:
        """The distinct hosts that computed its stages and its evaluation."""
        made = [key for key in (*run.keys.stages, run.keys.evaluation) if key in self.store]
        return list(dict.fromkeys(self.store.entry(key).provenance["host"] for key in made))

    def prune(self, run: PlannedRun, tags: Mapping[str, str]) -> None:
        """Marks the run as stopped early, which is a result too; if already marked, restores missing artifacts."""
        # It runs again if another driver wrote its end before this one's `begin` was written.
        if self._is_written(run, self._pruned) and run.keys.evaluation not in self._running:
            return
        self.begin(run, tags)
        self.client.set_tag(self._runs[run.keys.evaluation], OUTCOME, "pruned")
        self._end(run, "FINISHED")
        self._pruned.add(run.keys.evaluation)

    def fail(self, run: PlannedRun, tags: Mapping[str, str], traceback: str) -> None:
        """Marks the run as failed and stores its traceback."""
        self._retire_stale(run)
        self.begin(run, tags)
        run_id = self._runs[run.keys.evaluation]
        self.client.log_text(run_id, traceback, "traceback.txt")
        self.client.set_tag(run_id, OUTCOME, "failed")
        self._end(run, "FAILED")

    def _end(self, run: PlannedRun, status: Literal["FINISHED", "FAILED"], ended: int | None = None) -> None:
        key = run.keys.evaluation
        self._artifacts.log_logs(run, self._runs[key])
        self.client.set_terminated(self._runs[key], status, ended)
        self._running.discard(key)
        self._curves.pop(key, None)
        if status == "FINISHED":
            self._ended.add(key)

    def summarise(self, summary: SweepSummary, at: int) -> None:
        """Writes the summary to the parent run, marks the best child run, and stores the view of the runs."""
        best = self._runs.get(summary.best or "")
        before = self.client.get_run(self.parent).data.tags.get(BEST) or None
        for run_id, write in ((before, self._unmark), (best, self._mark)):
            if run_id is not None and before != best:
                self._unless_refused(write, run_id)
        tags = {DESCRIPTION: summary.description, BEST: best or ""}
        step = int(summary.metrics.get("runs_done", 0))
        log_batch(self.client, self.parent, metrics=metrics_at(summary.metrics, step, at), tags=tags)
        self.client.set_experiment_tag(self.experiment, VIEW_TAG, summary.view)

    def _mark(self, run_id: str) -> None:
        self.client.set_tag(run_id, BEST, "true")

    def _unmark(self, run_id: str) -> None:
        self.client.delete_tag(run_id, BEST)

    @staticmethod
    def _unless_refused(write: Callable[[str], None], run_id: str) -> None:
        """Marks or unmarks a run; whoever deleted it, or was killed between two writes, must not stop the rest."""
        try:
            write(run_id)
        except Exception as error:
            if not refuses(error):
                raise

    def close(self, complete: bool) -> None:
        """Ends all RUNNING runs when the driver ends. `complete` says whether every run has its result."""
        for key in sorted(self._running):
            try:
                self.client.set_terminated(self._runs[key], "KILLED")
            except Exception as error:
                if not refuses(error):  # rejected: somebody deleted the run
                    raise
            self._running.discard(key)
        self._sweep.close(complete)
