"""Writes a run's MLflow artifacts: configuration, samples, the evaluation, the logs of its stages."""

import warnings
from pathlib import Path
from typing import Any

from ear.errors import UserError
from ear.store import Store
from ear.store.verify import require_as_published
from sweeps.spec.runs import PlannedRun
from sweeps.tracking.mlflow_database import local_folder

CONFIG = "config.yaml"


class RunArtifacts:
    """The artifacts of a sweep's runs.

    As in `MlflowRuns`, every method writes to MLflow before it returns, or raises the client's error.
    """

    def __init__(self, store: Store, client: Any, logs: Path) -> None:
        """Creates a writer; `logs` is the folder of the stages' logs, KEY.log."""
        self._store = store
        self._client = client
        self._logs = logs
        self._unchecked: dict[str, Path] = {}  # artifact folders of existing runs that `restore` has not checked

    def found(self, key: str, run: Any) -> None:
        """Registers a run that MLflow already has."""
        if (folder := local_folder(run.info.artifact_uri)) is not None:
            self._unchecked[key] = folder

    def log_results(self, run: PlannedRun, run_id: str) -> None:
        """Writes the samples and the evaluation."""
        for path in self._results(run):
            self._client.log_artifact(run_id, str(path))

    def log_logs(self, run: PlannedRun, run_id: str) -> None:
        """Writes the logs of the run's stages."""
        for log in self._logs_of(run):
            self._client.log_artifact(run_id, str(log), "logs")

    def restore(self, run: PlannedRun, run_id: str) -> None:
        """Writes the artifacts that are missing from a finished run's folder, once. Does nothing with a server."""
        key = run.keys.evaluation
        folder = self._unchecked.pop(key, None)
        if folder is None:
            return
        if not (folder / CONFIG).exists():
            self._client.log_dict(run_id, run.config.model_dump(mode="json"), CONFIG)
        results = self._results(run) if key in self._store else []
        for path, below in [*((path, "") for path in results), *((log, "logs") for log in self._logs_of(run))]:
            if path.exists() and not (folder / below / path.name).exists():
                self._client.log_artifact(run_id, str(path), below or None)

    def _results(self, run: PlannedRun) -> list[Path]:
        """The intact files of an evaluation in the store; warns of damaged ones."""
        folder, intact = self._store.path(run.keys.evaluation), []
        for name in ("samples.png", "samples_null.png", "evaluation.json"):
            try:
                require_as_published(folder / name)
            except UserError as error:
                warnings.warn(str(error), stacklevel=2)
            else:
                intact.append(folder / name)
        return intact

    def _logs_of(self, run: PlannedRun) -> list[Path]:
        return [log for stage in run.keys.stages if (log := self._logs / f"{stage}.log").exists()]
