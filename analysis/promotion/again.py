"""Measures a chosen configuration again, independently of what it was chosen by.

The best of many values is partly luck. Another evaluation of the same trainings, with an evaluation seed that the sweep
has not used, shows the luck of sampling, and of selecting by one set of images. The luck of training shows only in
trainings with fresh seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from threading import Event
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.promotion.choice import Choice
from ear.config import RunConfig
from ear.errors import UserError
from ear.evaluation.result import Evaluation, load_evaluation
from ear.process.interrupt import on_interrupt
from ear.store import Store
from ear.store.recorded_config import recorded_config
from ear.store.uses import record_use
from sweeps.spec.confidence import half_width

if TYPE_CHECKING:
    from ear.run import Run, TrainingOutcome

TRAINED, SAMPLED, CONFIRMED = "fresh trainings", "the same trainings", "the search's confirmation"


@dataclass(frozen=True)
class Measured:
    """A configuration's values in several evaluations."""

    values: dict[str, list[float]]  # by metric, a value for each seed that finished
    seeds: list[int]  # of training, those that finished
    diverged: list[int]  # seeds that diverged
    images: int  # with class labels, each
    evaluation_seeds: list[int]
    keys: list[str]  # of the evaluations

    def mean(self, metric: str) -> float:
        """The mean over the seeds."""
        return fmean(self.values[metric])

    def half_width(self, metric: str) -> float | None:
        """Half of Student's 95% interval of the mean; None with fewer than two seeds."""
        return half_width(self.values[metric])

    @property
    def how(self) -> str:
        """Says over what the mean is taken."""
        seeds = f"{len(self.seeds)} {'training' if len(self.seeds) == 1 else 'trainings'}"
        diverged = f" of {len(self.seeds) + len(self.diverged)}, the others diverged" if self.diverged else ""
        drawn = ", ".join(map(str, self.evaluation_seeds))
        return f"{seeds}{diverged}, {self.images:,} images each, evaluation seed {drawn}"


def measured_before(rows: Sequence[dict[str, Any]]) -> Measured:
    """Returns what finished runs of a sweep measured; rows as in `analysis.sweep_runs`."""
    names = ("fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null")
    return Measured(
        {name: [float(row[name]) for row in rows if pd.notna(row.get(name))] for name in names},
        [int(row["seed"]) for row in rows],
        [],
        int(rows[0]["images"]),
        sorted({int(row["evaluation.seed"]) for row in rows if pd.notna(row.get("evaluation.seed"))}),
        [row["key"] for row in rows],
    )


def sampled_again(choice: Choice, used: Sequence[int], images: int | None, store: Store) -> list[RunConfig]:
    """Returns the winner's configurations with a fresh evaluation seed, one for each of its trainings.

    Args:
        used: the evaluation seeds of the sweep.
        images: with class labels; by default twice as many as in the sweep.
    """
    return [fresh(recorded_config(store, row["key"]), int(row["seed"]), used, images) for row in choice.trainings]


def trained_again(
    choice: Choice, seeds: int, trained: Sequence[int], used: Sequence[int], images: int | None, store: Store
) -> list[RunConfig]:
    """Returns the winner's configurations with fresh seeds of training and evaluation.

    Args:
        seeds: how many.
        trained: the training seeds of the sweep, those of a confirmation included, since it chose by them.
        used: likewise its evaluation seeds.
    """
    from sweeps.search.confirmation import FIRST_FRESH_SEED  # imports Optuna

    config, first = recorded_config(store, choice.trainings[0]["key"]), max(trained) + FIRST_FRESH_SEED
    return [fresh(config, first + number, used, images) for number in range(seeds)]


def fresh(config: RunConfig, seed: int, used: Sequence[int], images: int | None) -> RunConfig:
    """Returns a configuration with this training seed, an unused evaluation seed and more images."""
    measured = config.evaluation.model_copy(
        update={"seed": (max(used) + 1) % 2**63, "images": images or 2 * config.evaluation.images}
    )
    return config.model_copy(update={"seed": seed, "evaluation": measured})


def measure(
    configs: Sequence[RunConfig], root: Path, sweep: str, *, train: bool, say: Callable[[str], object]
) -> Measured:
    """Evaluates these configurations, which differ in their seed; what the store has is not computed again.

    Args:
        train: whether to train what the store does not have.
        say: told what is computed.

    Raises:
        UserError: a training is no longer in the store, or all diverged.
    """
    from ear.run import Run  # imports torch, which takes longer than saying that there is no such sweep

    store = Store(root)
    runs = [Run(config, store) for config in configs]
    record_use(store, f"promote {sweep}", [key for run in runs for key in (*run.keys.stages, run.keys.evaluation)])
    found: dict[int, Evaluation] = {}
    for number, run in enumerate(runs, 1):
        if run.keys.evaluation in store:
            found[run.config.seed] = load_evaluation(run.keys.evaluation, store)
            continue
        say(f"{'training and evaluation' if train else 'evaluation'} {number} of {len(runs)}")
        outcome = _train(run) if train else run.training_outcome()
        if outcome is None:
            raise UserError(
                f"The training with seed {run.config.seed} is no longer in {store.folder}: run the sweep again, which "
                "trains it, or give --seeds for fresh trainings."
            )
        if outcome.diverged_at is None:
            found[run.config.seed] = run.evaluate()
    if not found:
        raise UserError(f"All {len(runs)} fresh trainings diverged: this configuration can't be trusted.")
    names = list(next(iter(found.values())).metrics)
    return Measured(
        {name: [each.metrics[name] for each in found.values()] for name in names},
        list(found),
        [run.config.seed for run in runs if run.config.seed not in found],
        configs[0].evaluation.images,
        sorted({config.evaluation.seed for config in configs}),
        [run.keys.evaluation for run in runs if run.config.seed in found],
    )


def _train(run: "Run") -> "TrainingOutcome":
    stop = Event()
    with on_interrupt(stop.set):
        outcome = run.train(stop.is_set)
    if outcome is None:
        raise KeyboardInterrupt
    return outcome
