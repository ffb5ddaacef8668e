"""Carries a plan out: Ray Tune trains and evaluates what the store lacks, MLflow is brought up to the store."""

import logging
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ear.data import load_dataset
from ear.errors import UserError
from ear.evaluation import prepare
from ear.interrupt import on_interrupt
from ear.store import Store
from sweeps.board import Board, Row, waiting_for
from sweeps.plan import Plan, Trial
from sweeps.ray_cluster import available_cpus, local_cluster
from sweeps.runs import is_done
from sweeps.tracking import Tracker


@dataclass(frozen=True)
class SweepOutcome:
    trained: int  # trials that this call worked on and finished
    reused: int  # trials whose results were all there before
    failed: dict[str, str]  # trial's label -> its traceback
    interrupted: bool

    @property
    def complete(self) -> bool:
        return not self.failed and not self.interrupted


def run_sweep(plan: Plan, root: Path) -> SweepOutcome:
    """Trains and evaluates what is missing, then leaves MLflow with every run of the plan.

    Raises:
        UserError: the root can't be written, the resources are not there, or MLflow's database is damaged.
    """
    store = Store(root)
    pending = plan.pending(store)
    concurrency = trials_at_a_time(plan) if pending else 0
    with waiting_for("Opening MLflow"):
        tracker = Tracker(plan, store, root)
        for run in plan.runs:
            if is_done(run, store):
                tracker.finish(run)
    reused = len(plan.trials()) - len(pending)
    failed: dict[str, str] = {}
    interrupted = False
    try:
        if pending:
            with waiting_for("Preparing the feature extractor and the real images' features (once per dataset)"):
                for run in {run.keys.reference: run for trial in pending for run in trial.runs}.values():
                    # Shared by all trials; made here so that no two make it at once.
                    prepare(run.config, run.keys, load_dataset(run.config.data), store)
            failed, interrupted = _run_trials(pending, plan, root, tracker, store, concurrency, reused)
    except BaseException:
        tracker.close(complete=False)
        raise
    tracker.close(complete=not failed and not interrupted)
    remaining = len(plan.pending(store))
    return SweepOutcome(len(pending) - remaining, reused, failed, interrupted)


def trials_at_a_time(plan: Plan) -> int:
    """How many trials fit this machine, at most the plan's concurrency.

    Raises:
        UserError: not even one does.
    """
    resources = plan.sweep.resources
    cpus, gpus = available_cpus(), available_gpus() if resources.gpus else 0
    if resources.cpus > cpus or resources.gpus > gpus:
        raise UserError(
            f"{plan.source}: resources: a trial is to have {resources.cpus} CPUs and {resources.gpus:g} GPUs, "
            f"this machine has {cpus} and {gpus}; lower them."
        )
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(gpus / resources.gpus + 1e-9))
    return min(fitting, plan.sweep.concurrency or fitting)


def available_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _run_trials(
    pending: list[Trial], plan: Plan, root: Path, tracker: Tracker, store: Store, concurrency: int, reused: int
) -> tuple[dict[str, str], bool]:
    """Returns the failed trials with their tracebacks, and whether the sweep was interrupted."""
    resources = plan.sweep.resources
    rows = {trial.key: Row(trial.label, trial.config.total_steps) for trial in pending}
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it logs, the board shows and the runner reports
    with ExitStack() as stack:
        with waiting_for("Starting Ray"):
            cluster = local_cluster(concurrency * resources.cpus, math.ceil(concurrency * resources.gpus))
            folder = stack.enter_context(cluster)
        # Here, since importing Tune reads the environment that the cluster has set.
        from ray import tune

        from sweeps.observer import Observer, StopOnRequest
        from sweeps.trainable import TrainAndEvaluate

        with Board(f"Sweep {plan.sweep.name}", rows, concurrency, reused) as board:
            stop = StopOnRequest()
            observer = Observer({trial.key: trial for trial in pending}, board, tracker, store)
            tuner = tune.Tuner(
                tune.with_resources(TrainAndEvaluate, {"cpu": resources.cpus, "gpu": resources.gpus}),
                param_space={"trial": tune.grid_search([_trial_config(trial, root) for trial in pending])},
                tune_config=tune.TuneConfig(max_concurrent_trials=concurrency, reuse_actors=True),
                run_config=tune.RunConfig(
                    name=plan.sweep.name,
                    storage_path=str(folder / "tune"),
                    stop=stop,
                    callbacks=[observer],
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the store has its own
                    failure_config=tune.FailureConfig(max_failures=0),
                ),
            )
            with on_interrupt(stop.ask):
                tuner.fit()
    return observer.failed, stop.asked


def _trial_config(trial: Trial, root: Path) -> dict[str, Any]:
    configs = [run.config.model_dump(mode="json") for run in trial.runs]
    return {"key": trial.key, "root": str(root.resolve()), "runs": configs}
