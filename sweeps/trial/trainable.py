"""Tune's trainable: trains one stage in a Ray worker, then runs its evaluations."""

import errno
import re
import signal
import time
from traceback import format_exc
from typing import Any

from ray.tune import Trainable

from ear.config import RunConfig
from ear.errors import UserError
from ear.evaluation.intermediate import few_image_fid
from ear.files.writing import is_there
from ear.process.code import OtherCodeError, code_digest, require_same_code
from ear.run import Run
from ear.store import Store
from ear.training.checkpoint import CHECKPOINT
from ear.training.trainer import Trainer
from sweeps.trial.helper_processes import TrialProcesses
from sweeps.trial.log import output_to, say, this_node
from sweeps.trial.messages import Fault, Report, TaskRequest

REPORT_SECONDS = 1.0  # training time between two reports
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next trial would fail with these too


class StopRequestedError(Exception):
    """Raised when the driver is stopping: a training has been saved, an evaluation is discarded."""


class StageTrial(Trainable):
    """Tune's trial. It puts its results into the store and reports only progress.

    Tune reuses the actor for the next task, which saves the seconds that a new process needs to import torch.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Starts the actor with its first task; `config` has the task's request as JSON."""
        code_digest()  # cached now: the sources may change on disk while this process lives
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver handles it
        self._processes = TrialProcesses(TaskRequest.loads(config["request"]).processes)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Starts the next task in the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._request = TaskRequest.loads(config["request"])
        self._store: Store | None = None
        self._trainer: Trainer | None = None
        self._run: Run | None = None  # the run that is being trained
        self._evaluating: str | None = None

    def step(self) -> dict[str, Any]:
        """Trains for about a second or runs one evaluation. An exception becomes a report with its traceback."""
        with output_to(self._request.log):
            try:
                report = self._advance()
            except StopRequestedError:
                report = Report("stopped")
            except Exception as error:
                self._trainer = None
                print(format_exc())
                report = Report("failed", traceback=format_exc(), evaluation=self._evaluating, fault=fault_of(error))
        return report.as_result()

    def _advance(self) -> Report:
        require_same_code(self._request.code)
        store = self._store = self._store or Store(self._request.root, on_wait=self._check_stop)
        if self._request.stage is not None:
            run = self._run = self._run or self._run_of(self._request.training, store)
            if run.keys.stages[self._request.stage] not in store:
                return self._train(run, self._request.stage)
            self._trainer = None
        for key, config in self._request.evaluations.items():
            if key not in store:
                return self._evaluate(key, config, store)
        return Report("finished")

    def _run_of(self, config: RunConfig, store: Store) -> Run:
        return Run(config, store, processes=self._processes.own)

    def _train(self, run: Run, stage: int) -> Report:
        if self._trainer is None:
            with self._processes.act("train", self._request.dumps()):
                self._trainer = run.trainer()
            which = f"stage {stage + 1} of {len(run.keys.stages)}"
            say(f"training {which} from step {self._trainer.step}, on {this_node()}")
        trainer = self._trainer
        known = len(trainer.history)
        intermediate: list[tuple[int, float]] = []
        started = time.monotonic()
        while run.keys.stages[stage] not in run.store and not intermediate:
            self._check_stop()
            before = trainer.step
            with self._processes.act("advance"):
                trainer.advance()
            intermediate = self._intermediate(run, trainer, before)
            if time.monotonic() - started > REPORT_SECONDS:
                break
        records = trainer.history[known:]
        if records:
            say(f"step {trainer.step} of {run.config.total_steps}, loss {records[-1].loss:.4f}")
        if trainer.diverged_at is not None:
            say(f"diverged at step {trainer.diverged_at}")
            return Report("finished", trainer.step, records)
        return Report("training", trainer.step, records, intermediate)

    def _intermediate(self, run: Run, trainer: Trainer, before: int) -> list[tuple[int, float]]:
        """The intermediate value for early stopping, with its step, if one is due since step `before`."""
        settings = self._request.intermediate
        if settings is None or trainer.finished or trainer.step // settings.every == before // settings.every:
            return []
        if settings.metric == "loss":
            value = trainer.history[-1].loss
        else:
            run.save_unfinished(trainer)
            checkpoint = run.store.workspace(run.keys.stages[trainer.stage]) / CHECKPOINT
            value = few_image_fid(checkpoint, run.config, run.keys, run.dataset, run.store, settings.images)
        say(f"step {trainer.step}: {settings.metric} {value:.4f}")
        return [(trainer.step, value)]

    def _evaluate(self, key: str, config: RunConfig, store: Store) -> Report:
        run = self._run_of(config, store)
        outcome = run.training_outcome()
        assert outcome is not None
        if outcome.diverged_at is not None:
            return Report("finished", outcome.step)
        self._evaluating = key
        say(f"evaluating {key}")
        with self._processes.act("evaluate", self._request.dumps(), key):
            evaluation = run.evaluate(on_images=self._check_stop)
        self._evaluating = None
        say(f"FID {evaluation.metrics['fid']:.3f} in {evaluation.seconds:.1f} s")
        return Report("evaluating", outcome.step)

    def _check_stop(self, _images: float = 0) -> None:
        """Saves and raises if the driver is stopping; called regularly during all work and waiting."""
        if is_there(self._request.stop):
            self._save()
            raise StopRequestedError

    def cleanup(self) -> None:
        """Saves the training and kills the helpers; Tune calls it before it ends the process."""
        self._save()
        self._processes.end()

    def _save(self) -> None:
        """Saves what was trained since the last checkpoint."""
        if self._trainer is not None and not self._trainer.finished and self._run is not None:
            self._run.save_unfinished(self._trainer)
        self._trainer = None


def fault_of(error: BaseException | None) -> Fault:
    """Returns the cause of an exception, found in its chain of causes."""
    while error is not None:
        # safetensors raises its own errors, which quote the system's error number.
        quoted = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(quoted[1]) if quoted else None
        if number in STORAGE_ERRORS:
            return "storage"
        if isinstance(error, OtherCodeError):
            return "code"
        if isinstance(error, UserError):
            return "input"
        error = error.__cause__ or error.__context__
    return "task"
