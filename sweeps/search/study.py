"""The study: one journal file beside the sweep, shared by all of its drivers.

    ROOT/NAME/study.journal    every proposal with what came of it; `optuna-dashboard` opens it

Whoever changes it holds a file lock, so that proposals are counted and told once, whatever drivers do at the same time.
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
from sweeps.search.samplers import pruner_for, sampler_for
from sweeps.spec.metric import better
from sweeps.spec.search_schema import SearchConfig
from sweeps.spec.search_space import draw

JOURNAL = "study.journal"
CHOSEN = "chosen"  # attribute of the study: trials that were to be measured again, by whichever driver
ENDS = "ends"  # attribute of a trial: how runs of it ended that left nothing in the store, by evaluation key
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)
DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}
Role = Literal["proposal", "extra"]


class Study:
    def __init__(self, folder: Path, name: str, search: SearchConfig, objectives: Sequence[str], identity: Any) -> None:
        """Opens the study in this folder, or begins it.

        Raises:
            UserError: another search was begun under this name, or the journal can't be read or written.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        require_writable(folder)
        self.path = folder / JOURNAL
        self._search = search
        self._lock = FileLock(folder / "study.lock")
        with self._lock:
            with journal_errors(self.path):
                _mend(self.path)
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
        """No other driver changes the study meanwhile; may be nested."""
        with self._lock:
            yield

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self.trials()[number]

    def suggest(self, history: Sequence[FrozenTrial], *, blindly: bool = False) -> dict[str, Any]:
        """The next point if there had been these trials only; drawn `blindly`, at random. To be called locked."""
        other = optuna.create_study(directions=self._study.directions)
        other.add_trials(history)
        number = len(self.trials())
        search = self._search.model_copy(update={"sampler": "random"}) if blindly else self._search
        other.sampler = sampler_for(search, number, {})
        return draw(search, other.ask())

    def ask(self, role: Role, fixed: dict[str, Any], attributes: dict[str, Any]) -> FrozenTrial:
        """A new trial, its parameters drawn but for the fixed ones. To be called locked."""
        number = len(self.trials())
        self._study.sampler = sampler_for(self._search, number, fixed)
        trial = self._study.ask()
        assert trial.number == number
        for key, value in {"role": role, "fixed": fixed, **attributes}.items():
            trial.set_user_attr(key, value)
        draw(self._search, trial)
        return self.trial(number)

    def take_up(self, trial: FrozenTrial) -> FrozenTrial:
        """An unfinished trial is worked on again, with the parameters that it has. To be called locked."""
        if trial.state is TrialState.WAITING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        # A driver that was killed while asking left a part of the parameters; the rest is drawn now.
        self._study.sampler = sampler_for(self._search, trial.number, trial.user_attrs.get("fixed", {}))
        draw(self._search, optuna.Trial(self._study, trial._trial_id))
        return self.trial(trial.number)

    def lay_down(self, number: int) -> None:
        """A trial that is not finished waits for the next driver, or for any other user of Optuna's."""
        trial = self.trial(number)
        if trial.state is TrialState.RUNNING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def report(self, number: int, step: int, value: float) -> bool:
        """Takes in an intermediate value; says whether the trial is to be stopped. To be called locked."""
        trial = self.trial(number)
        if trial.state not in UNFINISHED:
            return trial.state is TrialState.PRUNED
        if step not in trial.intermediate_values:
            self._storage.set_trial_intermediate_value(trial._trial_id, step, value)
        return self._study.pruner.prune(self._study, self.trial(number))

    def note_end(self, number: int, key: str, state: str, traceback: str) -> None:
        """A run of an unfinished trial ended without a result, which other drivers are to know. To be called locked."""
        trial = self.trial(number)
        if trial.state in UNFINISHED:
            ends = {**trial.user_attrs.get(ENDS, {}), key: state}
            for name, value in {"traceback": traceback, ENDS: ends}.items():
                self._storage.set_trial_user_attr(trial._trial_id, name, value)

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: dict[str, Any],
        violations: dict[str, float],
    ) -> bool:
        """Whether it was told now; a finished trial stays as it is. To be called locked.

        `violations` are above 0 where a constraint is not held.
        """
        trial = self.trial(number)
        if trial.state not in UNFINISHED:
            return False
        if trial.state is TrialState.WAITING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        self._study.sampler = optuna.samplers.RandomSampler(0)  # nothing is drawn here
        live = optuna.Trial(self._study, trial._trial_id)
        for key, value in attributes.items():
            live.set_user_attr(key, value)
        for name, violation in violations.items():
            live.set_constraint(name, violation)
        self._study.tell(number, values, state)
        return True

    def note(self, key: str, value: Any) -> None:
        """Keeps something with the study."""
        self._study.set_user_attr(key, value)

    def noted(self, key: str) -> Any:
        return self._study.user_attrs.get(key)


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Optuna's words for a journal that is damaged, of a newer version or not its own, as a sentence with the remedy.

    It does not look at what it reads: a field that is missing, or an operation that it does not know, shows as a
    `KeyError` or an `AssertionError`.
    """
    try:
        yield
    except UserError:
        raise  # has its words
    except (ValueError, LookupError, TypeError, AssertionError, OSError, StorageInternalError) as error:
        raise UserError(
            f"The study {path} can't be read ({type(error).__name__}: {error}): move it away and run the sweep again; "
            "what is trained is found in the store."
        ) from error


def open_journal(path: Path) -> JournalStorage:
    """A study's file, for whoever reads or writes it.

    Raises:
        UserError: it can't be read.
    """
    with journal_errors(path):
        return JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))


def _mend(journal: Path) -> None:
    """Cuts off a last line that a killed machine left unfinished; Optuna would write the next one right behind it."""
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)


def refuse_another(known: dict[str, Any], identity: Any, path: Path, name: str) -> None:
    """
    Raises:
        UserError: the study at this path was begun as another search.
    """
    wanted = json.loads(json.dumps(identity))
    earlier_base = wanted.pop("earlier_base")
    if known not in (wanted, {**wanted, "base": earlier_base}):
        raise UserError(
            f"The study {path} was begun with other settings: {'; '.join(differences(known, wanted))}. Its "
            f"proposals can't be mixed with those of this search: give the sweep another name (say, {name}-2), or "
            "restore the settings."
        )


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """`space.scoring.alpha.uniform was [1.0, 1.9] and is [1.0, 1.5]`, for everything that differs."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key} was {json.dumps(before)} and is {json.dumps(after)}")
    return found
