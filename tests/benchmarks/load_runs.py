"""Times how long it takes to load a sweep's runs: from the store, and from MLflow.

    python tests/benchmarks/load_runs.py [RUNS]

The sweep is made up: RUNS results (5,000 by default) are published without training, and written to MLflow's tables in
bulk, as many tags, parameters and metrics as a real run has.
"""

import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from ear.config import load_config
from ear.config.hashing import digest
from ear.files.writing import write_json
from ear.store import Store
from sweeps.spec.sweep_record import EVALUATION_SETTINGS, RecordedRun, SweepRecord
from sweeps.spec.tags import DIGEST, HOSTS, KEY, OUTCOME, PARAMETERS, PARENT, SEED, STAGES
from sweeps.tracking.mlflow_client import open_client
from sweeps.tracking.mlflow_database import sqlite_uri
from sweeps.tracking.mlflow_values import flatten
from sweeps.tracking.parent_run import SETTINGS_FILE

AIM = {"store": 2.0, "mlflow": 10.0}  # seconds for 5,000 runs
ALPHA = "scoring.alpha"
SEEDS = 5
REPEATS = 3
METRICS_OF_A_RUN = {name + suffix: 1.5 for name in ("fid", "is", "precision", "recall") for suffix in ("", "_null")}


def made_up(root: Path, count: int) -> SweepRecord:
    """Publishes the results of `count` runs and records their sweep."""
    store = Store(root)
    values = [1 + number / count for number in range(-(-count // SEEDS))]
    runs = []
    measured = {
        "extractor": "digits-classifier",
        "extractor_accuracy": 0.99,
        "extractor_hash": "0" * 16,
        "reference": "digits/train",
        "reference_images": 1297,
        "images": 2000,
        "null_images": 1000,
        "seconds": 2.0,
        "reference_hash": "0" * 64,
    }
    settings = dict(zip(EVALUATION_SETTINGS, (1.0, 1.0, 8, 0), strict=True))
    for number in range(count):
        parameters, seed = {ALPHA: values[number // SEEDS]}, number % SEEDS
        stages = [digest(["stage", number, each])[:32] for each in range(2)]
        evaluation = digest(["evaluation", number])[:32]
        for step, key in enumerate(stages, start=1):
            details = {"step": 600 * step, "seconds": 17.0 * step, "diverged_at": None}
            store.publish(key, "training", lambda folder: write_json(folder / "config.json", {}), details)
        result = {"metrics": METRICS_OF_A_RUN | {"fid": float(number)}, **measured}
        store.publish(evaluation, "evaluation", lambda folder, r=result: write_json(folder / "evaluation.json", r))
        runs.append(RecordedRun(parameters, seed, stages, evaluation, settings, {}))
    space = {"space": {ALPHA: values}, "seeds": list(range(SEEDS)), "base": "digits", "set": {}, "search": None}
    record = SweepRecord("made_up", "0" * 32, [ALPHA], ["fid"], space, 0, True, None, runs)
    record.write(root)
    return record


def into_mlflow(root: Path, record: SweepRecord) -> None:
    """Writes the sweep to MLflow's database in bulk; a driver would take ten minutes."""
    import mlflow.store.tracking.dbmodels.models as tables
    from sqlalchemy import create_engine, insert

    client = open_client(root)
    experiment = client.create_experiment(record.name, (root / "artifacts").as_uri())
    tags = {DIGEST: record.digest, PARAMETERS: json.dumps(record.axes)}
    parent = client.create_run(experiment, tags=tags).info.run_id
    client.log_dict(parent, record.settings, SETTINGS_FILE)
    client.set_terminated(parent)
    rows: dict[str, list[dict[str, Any]]] = {"runs": [], "tags": [], "params": [], "latest_metrics": []}
    parameters = [*flatten(load_config("digits").model_dump(mode="json"))]
    for number, run in enumerate(record.runs):
        which = {"run_uuid": uuid.uuid4().hex}
        rows["runs"].append(
            which
            | {"name": str(number), "status": "FINISHED", "start_time": 0, "end_time": 1, "lifecycle_stage": "active"}
            | {"experiment_id": int(experiment), "artifact_uri": "", "source_type": "LOCAL", "user_id": "x"}
        )
        tags = {PARENT: parent, KEY: run.evaluation, SEED: str(run.seed), OUTCOME: "finished"}
        tags |= {PARAMETERS: json.dumps(run.parameters), STAGES: json.dumps(run.stages), HOSTS: '["x"]'}
        tags |= {f"ear.{name}": "x" for name in ("extractor", "extractor_hash", "reference", "reference_hash")}
        metrics = METRICS_OF_A_RUN | {"fid": float(number), "train_seconds": 34.0, "evaluate_seconds": 2.0}
        metrics |= {"images": 2000.0, "null_images": 1000.0, "train_steps": 1200.0}
        rows["tags"] += [which | {"key": name, "value": value} for name, value in tags.items()]
        rows["params"] += [which | {"key": name, "value": str(value)} for name, value in parameters]
        rows["latest_metrics"] += [
            which | {"key": name, "value": value, "timestamp": 0, "step": 0, "is_nan": False}
            for name, value in metrics.items()
        ]
    with create_engine(sqlite_uri(root / "mlflow.db")).begin() as connection:
        for name, found in rows.items():
            connection.execute(insert(tables.Base.metadata.tables[name]), found)


def seconds_to_load(root: Path, uri: str | None) -> list[float]:
    from analysis.results import load_results

    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        frame = load_results("made_up", root, uri).frame
        taken.append(time.perf_counter() - started)
    print(f"{len(frame):,} rows of {len(frame.columns)} columns")
    return taken


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    os.fsync = lambda *_, **__: None  # nothing here must survive a power failure
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        into_mlflow(root, made_up(root, count))
        for source, uri in (("store", None), ("mlflow", sqlite_uri(root / "mlflow.db"))):
            taken = seconds_to_load(root, uri)
            spread = f"{min(taken):.2f} to {max(taken):.2f}"
            print(f"{source}: {statistics.median(taken):.2f} s ({spread}); aim for 5,000 runs: {AIM[source]} s")


if __name__ == "__main__":
    main()
