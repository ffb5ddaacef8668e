"""What a sweep will cost: hours, wall time and disk, from paces measured in the store where there are any."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ear.config import RunConfig
from ear.config.loading import load_config
from ear.config.schema import ExecutionConfig
from ear.cost import SUSTAINED_FLOPS, cost
from ear.errors import UserError
from ear.process.provenance import accelerator, processor
from ear.store import Store
from sweeps.spec.stage_tree import TrainingNode

CPU_FLOPS = 4e10  # a second and thread, of small models in float32, as measured on digits; a guess elsewhere
RESULTS_LOOKED_AT = 12  # of each kind, the newest
EVALUATION_BYTES = 300_000  # sample sheets and metrics
COPIES_IN_A_CHECKPOINT = 4 / 5  # of the bytes in training: no gradients are kept


@dataclass(frozen=True)
class Pace:
    """FLOPs a second that this machine sustains, and what that is known from."""

    training: float
    sampling: float
    basis: str

    @classmethod
    def of(cls, config: RunConfig, gpus: float, store: Store) -> "Pace":
        """Of runs like this one."""
        measured = list(_measured(store, config.execution))
        training = [pace for kind, pace in measured if kind == "training"]
        sampling = [pace for kind, pace in measured if kind == "evaluation"]
        assumed = SUSTAINED_FLOPS if gpus else CPU_FLOPS * config.execution.threads
        if not training:
            cpu = "a CPU thread" if config.execution.threads == 1 else "a CPU"
            where = "an aim for an H100, not a measurement" if gpus else cpu
            return cls(assumed, assumed, f"at an assumed {assumed / 1e12:g} TFLOP/s ({where})")
        pace = median(training)
        return cls(
            pace,
            median(sampling) if sampling else pace,
            f"at the pace of {len(training)} trainings in this store ({pace / 1e12:.3g} TFLOP/s)",
        )


def _measured(store: Store, execution: ExecutionConfig) -> Iterator[tuple[str, float]]:
    """(kind, FLOPs a second) of the newest trainings and evaluations that a machine like this one published."""
    configs: dict[str, RunConfig] = {}
    looked = {"training": 0, "evaluation": 0}
    for entry in newest_entries(store):
        kind = str(entry["kind"])
        if looked.get(kind, RESULTS_LOOKED_AT) >= RESULTS_LOOKED_AT:
            continue
        made_on = entry["provenance"]
        if (made_on.get("processor"), made_on.get("accelerator")) != (processor(), accelerator()):
            continue
        looked[kind] += 1
        key = entry["key"] if kind == "training" else entry["details"].get("training", "")
        try:
            if key not in configs:
                configs[key] = load_config(str(store.path(key) / "config.yaml"))
            config = configs[key]
            if (config.execution.threads, config.execution.precision) != (execution.threads, execution.precision):
                continue
            if kind == "training":
                done = cost(config).total_training_flops * entry["details"]["step"] / config.total_steps
                yield kind, done / entry["details"]["seconds"]
            else:
                evaluation = json.loads((store.path(entry["key"]) / "evaluation.json").read_text(encoding="utf-8"))
                images = evaluation["images"] + evaluation["null_images"]
                yield kind, cost(config).sampling_flops * images / evaluation["seconds"]
        except (UserError, OSError, KeyError, ValueError, ZeroDivisionError):
            continue  # a forecast is not worth an error


def newest_entries(store: Store) -> list[dict[str, Any]]:
    """The store's newest entries, as they lie on disk."""
    found: list[tuple[float, Path]] = []
    for key in sorted(store.published()):
        path = store.path(key) / "entry.json"
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue
    newest = sorted(found, reverse=True)[: 4 * RESULTS_LOOKED_AT]
    entries = []
    for _, path in newest:
        with suppress(OSError, ValueError):  # damaged, which `ear store verify` says
            entries.append(json.loads(path.read_text(encoding="utf-8")))
    return entries


@dataclass(frozen=True)
class Forecast:
    """Of training the nodes and carrying the evaluations out."""

    training_hours: float  # of a device: a trial's CPUs or GPUs
    evaluation_hours: float
    wall_hours: float
    disk_bytes: float
    basis: str

    @classmethod
    def of(cls, nodes: Iterable[TrainingNode], evaluations: Iterable[RunConfig], slots: int, pace: Pace) -> "Forecast":
        training, disk = 0.0, 0.0
        chain: dict[str, float] = {}
        for node in nodes:
            found = cost(node.config)
            hours = found.total_training_flops * node.steps / node.config.total_steps / pace.training / 3600
            training += hours
            # Stages of one training follow each other, however many places there are.
            chain[node.key] = hours + chain.get(node.parent or "", 0.0)
            disk += found.training_bytes * COPIES_IN_A_CHECKPOINT
        evaluating = 0.0
        for config in evaluations:
            images = config.evaluation.images + config.evaluation.null_images
            evaluating += cost(config).sampling_hours(images, pace.sampling)
            disk += EVALUATION_BYTES
        wall = max((training + evaluating) / slots, max(chain.values(), default=0.0))
        return cls(training, evaluating, wall, disk, pace.basis)
