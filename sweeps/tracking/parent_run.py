"""The MLflow experiment and the parent run of a sweep."""

import json
import time
from pathlib import Path
from typing import Any

from ear.errors import UserError
from sweeps.spec.identity import SweepIdentity
from sweeps.spec.tags import DIGEST, KIND, LAST_RAN, OBJECTIVE, OBJECTIVES, PARAMETERS
from sweeps.tracking.mlflow_client import search_runs, tracking_uri
from sweeps.tracking.mlflow_database import artifact_folder, is_database

SETTINGS_FILE = "sweep.json"  # the artifact with the sweep's settings


class ParentRun:
    """The parent run of a sweep: found, restored or created, and set to RUNNING."""

    def __init__(self, identity: SweepIdentity, root: Path, client: Any) -> None:
        """Opens the run.

        Raises:
            UserError: the sweep's experiment was deleted in MLflow.
        """
        self._identity = identity
        self._client = client
        self.experiment = self._open_experiment(root)
        self.id = self._find() or self._create()
        self.touch()
        client.set_tag(self.id, OBJECTIVES, json.dumps(identity.objectives))  # earlier versions did not
        # An axis can be spelled in more than one way, `stages.1` and `stages.-1`: the latest spelling applies.
        client.set_tag(self.id, PARAMETERS, json.dumps(identity.axes))
        if identity.source.exists():
            client.log_artifact(self.id, str(identity.source))
        for name, value in identity.tags.items():
            client.set_tag(self.id, name, value)
        client.set_tag(self.id, LAST_RAN, str(time.time_ns() // 1_000_000))
        client.update_run(self.id, status="RUNNING")

    def touch(self) -> None:
        """Rewrites an existing tag and artifact, which shows whether MLflow accepts writes now."""
        self._client.set_tag(self.id, KIND, "sweep")
        self._client.log_dict(self.id, self._identity.resolved, SETTINGS_FILE)

    def close(self, complete: bool) -> None:
        """Ends the run; `complete` says whether every child run has its result."""
        self._client.set_terminated(self.id, "FINISHED" if complete else "KILLED")

    def _open_experiment(self, root: Path) -> str:
        name = self._identity.name
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            # Without an explicit location, artifacts would go to the current working directory.
            artifacts = artifact_folder(root, name)
            return str(
                self._client.create_experiment(
                    name,
                    artifacts.as_uri() if is_database(tracking_uri(root)) else None,  # a server chooses
                    # With this tag MLflow's page opens on runs and curves instead of on traces of language models.
                    tags={"mlflow.experimentKind": "custom_model_development"},
                )
            )
        if experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"The experiment {name!r} was deleted in MLflow: restore it there, "
                f"or give {self._identity.source} another name."
            )
        return str(experiment.experiment_id)

    def _find(self) -> str | None:
        """The run's id, if it exists. A deleted run is restored, since its child runs may still exist."""
        ours = f"tags.`{DIGEST}` = '{self._identity.digest}'"
        if found := search_runs(self._client, self.experiment, ours):
            return str(found[0].info.run_id)
        if not (found := search_runs(self._client, self.experiment, ours, deleted=True)):
            return None
        self._client.restore_run(found[0].info.run_id)
        return str(found[0].info.run_id)

    def _create(self) -> str:
        tags = {
            DIGEST: self._identity.digest,
            KIND: "sweep",
            PARAMETERS: json.dumps(self._identity.axes),
            OBJECTIVE: self._identity.objectives[0],
        }
        return str(self._client.create_run(self.experiment, run_name=self._identity.name, tags=tags).info.run_id)
