"""Forecasts a sweep's cost in device hours, wall time and disk, from throughput measured in the store if any."""

import json
import warnings
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

CPU_FLOPS = 4e10  # FLOP/s per thread, measured on digits in float32; a guess for other models
NEWEST_RESULTS = 12  # newest results of each kind
EVALUATION_BYTES = 300_000  # sample sheets and metrics of one evaluation
COPIES_IN_A_CHECKPOINT = 4 / 5  # checkpoint size / training memory of the weights: gradients are not saved


@dataclass(frozen=True)
class Pace:
    """The throughput of this machine in FLOP/s, and how it is known."""

    training: float  # FLOP/s
    sampling: float  # FLOP/s
    basis: str  # where the numbers come from, in words

    @classmethod
    def of(cls, config: RunConfig, gpus: float, store: Store) -> "Pace":
        """Returns the pace of runs like this one: the median of measured ones, or an assumption."""
        measured = list(_measured(store, config.execution))
        training = [pace for kind, pace in measured if kind == "training"]
        sampling = [pace for kind, pace in measured if kind == "evaluation"]
        assumed = SUSTAINED_FLOPS if gpus else CPU_FLOPS * config.execution.threads
        if not training:
            cpu = "a CPU thread" if config.execution.threads == 1 else "a CPU"
            where = "a target for an H100, not a measurement" if gpus else cpu
            return cls(assumed, assumed, f"at an assumed {assumed / 1e12:g} TFLOP/s ({where})")
        pace = median(training)
        return cls(
            pace,
            median(sampling) if sampling else pace,
            f"at the pace of {len(training)} trainings in this store ({pace / 1e12:.3g} TFLOP/s)",
        )


def _measured(store: Store, execution: ExecutionConfig) -> Iterator[tuple[str, float]]:
    """(kind, FLOP/s) of the newest trainings and evaluations in the store from a machine like this one."""
    configs: dict[str, RunConfig] = {}
    looked = {"training": 0, "evaluation": 0}
    for entry in newest_entries(store):
        kind = str(entry["kind"])
        if looked.get(kind, NEWEST_RESULTS) >= NEWEST_RESULTS:
            continue
        made_on = entry["provenance"]
        if (made_on.get("processor"), made_on.get("accelerator")) != (processor(), accelerator()):
            continue
        looked[kind] += 1
        key = entry["key"] if kind == "training" else entry["details"].get("training", "")
        try:
            if key not in configs:
                with warnings.catch_warnings(action="ignore"):  # whoever trained it was warned
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
            continue  # a damaged entry must not make a forecast fail


def newest_entries(store: Store) -> list[dict[str, Any]]:
    """Returns the store's newest entries, as read from disk."""
    found: list[tuple[float, Path]] = []
    for key in sorted(store.published()):
        path = store.path(key) / "entry.json"
        try:
            found.append((path.stat().st_mtime, path))
        except OSError:
            continue
    newest = sorted(found, reverse=True)[: 4 * NEWEST_RESULTS]
    entries = []
    for _, path in newest:
        with suppress(OSError, ValueError):  # damaged, which `ear store verify` reports
            entries.append(json.loads(path.read_text(encoding="utf-8")))
    return entries


@dataclass(frozen=True)
class Forecast:
    """The cost of training a set of nodes and running a set of evaluations."""

    training_hours: float  # device hours; a device is a trial's CPUs or GPUs
    evaluation_hours: float  # device hours
    wall_hours: float
    disk_bytes: float
    basis: str  # where the pace comes from, in words

    @classmethod
    def of(cls, nodes: Iterable[TrainingNode], evaluations: Iterable[RunConfig], slots: int, pace: Pace) -> "Forecast":
        """Forecasts the cost with `slots` trials at a time."""
        training, disk = 0.0, 0.0
        chain: dict[str, float] = {}
        for node in nodes:
            found = cost(node.config)
            hours = found.total_training_flops * node.steps / node.config.total_steps / pace.training / 3600
            training += hours
            # The stages of one training run one after another, however many slots there are.
            chain[node.key] = hours + chain.get(node.parent or "", 0.0)
            disk += found.training_bytes * COPIES_IN_A_CHECKPOINT
        evaluating = 0.0
        for config in evaluations:
            images = config.evaluation.images + config.evaluation.null_images
            evaluating += cost(config).sampling_hours(images, pace.sampling)
            disk += EVALUATION_BYTES
        wall = max((training + evaluating) / slots, max(chain.values(), default=0.0))
        return cls(training, evaluating, wall, disk, pace.basis)
