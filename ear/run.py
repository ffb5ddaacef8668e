"""One run, a configuration with its seed: trains what the store does not hold, evaluates what it does not hold."""

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

POLL_SECONDS = 1.0  # at what another process trains


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training ended."""

    key: str  # the store's key of its last stage
    checkpoint: Path
    step: int  # steps done
    seconds: float  # spent training, by whoever trained
    diverged_at: int | None  # first non-finite step, counted from 1; None for a training that finished


@dataclass(frozen=True)
class Run:
    config: RunConfig
    store: Store
    callbacks: Sequence[Callback] = field(default=())
    processes: Processes = ALONE

    @cached_property
    def dataset(self) -> Dataset:
        return load_dataset(self.config.data)

    @cached_property
    def keys(self) -> RunKeys:
        return run_keys(self.config, self.dataset)

    def training_outcome(self) -> TrainingOutcome | None:
        """The published end of this run's training, or None while there is none."""
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
        """A trainer that stands where the store's stages and the last checkpoint of an unfinished one leave off.

        As it advances it publishes each stage that it ends, and saves checkpoints in between.

        Raises:
            StoppedError: `stop` said yes while the data was looked at.
        """
        device = set_up(self.config.execution)
        if isinstance(self.dataset, FolderDataset):
            # By every process: one of a machine reads, and the others wait outside of collectives, whose time is
            # limited. A machine with a copy of its own looks at its own.
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
        """What a training goes on from. A damaged checkpoint of an unfinished stage is set aside: every later call
        would meet it again.

        Raises:
            UserError: a published stage is not what was published.
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
        if path.parent.is_file():  # where a checkpoint's folder is to be
            path.parent.rename(self.store.aside(path.parent.name))
        if not path.exists():
            return False
        try:
            require_whole(path)
        except DamagedCheckpointError as error:
            aside = path.with_name(f"damaged-{uuid.uuid4().hex[:8]}.safetensors")
            path.rename(aside)
            warnings.warn(
                f"{error} Stage {stage + 1} of {len(self.keys.stages)} begins anew; what it had is in {aside} until "
                "then.",
                stacklevel=2,
            )
            return False
        return True

    def _unfinished(self, stage: int) -> Path:
        return self.store.workspace(self.keys.stages[stage]) / CHECKPOINT

    def train(self, stop: Callable[[], bool] = lambda: False) -> TrainingOutcome | None:
        """Trains what is missing, stage by stage; waits for a stage that another process trains.

        `stop` is asked at every record of the curve; where it says yes, the training is saved so that the next call
        goes on from there, and None is returned.
        """
        # Processes act on what all of them know: one alone may be told to stop, or see a result first.
        trainer: Trainer | None = None
        leases: dict[str, Lease] = {}  # kept, to see those of lost machines lapse
        while not self.processes.any(self.training_outcome() is not None):
            key = self._next_key()
            with leases.setdefault(key, self.store.lease(key)) as lease:
                if self.processes.any(self.processes.is_main and not lease.acquire()):
                    # Somebody else trains this stage: wait for its result, or for the lease to lapse.
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
        """Of the first stage that is not in the store."""
        return next((key for key in self.keys.stages if key not in self.store), self.keys.training)

    def save_unfinished(self, trainer: Trainer) -> None:
        """Saves a trainer of this run between two records, for the next one to go on from."""
        trainer.save(self._unfinished(trainer.stage))

    def evaluation(self) -> Evaluation | None:
        """The published evaluation, or None while there is none."""
        return load_evaluation(self.keys.evaluation, self.store) if self.keys.evaluation in self.store else None

    def evaluate(self, on_images: Callable[[float], object] = float) -> Evaluation:
        """Evaluates the finished training, unless that is in the store."""
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
        """The training curve up to the published end."""
        outcome = self.training_outcome()
        return from_tensors(load_part(outcome.checkpoint, "history")) if outcome else []


class PublishStages(Callback):
    """Publishes each stage that ends, and a divergence as the result that it is, unless the data is damaged."""

    def __init__(self, store: Store, keys: RunKeys, dataset: Dataset) -> None:
        self._store = store
        self._keys = keys
        self._dataset = dataset

    def on_stage_end(self, trainer: TrainingState, stage: int) -> None:
        self._publish(trainer, stage)

    def on_divergence(self, trainer: TrainingState, step: int) -> None:
        """
        Raises:
            UserError: the cache is not what was encoded. The key is that of what it was, to which the damage's
                divergence does not belong.
        """
        if isinstance(self._dataset, FolderDataset) and (faults := self._dataset.cache.verify()):
            unfinished = self._store.workspace(self._keys.stages[trainer.stage])
            raise UserError(
                f"Step {step} had a loss or gradient that is not finite, and the cache {self._dataset.cache.folder} is "
                f"damaged, so that no divergence is recorded. {' '.join(faults)} What is unfinished may have seen the "
                f"damage: delete {unfinished} to begin this stage anew; else the same command goes on from it."
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
