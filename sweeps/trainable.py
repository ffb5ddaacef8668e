"""What a trial does inside its Ray worker: advance one training, then evaluate what is pending on it."""

import signal
import time
from dataclasses import asdict
from pathlib import Path
from traceback import format_exc
from typing import Any

from ray.tune import Trainable

from ear.config import RunConfig
from ear.run import Run
from ear.store import Store
from ear.training import Trainer

REPORT_SECONDS = 1.0  # of training between two reports


class TrainAndEvaluate(Trainable):
    """Tune's trial. Its results are in the store; what it reports is progress only.

    The actor is reused for the next trial, which saves the seconds that a new process needs to import torch.
    """

    def setup(self, config: dict[str, Any]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
        self._trial: dict[str, Any] = config["trial"]
        self._runs: list[Run] = []
        self._trainer: Trainer | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """About a second of training, or one evaluation; a fault is reported with its traceback, as a result."""
        try:
            if not self._runs:
                store = Store(Path(self._trial["root"]))
                self._runs = [Run(RunConfig.model_validate(values), store) for values in self._trial["runs"]]
            return self._advance()
        except Exception:
            self._trainer = None
            return {"state": "failed", "steps": None, "records": [], "traceback": format_exc(), "done": True}

    def _advance(self) -> dict[str, Any]:
        run = self._runs[0]
        outcome = run.training_outcome()
        if outcome is None:
            return self._train(run)
        self._trainer = None
        if outcome.diverged_at is not None:
            return {"state": "diverged", "steps": outcome.step, "records": [], "done": True}
        pending = [each for each in self._runs if each.evaluation() is None]
        if pending:
            pending.pop(0).evaluate()
        state = "evaluating" if pending else "evaluated"
        return {"state": state, "steps": outcome.step, "records": [], "done": not pending}

    def _train(self, run: Run) -> dict[str, Any]:
        trainer = self._trainer = self._trainer or run.trainer()
        known = len(trainer.history)
        started = time.monotonic()
        while not trainer.finished and time.monotonic() - started < REPORT_SECONDS:
            trainer.advance()
        records = [asdict(record) for record in trainer.history[known:]]
        state = "evaluating" if trainer.finished else "training"
        return {"state": state, "steps": trainer.step, "records": records, "done": False}

    def cleanup(self) -> None:
        """Called when the trial is stopped or the sweep ends: keeps what was trained since the last checkpoint."""
        if self._trainer is not None and not self._trainer.finished:
            self._runs[0].save_unfinished(self._trainer)
