"""MLflow as a projection of the store: a sweep is a parent run, every configuration and seed a child run.

One process writes, the driver. Whatever it was doing when it died, the next driver finds runs by their keys and brings
them up to what the store holds.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ear.errors import UserError, import_extra
from ear.run import CHECKPOINT, Run
from ear.store import Store
from ear.training import TrainingRecord
from sweeps.plan import Plan
from sweeps.runs import PlannedRun

KEY, DIGEST, PARAMETERS, SEED, OUTCOME = "ear.key", "ear.sweep", "ear.parameters", "ear.seed", "ear.outcome"
PARENT = "mlflow.parentRunId"
BATCH = 1000  # metrics that MLflow takes in one call


def tracking_uri(root: Path) -> str:
    """Where runs are tracked: MLFLOW_TRACKING_URI, or a sqlite file under the output root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / 'mlflow.db').resolve()}"


def open_client(root: Path) -> Any:
    """An `MlflowClient`; makes the database when there is none.

    Raises:
        UserError: MLflow is not installed, or its database can't be opened.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    mlflow = import_extra("mlflow", "sweeps")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with tracking_errors(root):
        client = mlflow.MlflowClient(tracking_uri(root))
        client.search_experiments(max_results=1)
    return client


@contextmanager
def tracking_errors(root: Path) -> Iterator[None]:
    """Turns MLflow's and its database's faults into a sentence with the remedy."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"MLflow's database {tracking_uri(root)} can't be used: {reason}. If it is damaged, move it away and run "
            "the sweep again: it is filled anew from the store, nothing is trained twice."
        ) from error


class Tracker:
    """Writes one sweep's runs."""

    def __init__(self, plan: Plan, store: Store, root: Path) -> None:
        self.plan = plan
        self.store = store
        self.client = open_client(root)
        with tracking_errors(root):
            self.experiment = self._experiment(root)
            self.parent = self._find(DIGEST, plan.digest) or self._create_parent()
            children = self._search(f"tags.`{PARENT}` = '{self.parent}'")
            self._children = {run.data.tags[KEY]: run.info.run_id for run in children}
            self._finished = {run.data.tags[KEY] for run in children if run.info.status == "FINISHED"}
        self._logged_steps: dict[str, set[int]] = {}

    def _experiment(self, root: Path) -> str:
        experiment = self.client.get_experiment_by_name(self.plan.sweep.name)
        if experiment is None:
            # Without a location of its own, artifacts would go to the folder that the command was called from.
            artifacts = (root / "mlartifacts" / self.plan.sweep.name).resolve()
            local = "MLFLOW_TRACKING_URI" not in os.environ
            return str(
                self.client.create_experiment(
                    self.plan.sweep.name,
                    artifacts.as_uri() if local else None,
                    # MLflow's page then opens on runs and curves instead of on traces of language models.
                    tags={"mlflow.experimentKind": "custom_model_development"},
                )
            )
        if experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"The experiment {self.plan.sweep.name!r} was deleted in MLflow: restore it there, "
                f"or give {self.plan.source} another name."
            )
        return str(experiment.experiment_id)

    def _search(self, filter_string: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], filter_string, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _find(self, tag: str, value: str) -> str | None:
        found = self._search(f"tags.`{tag}` = '{value}'")
        return found[0].info.run_id if found else None

    def _create_parent(self) -> str:
        tags = {DIGEST: self.plan.digest, "ear.kind": "sweep", PARAMETERS: json.dumps(list(self.plan.sweep.space))}
        run = self.client.create_run(self.experiment, run_name=self.plan.sweep.name, tags=tags)
        run_id = str(run.info.run_id)
        self.client.log_artifact(run_id, str(self.plan.source))
        self.client.log_dict(run_id, self.plan.sweep.model_dump(mode="json"), "sweep.json")
        return run_id

    def begin(self, run: PlannedRun) -> None:
        """The run is being worked on: it exists in MLflow from now on, with its parameters."""
        run_id = self._children.get(run.keys.evaluation)
        if run_id is None:
            tags = {
                PARENT: self.parent,
                KEY: run.keys.evaluation,
                PARAMETERS: json.dumps(run.parameters),
                SEED: str(run.seed),
                "ear.kind": "run",
                "ear.stage_keys": json.dumps(run.keys.stages),
            }
            created = self.client.create_run(self.experiment, run_name=run.label, tags=tags)
            run_id = self._children[run.keys.evaluation] = str(created.info.run_id)
            parameters = {key: str(value) for key, value in flatten(run.config.model_dump(mode="json"))}
            self._log(run_id, params=parameters)
            self.client.log_dict(run_id, run.config.model_dump(mode="json"), "config.yaml")
        self._logged_steps[run_id] = self._steps_in_mlflow(run_id)
        self.client.update_run(run_id, status="RUNNING")

    def _steps_in_mlflow(self, run_id: str) -> set[int]:
        # Points, not the last of them: a killed driver can have left a gap, and a resumed training repeats some.
        return {metric.step for metric in self.client.get_metric_history(run_id, "loss")}

    def progress(self, run: PlannedRun, records: Sequence[TrainingRecord]) -> None:
        """New points of the training curve; those that are there already are passed over."""
        from mlflow.entities import Metric

        run_id = self._children[run.keys.evaluation]
        now = int(time.time() * 1000)
        fresh = [record for record in records if record.step not in self._logged_steps[run_id]]
        metrics = [
            Metric(name, value, now, record.step)
            for record in fresh
            for name, value in (
                ("loss", record.loss),
                ("gradient_norm", record.gradient_norm),
                ("learning_rate", record.learning_rate),
            )
        ]
        for start in range(0, len(metrics), BATCH):
            self._log(run_id, metrics=metrics[start : start + BATCH])
        self._logged_steps[run_id] |= {record.step for record in fresh}

    def finish(self, run: PlannedRun) -> None:
        """Brings the run up to its results in the store, which must be there; does nothing the second time."""
        if run.keys.evaluation in self._finished:
            return
        if self._children.get(run.keys.evaluation) not in self._logged_steps:
            self.begin(run)  # it was finished by an earlier driver, which did not come to say so here
        run_id = self._children[run.keys.evaluation]
        stored = Run(run.config, self.store)
        outcome = stored.training_outcome()
        assert outcome is not None
        self.progress(run, stored.history())
        entry = self.store.entry(outcome.key)
        tags = {
            OUTCOME: "finished" if outcome.diverged_at is None else "diverged",
            "ear.checkpoint": str(self.store.path(outcome.key) / CHECKPOINT),
            **{
                f"ear.{name}": json.dumps(value) if isinstance(value, dict) else str(value)
                for name, value in entry.provenance.items()
            },
        }
        metrics = {"train_seconds": outcome.seconds, "train_steps": float(outcome.step)}
        evaluation = stored.evaluation()
        if evaluation is None:
            metrics["diverged_at"] = float(outcome.diverged_at or 0)
        else:
            metrics |= evaluation.metrics
            conditions = {
                "evaluate_seconds": evaluation.seconds,
                "extractor_accuracy": evaluation.extractor_accuracy,
                "images": evaluation.images,
                "null_images": evaluation.null_images,
                "reference_images": evaluation.reference_images,
            }
            metrics |= {name: float(value) for name, value in conditions.items() if value is not None}
            tags |= {
                "ear.extractor": evaluation.extractor,
                "ear.extractor_hash": evaluation.extractor_hash,
                "ear.reference": evaluation.reference,
            }
            for name in ("samples.png", "samples_null.png", "evaluation.json"):
                self.client.log_artifact(run_id, str(self.store.path(run.keys.evaluation) / name))
        self._log(run_id, metrics=_metrics(metrics, outcome.step), tags=tags)
        self.client.set_terminated(run_id, "FINISHED")
        self._finished.add(run.keys.evaluation)

    def fail(self, run: PlannedRun, traceback: str) -> None:
        """The run ended in an error, which is kept with it."""
        run_id = self._children[run.keys.evaluation]
        self.client.log_text(run_id, traceback, "traceback.txt")
        self.client.set_tag(run_id, OUTCOME, "failed")
        self.client.set_terminated(run_id, "FAILED")

    def close(self, complete: bool) -> None:
        """The driver ends: nothing is left RUNNING. `complete` says whether every run has its result."""
        for key, run_id in self._children.items():
            if key not in self._finished and self.client.get_run(run_id).info.status == "RUNNING":
                self.client.set_terminated(run_id, "KILLED")
        self.client.set_terminated(self.parent, "FINISHED" if complete else "KILLED")

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Param, RunTag

        self.client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
        )


def _metrics(values: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in values.items()]


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings and lists of mappings as dotted names: training.stages.0.steps."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flatten(value, f"{prefix}{key}.")
    elif isinstance(values, list) and values and isinstance(values[0], Mapping):
        for index, value in enumerate(values):
            yield from flatten(value, f"{prefix}{index}.")
    else:
        yield prefix.removesuffix("."), values
