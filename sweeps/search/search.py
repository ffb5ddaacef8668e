"""A search as a source of runs.

Each proposal is a trial of the study with one run per seed; its value is their mean. When a proposal is COMPLETE, its
trained models are evaluated with further values of the evaluation-only parameters, each as a trial of its own. At the
end the best configurations are confirmed with fresh seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from ear.errors import UserError
from ear.store import Store
from sweeps.search.after_repair import STEERED, RemovedResults, came_out_alike, refuse_steered, rests_on_results
from sweeps.search.best import best_trainings, pareto_front
from sweeps.search.confirmer import Confirmer
from sweeps.search.proposals import Proposer, role
from sweeps.search.study import ENDS, UNFINISHED, Study
from sweeps.search.trial_outcome import trial_outcome, violations
from sweeps.spec.configurations import Configurations
from sweeps.spec.metric import written
from sweeps.spec.runs import PlannedRun, RunResult, is_done
from sweeps.spec.schema import SweepConfig
from sweeps.spec.search_space import MAX_INVALID_DRAWS
from sweeps.spec.tags import CONFIRMATION_ROLE, ROLE, TRIAL


@dataclass
class OpenTrial:
    """A trial whose runs are not all settled yet."""

    number: int
    runs: list[PlannedRun]  # one per seed
    given: int  # how many of them the driver has been given
    results: dict[str, RunResult] = field(default_factory=dict)  # by evaluation key

    def ordered(self) -> list[RunResult]:
        """Returns the known results in the order of the seeds."""
        return [self.results[run.keys.evaluation] for run in self.runs if run.keys.evaluation in self.results]


class Search:
    """The `RunSource` of a search. The study holds what was proposed; the store holds the results."""

    def __init__(self, sweep: SweepConfig, configurations: Configurations, root: Path, store: Store) -> None:
        """Opens the search's study, or creates it.

        Raises:
            UserError: the study of this name belongs to another search, or can't be read or written.
        """
        assert sweep.search is not None
        self._sweep = sweep
        self._search = sweep.search
        self._configurations = configurations
        self._store = store
        self.objectives = sweep.objectives
        identity = search_identity(sweep, configurations)
        self.study = Study(root / sweep.name, sweep.name, sweep.search, self.objectives, identity)
        self.proposer = Proposer(sweep.search, self.objectives, configurations, self.study)
        self._confirmer = Confirmer(sweep, configurations, self.study)
        self._open: dict[int, OpenTrial] = {}
        self._removed = RemovedResults(store)
        self._measuring: dict[int, OpenTrial] = {}  # finished trials whose removed results are computed again
        self._seen: set[int] = set()  # trials whose runs the driver knows
        self._forgiven: set[tuple[int, str]] = set()  # (trial, evaluation key) of failures before this driver
        self._faults = 0  # proposals that failed in this driver; a later driver may replace them
        self._roles: dict[str, tuple[int, str]] = {}  # evaluation key -> trial and role

    # The RunSource protocol

    def start(self) -> Sequence[PlannedRun]:
        """Returns the runs of all trials in the study.

        Raises:
            UserError: damaged results have influenced the search.
        """
        self.require_sound()
        with self.study.locked():
            for trial in self.study.trials():
                ends = trial.user_attrs.get(ENDS, {})
                self._forgiven |= {(trial.number, key) for key, state in ends.items() if state == "failed"}
            runs = self._take_in()
            for trial in self.study.trials():
                if trial.state is TrialState.COMPLETE and role(trial) == "proposal":
                    runs += self._ask_extras(trial)  # those that a killed driver had not asked for yet
            return runs

    def propose(self) -> Sequence[PlannedRun]:
        """Returns other drivers' new runs, else those of the next proposal, else those of the confirmation."""
        with self.study.locked():
            if runs := self._take_in():
                return runs
            if self._measuring or self.study.noted(STEERED):
                return ()
            for _ in range(MAX_INVALID_DRAWS):
                if len(self._kept()) + self._faults >= self._search.trials:
                    break
                if runs := self._begin(self.study.ask("proposal", self.proposer.next_point(), {})):
                    return runs
            else:
                return ()  # all draws were invalid; the next call tries again
            if any(trial.state in UNFINISHED for trial in self.study.trials()):
                return ()
            return self._confirmation_runs()

    def report(self, run: PlannedRun, step: int, value: float) -> bool:
        """Records an intermediate value of a trial's first seed; returns whether the run must stop."""
        stop = False
        with self.study.locked():
            for trial in self._open.values():
                if trial.runs[0].keys.evaluation == run.keys.evaluation:  # the first seed decides
                    stop = self.study.report(trial.number, step, value) or stop
        return stop

    def settle(self, run: PlannedRun, result: RunResult) -> Sequence[PlannedRun]:
        """Records a run's result with every trial that needs it; returns the runs that follow."""
        key = run.keys.evaluation
        more: list[PlannedRun] = []
        with self.study.locked():
            for trial in [each for each in self._open.values() if any(key == r.keys.evaluation for r in each.runs)]:
                trial.results[key] = result
                if result.state in ("pruned", "failed"):
                    self.study.record_end(trial.number, key, result.state, result.traceback)
                more += self._advance(trial)
            for trial in list(self._measuring.values()):
                if any(key == each.keys.evaluation for each in trial.runs):
                    trial.results[key] = result
                    self._compare(trial)
            self._confirmer.settle(key, result)
        return more

    def known_end(self, run: PlannedRun) -> RunResult | None:
        """Returns how the study says a run ended without a result: pruned, or failed in this driver's time."""
        for trial in self.study.trials():
            if state := self._ends_of(trial).get(run.keys.evaluation):
                return RunResult(state, traceback=trial.user_attrs.get("traceback", ""))
        return None

    def _ends_of(self, trial: FrozenTrial) -> dict[str, Literal["pruned", "failed"]]:
        """How its runs without a result ended, by key; failures before this driver are left out and tried again."""
        ends = trial.user_attrs.get(ENDS, {})
        return {key: state for key, state in ends.items() if (trial.number, key) not in self._forgiven}

    def tags(self, run: PlannedRun) -> dict[str, str]:
        """Returns the MLflow tags that name the run's trial and role."""
        known = self._roles.get(run.keys.evaluation)
        return {TRIAL: str(known[0]), ROLE: known[1]} if known else {}

    def progress_note(self) -> str:
        """Returns the number of proposals and the best value so far."""
        words = f"{len(self._kept())} of {self._search.trials} proposed"
        best = self.best()
        if len(self.objectives) > 1:
            return f"{words}, {len(best)} on the Pareto front"
        return f"{words}, best {self.objectives[0]} {written(self.objectives[0], best[0].values[0])}" if best else words

    def require_sound(self) -> None:
        """Checks that no damaged result has influenced the proposals.

        Raises:
            UserError: one has.
        """
        refuse_steered(self.study.noted(STEERED), self._sweep.name)

    def close(self) -> None:
        """Leaves unfinished trials to the next driver."""
        with self.study.locked():
            for number in self._open:
                self.study.suspend(number)
            self._open.clear()

    # Trials

    def _kept(self) -> list[FrozenTrial]:
        """The proposals that count towards `trials`: all but the failed ones."""
        return [each for each in self.study.trials() if role(each) == "proposal" and each.state is not TrialState.FAIL]

    def _take_in(self) -> list[PlannedRun]:
        """The runs of trials that this driver has not seen, including finished ones, since one driver writes MLflow for
        all."""
        runs: list[PlannedRun] = []
        for trial in self.study.trials():
            if trial.number in self._seen:
                continue
            if trial.state in UNFINISHED:
                runs += self._begin(self.study.resume(trial))
            else:
                runs += self._ended(trial)
        return runs + self._measured_again()

    def _measured_again(self) -> list[PlannedRun]:
        """The finished confirmation runs of any driver, including removed results, that this driver does not know."""
        found: list[PlannedRun] = []
        for number, run in self._confirmer.chosen_before():
            if run.keys.evaluation not in self._roles and self._was_done(run, {}):
                self._roles[run.keys.evaluation] = (number, CONFIRMATION_ROLE)
                found.append(run)
        return found

    def _confirmation_runs(self) -> list[PlannedRun]:
        """The runs that confirm the best trials; none if they were already returned."""
        candidates = self._confirmer.choose(self.best())
        for candidate in candidates:
            for key in candidate.keys:
                self._roles[key] = (candidate.trial.number, CONFIRMATION_ROLE)
        return [run for candidate in candidates for run in candidate.runs]

    def _ended(self, trial: FrozenTrial) -> list[PlannedRun]:
        """The runs that were done for a finished trial; removed results are computed again."""
        self._seen.add(trial.number)
        runs, ends, known = self._runs_of(trial), self._ends_of(trial), trial.user_attrs.get(ENDS, {})
        if rests_on_results(trial) and any(map(self._removed.concerns, runs)):
            self._measuring[trial.number] = OpenTrial(trial.number, runs, len(runs))
        return [run for run in runs if run.keys.evaluation in ends or self._was_done(run, known)]

    def _was_done(self, run: PlannedRun, ends: Mapping[str, str]) -> bool:
        """Whether the store has, or had, the run's result; runs among `ends` never had one."""
        removed = run.keys.evaluation not in ends and self._removed.concerns(run)
        return removed or is_done(run, self._store)

    def _compare(self, trial: OpenTrial) -> None:
        """Compares a finished trial with its recomputed results, once all are there; notes it if they differ."""
        results = trial.ordered()
        if len(results) < len(trial.runs) or any(result.state == "failed" for result in results):
            return  # the next driver tries the failed runs again
        state, values, attributes = trial_outcome(results, self.objectives)
        if not came_out_alike(self.study.trial(trial.number), state, values, attributes):
            self.study.note(STEERED, sorted({*(self.study.noted(STEERED) or ()), trial.number}))
        del self._measuring[trial.number]

    def _begin(self, trial: FrozenTrial) -> list[PlannedRun]:
        """Opens a trial and returns the runs to start with; none if its parameters are incompatible."""
        self._seen.add(trial.number)
        if not (runs := self._runs_of(trial)):
            return []
        # With early stopping, the first seed shows whether the others are worth training.
        given = 1 if self._search.early_stopping and role(trial) == "proposal" else len(runs)
        self._open[trial.number] = OpenTrial(trial.number, runs, given)
        return runs[:given]

    def _runs_of(self, trial: FrozenTrial) -> list[PlannedRun]:
        """A trial's runs, one per seed. If its parameters are incompatible, tells the study so and returns none."""
        try:
            runs = [self._configurations.run(trial.params, seed) for seed in self._sweep.seeds]
        except UserError as error:
            self.study.tell(trial.number, TrialState.FAIL, None, {"error": [str(error)]}, {})
            return []
        for run in runs:
            self._roles.setdefault(run.keys.evaluation, (trial.number, role(trial)))
        return runs

    def _advance(self, trial: OpenTrial) -> list[PlannedRun]:
        """Tells the study a trial's outcome once its started runs have ended; returns the runs that follow."""
        results = trial.ordered()
        if len(results) < trial.given:
            return []
        ends = {key: result.state for key, result in trial.results.items() if result.state in ("pruned", "failed")}
        if trial.given < len(trial.runs) and not ends:
            rest, trial.given = trial.runs[trial.given :], len(trial.runs)
            return rest
        state, values, attributes = trial_outcome(results, self.objectives)
        if ends or ENDS in self.study.trial(trial.number).user_attrs:  # from an earlier driver
            attributes[ENDS] = ends
        told = self.study.tell(
            trial.number, state, values, attributes, violations(attributes, self._search.constraints)
        )
        del self._open[trial.number]
        frozen = self.study.trial(trial.number)
        if state is TrialState.FAIL and role(frozen) == "proposal":
            self._faults += 1
        if told and state is TrialState.COMPLETE and role(frozen) == "proposal":
            return self._ask_extras(frozen)
        return []

    def _ask_extras(self, proposal: FrozenTrial) -> list[PlannedRun]:
        """Asks for the missing extra trials: the proposal's training with other evaluation-only parameters."""
        asked = sum(trial.user_attrs.get("extra_of") == proposal.number for trial in self.study.trials())
        fixed = self.proposer.training_of(proposal.params)
        runs: list[PlannedRun] = []
        for _ in range(self._search.evaluations - asked):
            runs += self._begin(self.study.ask("extra", fixed, {"extra_of": proposal.number}))
        return runs

    def best(self) -> list[FrozenTrial]:
        """Returns the best trials, sorted by the first objective; with several objectives, the Pareto front."""
        trials = self.study.trials()
        if len(self.objectives) > 1:
            return pareto_front(trials, self.objectives)
        return best_trainings(trials, self.objectives, self.proposer.training_of)


def search_identity(sweep: SweepConfig, configurations: Configurations) -> dict[str, Any]:
    """Returns the settings that identify a search; a study is reused only if they are equal.

    `earlier_base` is not stored: it may stand for `base` in the study of an earlier version.
    """
    assert sweep.search is not None
    decisive = {"objectives": sweep.objectives, "seeds": sweep.seeds, "base": configurations.digest}
    decisive["earlier_base"] = configurations.earlier_digest
    return {**sweep.search.identity(), **decisive}
