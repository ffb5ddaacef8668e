"""Times how long it takes to load a sweep's runs: from the store, and from MLflow.

    python tests/benchmarks/load_runs.py [RUNS]

The sweep is made up: RUNS results (5,000 by default) are published without training, and written to MLflow's tables in
bulk, as many tags, parameters and metrics as a real run has.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ear.config.hashing import digest
from ear.files.writing import write_json
from ear.store import Store
from sweeps.spec.sweep_record import EVALUATION_SETTINGS, RecordedRun, SweepRecord

AIM = {"store": 2.0, "mlflow": 10.0}  # seconds for 5,000 runs
ALPHA = "scoring.alpha"
SEEDS = 5
REPEATS = 3


def made_up(root: Path, count: int) -> SweepRecord:
    """Publishes the results of `count` runs and records their sweep."""
    store = Store(root)
    values = [1 + number / count for number in range(-(-count // SEEDS))]
    runs = []
    metrics = {name + suffix: 1.5 for name in ("fid", "is", "precision", "recall") for suffix in ("", "_null")}
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
        result = {"metrics": metrics | {"fid": float(number)}, **measured}
        store.publish(evaluation, "evaluation", lambda folder, r=result: write_json(folder / "evaluation.json", r))
        runs.append(RecordedRun(parameters, seed, stages, evaluation, settings, {}))
    space = {"space": {ALPHA: values}, "seeds": list(range(SEEDS)), "base": "digits", "set": {}, "search": None}
    record = SweepRecord("made_up", "0" * 32, [ALPHA], ["fid"], space, 0, True, None, runs)
    record.write(root)
    return record


def seconds_to_load(root: Path) -> list[float]:
    from analysis.results import load_results

    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        frame = load_results("made_up", root).frame
        taken.append(time.perf_counter() - started)
    print(f"{len(frame):,} rows of {len(frame.columns)} columns")
    return taken


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    os.fsync = lambda _: None  # nothing here must survive a power failure
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made_up(root, count)
        taken = seconds_to_load(root)
        print(f"store: {statistics.median(taken):.2f} s ({min(taken):.2f} to {max(taken):.2f}); aim {AIM['store']} s")


if __name__ == "__main__":
    main()
