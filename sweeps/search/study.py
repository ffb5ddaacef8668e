"""The Optuna study of a search: one journal file, shared by all drivers of the sweep.

    ROOT/NAME/study.journal    every trial with its outcome; `optuna-dashboard` opens it

A driver holds a file lock while it changes the study, so each proposal is counted and told exactly once.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ear.errors import UserError
from ear.files.writing import require_writable
from sweeps.search.optuna_private import storage_id
from sweeps.search.samplers import pruner_for, sampler_for
from sweeps.spec.metric import better
from sweeps.spec.search_schema import SearchConfig
from sweeps.spec.search_space import draw

JOURNAL = "study.journal"
CHOSEN = "chosen"  # study attribute: trials that any driver selected for confirmation
ENDS = "ends"  # trial attribute: evaluation key -> how the run ended, for runs without a result in the store
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)
DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
Role = Literal["proposal", "extra"]


class Study:
    """An Optuna study that several drivers change at the same time."""

    def __init__(self, folder: Path, name: str, search: SearchConfig, objectives: Sequence[str], identity: Any) -> None:
        """Opens the study in this folder, or creates it.

        Raises:
            UserError: the study belongs to another search, or its journal can't be read or written.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        require_writable(folder)
        self.path = folder / JOURNAL
        self._search = search
        self._lock = FileLock(folder / "study.lock")
        with self._lock:
            with journal_errors(self.path):
                _truncate_partial_line(self.path)
                self._storage = open_journal(self.path)
                self._study = optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    directions=[DIRECTIONS[better(metric)] for metric in objectives],
                    load_if_exists=True,
                    pruner=pruner_for(search),
                )
            self._identify(name, json.loads(json.dumps(identity)))

    def _identify(self, name: str, identity: dict[str, Any]) -> None:
        known = self._study.user_attrs.get("identity")
        if known is None:
            self._study.set_metric_names(list(identity["objectives"]))  # for dashboards
            del identity["earlier_base"]
            self._study.set_user_attr("identity", identity)
        else:
            refuse_another(known, identity, self.path, name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other drivers from changing the study; may be nested."""
        with self._lock:
            yield

    def trials(self) -> list[FrozenTrial]:
        """Returns all trials."""
        return self._study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """Returns the trial with this number."""
        return self.trials()[number]

    def suggest(self, history: Sequence[FrozenTrial], *, blindly: bool = False) -> dict[str, Any]:
        """Returns the next point that the sampler proposes after this history, or a random one if `blindly`.

        Call it with the study locked.
        """
        other = optuna.create_study(directions=self._study.directions)
        other.add_trials(history)
        number = len(self.trials())
        search = self._search.model_copy(update={"sampler": "random"}) if blindly else self._search
        other.sampler = sampler_for(search, number, {})
        return draw(search, other.ask())

    def ask(self, role: Role, fixed: dict[str, Any], attributes: dict[str, Any]) -> FrozenTrial:
        """Creates a trial and draws the parameters that are not fixed. Call it with the study locked."""
        number = len(self.trials())
        self._study.sampler = sampler_for(self._search, number, fixed)
        trial = self._study.ask()
        assert trial.number == number
        for key, value in {"role": role, "fixed": fixed, **attributes}.items():
            trial.set_user_attr(key, value)
        draw(self._search, trial)
        return self.trial(number)

    def resume(self, trial: FrozenTrial) -> FrozenTrial:
        """Resumes an unfinished trial with its parameters. Call it with the study locked."""
        if trial.state is TrialState.WAITING:
            self._storage.set_trial_state_values(storage_id(trial), TrialState.RUNNING)
        # A driver that was killed while asking may have drawn only some parameters; the rest are drawn now.
        self._study.sampler = sampler_for(self._search, trial.number, trial.user_attrs.get("fixed", {}))
        draw(self._search, optuna.Trial(self._study, storage_id(trial)))
        return self.trial(trial.number)

    def suspend(self, number: int) -> None:
        """Marks an unfinished trial as WAITING, for the next driver or another Optuna program."""
        trial = self.trial(number)
        if trial.state is TrialState.RUNNING:
            self._storage.set_trial_state_values(storage_id(trial), TrialState.WAITING)

    def report(self, number: int, step: int, value: float) -> bool:
        """Records an intermediate value; returns whether the trial must stop. Call it with the study locked."""
        trial = self.trial(number)
        if trial.state not in UNFINISHED:
            return trial.state is TrialState.PRUNED
        if step not in trial.intermediate_values:
            self._storage.set_trial_intermediate_value(storage_id(trial), step, value)
        return self._study.pruner.prune(self._study, self.trial(number))

    def record_end(self, number: int, key: str, state: str, traceback: str) -> None:
        """Records for other drivers that a run of an unfinished trial ended without a result.

        Call it with the study locked.
        """
        trial = self.trial(number)
        if trial.state in UNFINISHED:
            ends = {**trial.user_attrs.get(ENDS, {}), key: state}
            for name, value in {"traceback": traceback, ENDS: ends}.items():
                self._storage.set_trial_user_attr(storage_id(trial), name, value)

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: dict[str, Any],
        violations: dict[str, float],
    ) -> bool:
        """Finishes a trial and returns True; a finished trial stays as it is and gives False.

        `violations` are above 0 for violated constraints. Call it with the study locked.
        """
        trial = self.trial(number)
        if trial.state not in UNFINISHED:
            return False
        if trial.state is TrialState.WAITING:
            self._storage.set_trial_state_values(storage_id(trial), TrialState.RUNNING)
        self._study.sampler = optuna.samplers.RandomSampler(0)  # nothing is drawn here
        live = optuna.Trial(self._study, storage_id(trial))
        for key, value in attributes.items():
            live.set_user_attr(key, value)
        for name, violation in violations.items():
            live.set_constraint(name, violation)
        self._study.tell(number, values, state)
        return True

    def note(self, key: str, value: Any) -> None:
        """Sets a study attribute."""
        self._study.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        """Returns a study attribute; None if it is not set."""
        return self._study.user_attrs.get(key)


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Turns Optuna's errors about a damaged, newer or foreign journal into a `UserError` with the fix.

    Optuna does not validate what it reads: a missing field or an unknown operation raises a `KeyError` or an
    `AssertionError`.
    """
    try:
        yield
    except UserError:
        raise  # already a readable message
    except (ValueError, LookupError, TypeError, AssertionError, OSError, StorageInternalError) as error:
        raise UserError(
            f"The study {path} can't be read ({type(error).__name__}: {error}): move it away and run the sweep again; "
            "finished trainings are reused from the store."
        ) from error


def open_journal(path: Path) -> JournalStorage:
    """Opens a study's journal for reading and writing.

    Raises:
        UserError: it can't be read.
    """
    with journal_errors(path):
        return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def _truncate_partial_line(journal: Path) -> None:
    """Removes an incomplete last line, left by a crashed machine; Optuna would append the next line to it."""
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)


def refuse_another(known: dict[str, Any], identity: Any, path: Path, name: str) -> None:
    """Checks that a study's identity (`known`) agrees with a search's.

    Raises:
        UserError: the study at this path belongs to another search; the message names the differences.
    """
    wanted = json.loads(json.dumps(identity))
    earlier_base = wanted.pop("earlier_base")
    if known.get("base") == earlier_base:
        wanted["base"] = earlier_base
    if known != wanted:
        raise UserError(
            f"The study {path} was created with other settings: {'; '.join(differences(known, wanted))}. Its "
            f"trials can't be mixed with those of this search: rename the sweep (for example, {name}-2), or "
            "restore the settings."
        )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lists the differences: `space.scoring.alpha.uniform was [1.0, 1.9] and is [1.0, 1.5]`."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key} was {json.dumps(before)} and is {json.dumps(after)}")
    return found
