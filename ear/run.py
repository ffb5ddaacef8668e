"""One run: trains and evaluates a configuration with its seed, reusing the results in the store."""

import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from ear.config import RunConfig
from ear.data import Dataset, load_dataset
from ear.data.folder_dataset import FolderDataset
from ear.errors import UserError
from ear.evaluation.evaluate import evaluate
from ear.evaluation.result import Evaluation, load_evaluation
from ear.files.writing import write_text
from ear.process.distributed import ALONE, Processes
from ear.process.execution import set_up
from ear.process.interrupt import StoppedError
from ear.store import Lease, RunKeys, Store, run_keys
from ear.store.verify import require_as_published
from ear.training.callbacks import Callback, PeriodicCheckpoint, TrainingState
from ear.training.checkpoint import CHECKPOINT, DamagedCheckpointError, load_part, require_whole
from ear.training.history import TrainingRecord, from_tensors
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer

POLL_SECONDS = 1.0  # between checks whether another process has finished a stage


@dataclass(frozen=True)
class TrainingOutcome:
    """The result of a training."""

    key: str  # of its last stage in the store
    checkpoint: Path
    step: int  # steps done
    seconds: float  # spent training, over all processes that trained it in turn
    diverged_at: int | None  # first non-finite step, counted from 1; None if the training finished


@dataclass(frozen=True)
class Run:
    """One configuration with its seed, and the store that holds its results.

    `train` and `evaluate` compute only what the store lacks. Any number of runs can share a store: a lease on each
    stage makes the others wait for its result instead of training it too.
    """

    config: RunConfig
    store: Store
    callbacks: Sequence[Callback] = field(default=())
    processes: Processes = ALONE

    @cached_property
    def dataset(self) -> Dataset:
        """The configured dataset, loaded on first use."""
        return load_dataset(self.config.data)

    @cached_property
    def keys(self) -> RunKeys:
        """The store's keys of this run's stages and evaluation."""
        return run_keys(self.config, self.dataset)

    def training_outcome(self) -> TrainingOutcome | None:
        """The outcome of this run's training in the store; None if it has not ended yet."""
        for key in self.keys.stages:
            if key not in self.store:
                return None
            outcome = self._outcome(key)
            if outcome.diverged_at is not None:
                return outcome
        return outcome

    def _outcome(self, key: str) -> TrainingOutcome:
        return TrainingOutcome(key, self.store.path(key) / CHECKPOINT, **self.store.entry(key).details)

    def trainer(self, stop: Callable[[], bool] = lambda: False) -> Trainer:
        """A trainer, restored from the last published stage or the checkpoint of an unfinished one.

        As it advances it publishes each finished stage and saves checkpoints in between.

        Raises:
            StoppedError: `stop` returned True while the data was verified.
            UserError: the cache of latents, a published stage or the initial checkpoint is damaged.
        """
        device = set_up(self.config.execution)
        if isinstance(self.dataset, FolderDataset):
            # Every process does this: one of each machine reads, and the others wait outside of collectives, which
            # would time out. A machine with its own copy of the cache checks its own.
            stopped = False
            try:
                self.dataset.cache.require_intact(stop)
            except StoppedError:
                stopped = True
            if self.processes.any(stopped):
                raise StoppedError
        data = load_token_data(self.config, self.dataset)
        if (initial := self.config.training.initial_checkpoint) is not None and self.processes.is_main:
            require_as_published(Path(initial))
        trainer = Trainer(self.config, data, device=device, processes=self.processes)
        latest = self._latest_checkpoint() if self.processes.is_main else None
        given = self.processes.from_main(None if latest is None else str(latest))
        if given is not None:
            trainer.restore(Path(given))
        if self.processes.is_main:
            trainer.callbacks += [
                PublishStages(self.store, self.keys, self.dataset),
                PeriodicCheckpoint(self._unfinished, self.config.execution.checkpoint_every),
                *self.callbacks,
            ]
        return trainer

    def _latest_checkpoint(self) -> Path | None:
        """The checkpoint to resume from; None to start from the beginning.

        Moves a damaged checkpoint of an unfinished stage aside, so that later calls do not find it again.

        Raises:
            UserError: a published stage has changed since it was published.
        """
        latest = None
        for stage, key in enumerate(self.keys.stages):
            if key not in self.store:
                if self._has_unfinished(stage):
                    return self._unfinished(stage)
                break
            latest = self.store.path(key) / CHECKPOINT
        if latest is not None:
            require_as_published(latest)
        return latest

    def _has_unfinished(self, stage: int) -> bool:
        path = self._unfinished(stage)
        if path.parent.is_file():  # in place of the checkpoint's folder
            path.parent.rename(self.store.aside(path.parent.name))
        if not path.exists():
            return False
        try:
            require_whole(path)
        except DamagedCheckpointError as error:
            aside = path.with_name(f"damaged-{uuid.uuid4().hex[:8]}.safetensors")
            path.rename(aside)
            warnings.warn(
                f"{error} Stage {stage + 1} of {len(self.keys.stages)} restarts from its beginning; the damaged file "
                f"is in {aside} until the stage ends.",
                stacklevel=2,
            )
            return False
        return True

    def _unfinished(self, stage: int) -> Path:
        return self.store.workspace(self.keys.stages[stage]) / CHECKPOINT

    def train(self, stop: Callable[[], bool] = lambda: False) -> TrainingOutcome | None:
        """Train the missing stages in order; wait for a stage that another process is training.

        Args:
            stop: called at every record of the training curve. If it returns True, the training is saved, so that the
                next call resumes it.

        Returns:
            The outcome, or None if `stop` ended the training.

        Raises:
            UserError: the data or a checkpoint is damaged, or the data does not fit the configuration.
        """
        # Decisions are shared by all processes: one alone may be told to stop, or see a result first.
        trainer: Trainer | None = None
        leases: dict[str, Lease] = {}  # kept across iterations, to notice when a lost machine's lease expires
        while not self.processes.any(self.training_outcome() is not None):
            key = self._next_key()
            with leases.setdefault(key, self.store.lease(key)) as lease:
                if self.processes.any(self.processes.is_main and not lease.acquire()):
                    # Another process is training this stage: wait for its result, or for its lease to expire.
                    if self.processes.any(stop()):
                        return None
                    trainer = None
                    time.sleep(POLL_SECONDS)
                    continue
                if trainer is None:
                    try:
                        trainer = self.trainer(stop)
                    except StoppedError:
                        return None
                stage = trainer.stage
                while not trainer.finished and trainer.stage == stage:
                    if self.processes.any(stop()):
                        self.save_unfinished(trainer)
                        return None
                    trainer.advance()
                self.processes.wait()  # for the main one to publish
        outcome = self.training_outcome()
        assert outcome is not None
        return outcome

    def _next_key(self) -> str:
        """The key of the first stage that is not in the store."""
        return next((key for key in self.keys.stages if key not in self.store), self.keys.training)

    def save_unfinished(self, trainer: Trainer) -> None:
        """Save a trainer of this run between two records, so that the next trainer resumes from there."""
        trainer.save(self._unfinished(trainer.stage))

    def evaluation(self) -> Evaluation | None:
        """This run's evaluation in the store; None if there is none yet."""
        return load_evaluation(self.keys.evaluation, self.store) if self.keys.evaluation in self.store else None

    def evaluate(self, on_images: Callable[[float], object] = float) -> Evaluation:
        """Evaluate the finished training, or load its evaluation from the store.

        Args:
            on_images: called with the number of images that this process has sampled so far.
        """
        outcome = self.training_outcome()
        assert outcome is not None, "only a finished training can be evaluated"
        assert outcome.diverged_at is None, "a diverged training has nothing to evaluate"
        set_up(self.config.execution)
        return evaluate(
            outcome.checkpoint,
            self.config,
            self.keys,
            self.dataset,
            self.store,
            processes=self.processes,
            on_images=on_images,
        )

    def history(self) -> list[TrainingRecord]:
        """The training curve of the finished training; empty if it has not ended yet."""
        outcome = self.training_outcome()
        return from_tensors(load_part(outcome.checkpoint, "history")) if outcome else []


class PublishStages(Callback):
    """Publishes each finished stage. A divergence is a result too and is published, unless the data is damaged."""

    def __init__(self, store: Store, keys: RunKeys, dataset: Dataset) -> None:
        self._store = store
        self._keys = keys
        self._dataset = dataset

    def on_stage_end(self, trainer: TrainingState, stage: int) -> None:
        self._publish(trainer, stage)

    def on_divergence(self, trainer: TrainingState, step: int) -> None:
        """Publish a divergence as the stage's result.

        Raises:
            UserError: the cache of latents is damaged. The stage's key is that of the undamaged cache, for which a
                divergence caused by the damage would be a wrong result.
        """
        if isinstance(self._dataset, FolderDataset) and (faults := self._dataset.cache.verify()):
            unfinished = self._store.workspace(self._keys.stages[trainer.stage])
            raise UserError(
                f"Step {step} had a loss or gradient that is not finite, and the cache {self._dataset.cache.folder} is "
                f"damaged, so no divergence is recorded. {' '.join(faults)} The unfinished stage may have trained on "
                f"damaged data: delete {unfinished} to restart this stage, or the same command resumes it."
            )
        self._publish(trainer, trainer.stage)

    def _publish(self, trainer: TrainingState, stage: int) -> None:
        def fill(folder: Path) -> None:
            trainer.save(folder / CHECKPOINT)
            config = trainer.config.model_dump(mode="json")
            write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))

        details = {"step": trainer.step, "seconds": trainer.seconds, "diverged_at": trainer.diverged_at}
        parent = self._keys.stages[stage - 1 : stage]
        self._store.publish(self._keys.stages[stage], "training", fill, details, parent)
