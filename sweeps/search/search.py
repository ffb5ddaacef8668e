"""A search as a source of runs.

Each proposal is a trial of the study, with a run for each of the sweep's seeds; its value is their mean. Where it is
COMPLETE, some more values of the evaluation-only parameters are tried on the models that it trained, each a trial of
its own at the price of an evaluation. At the end the best are measured again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from ear.errors import UserError
from ear.store import Store
from sweeps.search.best import best_trainings, pareto_front, undominated
from sweeps.search.confirmation import CONFIRMATION, Candidate, chosen, confirmation_runs, confirmed
from sweeps.search.removed import STEERED, Removed, came_out_alike, refuse_steered, rests_on_results
from sweeps.search.study import CHOSEN, ENDS, UNFINISHED, Study
from sweeps.spec.configurations import Configurations
from sweeps.spec.metric import written
from sweeps.spec.runs import PlannedRun, RunResult, is_done
from sweeps.spec.schema import SweepConfig
from sweeps.spec.search_space import MAX_INVALID_DRAWS, evaluation_only, starting_point


@dataclass
class OpenTrial:
    """A trial that this driver works on."""

    number: int
    runs: list[PlannedRun]  # one for each seed
    given: int  # how many of them the driver has been given
    results: dict[str, RunResult] = field(default_factory=dict)  # by evaluation key

    def ordered(self) -> list[RunResult]:
        """The results that are there, in the order of the seeds."""
        return [self.results[run.keys.evaluation] for run in self.runs if run.keys.evaluation in self.results]


class Search:
    """A `RunSource`. The study is the truth of what was proposed; what came of it is read off the store."""

    def __init__(self, sweep: SweepConfig, configurations: Configurations, root: Path, store: Store) -> None:
        """
        Raises:
            UserError: another search was begun under this name, or its study can't be used.
        """
        assert sweep.search is not None
        self._sweep = sweep
        self._search = sweep.search
        self._configurations = configurations
        self._store = store
        self.objectives = sweep.objectives
        identity = search_identity(sweep, configurations)
        self.study = Study(root / sweep.name, sweep.name, sweep.search, self.objectives, identity)
        self._open: dict[int, OpenTrial] = {}
        self._removed = Removed(store)
        self._measuring: dict[int, OpenTrial] = {}  # that ended before a repair removed results of theirs
        self._seen: set[int] = set()  # trials whose runs the driver knows
        self._forgiven: set[tuple[int, str]] = set()  # (trial, evaluation key) of faults before this call
        self._faults = 0  # proposals that failed in this call; the next one may propose others instead
        self._candidates: list[Candidate] | None = None
        self._roles: dict[str, tuple[int, str]] = {}  # evaluation key -> trial and role

    # Source

    def start(self) -> Sequence[PlannedRun]:
        """
        Raises:
            UserError: damaged results have steered it.
        """
        self.require_sound()
        with self.study.locked():
            for trial in self.study.trials():
                ends = trial.user_attrs.get(ENDS, {})
                self._forgiven |= {(trial.number, key) for key, state in ends.items() if state == "failed"}
            runs = self._take_in()
            for trial in self.study.trials():
                if trial.state is TrialState.COMPLETE and role(trial) == "proposal":
                    runs += self._ask_extras(trial)  # a driver was killed before it asked for them all
            return runs

    def propose(self) -> Sequence[PlannedRun]:
        with self.study.locked():
            if runs := self._take_in():
                return runs
            if self._measuring or self.study.noted(STEERED):
                return ()
            for _ in range(MAX_INVALID_DRAWS):
                if len(self._kept()) + self._faults >= self._search.trials:
                    break
                if runs := self._begin(self._ask_proposal()):
                    return runs
            else:
                return ()  # tried again at the next look
            if any(trial.state in UNFINISHED for trial in self.study.trials()):
                return ()
            return self._confirm()

    def report(self, run: PlannedRun, step: int, value: float) -> bool:
        stop = False
        with self.study.locked():
            for trial in self._open.values():
                if trial.runs[0].keys.evaluation == run.keys.evaluation:  # the first seed decides
                    stop = self.study.report(trial.number, step, value) or stop
        return stop

    def settle(self, run: PlannedRun, result: RunResult) -> Sequence[PlannedRun]:
        key = run.keys.evaluation
        more: list[PlannedRun] = []
        with self.study.locked():
            for trial in [each for each in self._open.values() if any(key == r.keys.evaluation for r in each.runs)]:
                trial.results[key] = result
                if result.state in ("pruned", "failed"):
                    self.study.note_end(trial.number, key, result.state, result.traceback)
                more += self._advance(trial)
            for trial in list(self._measuring.values()):
                if any(key == each.keys.evaluation for each in trial.runs):
                    trial.results[key] = result
                    self._compare(trial)
            for candidate in self._candidates or ():
                if key in candidate.keys:
                    candidate.results[key] = result
                    self._conclude()
        return more

    def known_end(self, run: PlannedRun) -> RunResult | None:
        for trial in self.study.trials():
            if state := self._ends_of(trial).get(run.keys.evaluation):
                return RunResult(state, traceback=trial.user_attrs.get("traceback", ""))
        return None

    def _ends_of(self, trial: FrozenTrial) -> dict[str, Literal["pruned", "failed"]]:
        """Of its runs that left nothing in the store, by key; what failed before this call is tried again."""
        ends = trial.user_attrs.get(ENDS, {})
        return {key: state for key, state in ends.items() if (trial.number, key) not in self._forgiven}

    def tags(self, run: PlannedRun) -> dict[str, str]:
        known = self._roles.get(run.keys.evaluation)
        return {"ear.trial": str(known[0]), "ear.role": known[1]} if known else {}

    def progress_note(self) -> str:
        words = f"{len(self._kept())} of {self._search.trials} proposed"
        best = self.best()
        if len(self.objectives) > 1:
            return f"{words}, {len(best)} on the Pareto front"
        return f"{words}, best {self.objectives[0]} {written(self.objectives[0], best[0].values[0])}" if best else words

    def require_sound(self) -> None:
        refuse_steered(self.study.noted(STEERED), self._sweep.name)

    def close(self) -> None:
        with self.study.locked():
            for number in self._open:
                self.study.lay_down(number)
            self._open.clear()

    # Trials

    def _kept(self) -> list[FrozenTrial]:
        """Proposals that are not to be made up for by others."""
        return [each for each in self.study.trials() if role(each) == "proposal" and each.state is not TrialState.FAIL]

    def _ask_proposal(self) -> FrozenTrial:
        asked = sum(role(trial) == "proposal" for trial in self.study.trials())
        if asked < len(self._search.start):
            point = starting_point(self._search, self._search.start[asked], self._configurations)
        else:
            point = self._suggestion()
        return self.study.ask("proposal", point, {})

    def _take_in(self) -> list[PlannedRun]:
        """The runs of trials that other drivers asked for: of those that go on, and of those that have ended, since
        one driver writes MLflow for all."""
        runs: list[PlannedRun] = []
        for trial in self.study.trials():
            if trial.number in self._seen:
                continue
            if trial.state in UNFINISHED:
                runs += self._begin(self.study.take_up(trial))
            else:
                runs += self._ended(trial)
        return runs + self._measured_again()

    def _measured_again(self) -> list[PlannedRun]:
        """Of what any driver chose for confirmation, ever, the runs that are done, or were, and not known here."""
        found: list[PlannedRun] = []
        for number in self.study.noted(CHOSEN) or () if self._search.confirmation else ():
            for run in self._confirmation_of(self.study.trial(number)):
                if run.keys.evaluation not in self._roles and self._was_done(run, {}):
                    self._roles[run.keys.evaluation] = (number, "confirmation")
                    found.append(run)
        return found

    def _confirmation_of(self, trial: FrozenTrial) -> list[PlannedRun]:
        assert self._search.confirmation is not None
        return confirmation_runs(self._search.confirmation, trial.params, self._sweep.seeds, self._configurations)

    def _ended(self, trial: FrozenTrial) -> list[PlannedRun]:
        """Of a trial that is over, the runs that were done for it: those whose results were removed are done again."""
        self._seen.add(trial.number)
        runs, ends, known = self._runs_of(trial), self._ends_of(trial), trial.user_attrs.get(ENDS, {})
        if rests_on_results(trial) and any(map(self._removed.concerns, runs)):
            self._measuring[trial.number] = OpenTrial(trial.number, runs, len(runs))
        return [run for run in runs if run.keys.evaluation in ends or self._was_done(run, known)]

    def _was_done(self, run: PlannedRun, ends: Mapping[str, str]) -> bool:
        """Whether its result is there, or was: a run with one of these ends left none."""
        removed = run.keys.evaluation not in ends and self._removed.concerns(run)
        return removed or is_done(run, self._store)

    def _compare(self, trial: OpenTrial) -> None:
        """Of an ended trial that is measured again, when all of it is there: whether it should have been told this."""
        results = trial.ordered()
        if len(results) < len(trial.runs) or any(result.state == "failed" for result in results):
            return  # the next call tries again what failed
        state, values, attributes = self._verdict(results)
        if not came_out_alike(self.study.trial(trial.number), state, values, attributes):
            self.study.note(STEERED, sorted({*(self.study.noted(STEERED) or ()), trial.number}))
        del self._measuring[trial.number]

    def _begin(self, trial: FrozenTrial) -> list[PlannedRun]:
        """Its runs, or those to begin with; none where its parameters, each in its range, do not fit one another."""
        self._seen.add(trial.number)
        if not (runs := self._runs_of(trial)):
            return []
        # Where trainings may be stopped early, the first seed shows whether the others are worth it.
        given = 1 if self._search.early_stopping and role(trial) == "proposal" else len(runs)
        self._open[trial.number] = OpenTrial(trial.number, runs, given)
        return runs[:given]

    def _runs_of(self, trial: FrozenTrial) -> list[PlannedRun]:
        """One for each seed; none where its parameters do not fit one another, which is told."""
        try:
            runs = [self._configurations.run(trial.params, seed) for seed in self._sweep.seeds]
        except UserError as error:
            self.study.tell(trial.number, TrialState.FAIL, None, {"error": [str(error)]}, {})
            return []
        for run in runs:
            self._roles.setdefault(run.keys.evaluation, (trial.number, role(trial)))
        return runs

    def _advance(self, trial: OpenTrial) -> list[PlannedRun]:
        """Tells a trial of which all has ended that was begun; returns the runs that follow."""
        results = trial.ordered()
        if len(results) < trial.given:
            return []
        ends = {key: result.state for key, result in trial.results.items() if result.state in ("pruned", "failed")}
        if trial.given < len(trial.runs) and not ends:
            rest, trial.given = trial.runs[trial.given :], len(trial.runs)
            return rest
        state, values, attributes = self._verdict(results)
        if ends or ENDS in self.study.trial(trial.number).user_attrs:  # of an earlier call
            attributes[ENDS] = ends
        told = self.study.tell(trial.number, state, values, attributes, self._violations(attributes))
        del self._open[trial.number]
        frozen = self.study.trial(trial.number)
        if state is TrialState.FAIL and role(frozen) == "proposal":
            self._faults += 1
        if told and state is TrialState.COMPLETE and role(frozen) == "proposal":
            return self._ask_extras(frozen)
        return []

    def _verdict(self, results: Sequence[RunResult]) -> tuple[TrialState, list[float] | None, dict[str, Any]]:
        """State, values and attributes of a trial whose runs ended like this.

        A divergence is PRUNED: a sampler forgets what FAILs, and would go there again.
        """
        for result in results:
            if result.state == "failed":
                said = {"error": result.traceback.strip().splitlines()[-1:], "traceback": result.traceback}
                return TrialState.FAIL, None, said
        if any(result.state == "pruned" for result in results):
            return TrialState.PRUNED, None, {}
        if diverged := [result.diverged_at for result in results if result.state == "diverged"]:
            return TrialState.PRUNED, None, {"diverged_at": diverged[0], "diverged": len(diverged)}
        metrics = {name: fmean(result.metrics[name] for result in results) for name in results[0].metrics}
        values = [metrics[name] for name in self.objectives]
        if not all(math.isfinite(value) for value in values):
            return TrialState.FAIL, None, {"error": ["a metric is not finite"], "not finite": str(metrics)}
        return TrialState.COMPLETE, values, {"metrics": metrics}

    def _violations(self, attributes: Mapping[str, Any]) -> dict[str, float]:
        """How far a trial with these attributes is from holding each constraint; one without metrics holds none."""
        metrics = attributes.get("metrics", {})
        return {
            f"{name} {side}": violation
            for name, bound in self._search.constraints.items()
            for side, violation in bound.violations(metrics.get(name, math.nan)).items()
        }

    def _ask_extras(self, proposal: FrozenTrial) -> list[PlannedRun]:
        """Further values of the evaluation-only parameters, as many as are not asked for yet."""
        asked = sum(trial.user_attrs.get("extra_of") == proposal.number for trial in self.study.trials())
        fixed = self._training_of(proposal.params)
        runs: list[PlannedRun] = []
        for _ in range(self._search.evaluations - asked):
            runs += self._begin(self.study.ask("extra", fixed, {"extra_of": proposal.number}))
        return runs

    def _suggestion(self) -> dict[str, Any]:
        """The parameters of the next proposal; none where the sampler needs the study itself, its memory."""
        history = self._history()
        if history is None:
            return {}
        point = self.study.suggest(history)
        # A Gaussian process takes its own noise into account and asks for a point again; here that is the same training
        # with the same seeds, of which nothing can be learnt.
        trained = (self._training_of(trial.params) for trial in history)
        if any(nearly_equal(self._training_of(point), other) for other in trained):
            return self.study.suggest(history, blindly=True)
        return point

    def _training_of(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that need training."""
        free = evaluation_only(self._search, self._configurations)
        return {name: value for name, value in point.items() if name not in free}

    def _history(self) -> list[FrozenTrial] | None:
        """Of each training the evaluations that none of its others dominates, or its proposal while there are none.

        All of them would mislead a sampler that models densities or a surface: five values of one training look like
        five good trainings, and it proposes the same again. The genetic algorithm keeps its generations in the study.
        """
        if self._search.sampler in ("random", "nsga2"):
            return None
        trainings: dict[int, list[FrozenTrial]] = {}
        for trial in self.study.trials():
            trainings.setdefault(int(trial.user_attrs.get("extra_of", trial.number)), []).append(trial)
        return [each for trials in trainings.values() for each in undominated(trials, self.objectives) or trials[:1]]

    # The end

    def best(self) -> list[FrozenTrial]:
        """The best configurations, by the first objective: the Pareto front where there are several objectives."""
        trials = self.study.trials()
        if len(self.objectives) > 1:
            return pareto_front(trials, self.objectives)
        return best_trainings(trials, self.objectives, self._training_of)

    def _confirm(self) -> Sequence[PlannedRun]:
        """The runs that measure the best again, once."""
        if self._search.confirmation is None:
            return ()
        candidates = [Candidate(each, self._confirmation_of(each)) for each in chosen(self.best(), self.objectives)]
        if [candidate.keys for candidate in candidates] == [each.keys for each in self._candidates or ()]:
            return ()
        self._candidates = candidates
        known = self.study.noted(CHOSEN) or []
        if new := [each.trial.number for each in candidates if each.trial.number not in known]:
            self.study.note(CHOSEN, known + new)
        for candidate in candidates:
            for key in candidate.keys:
                self._roles[key] = (candidate.trial.number, "confirmation")
        return [run for candidate in candidates for run in candidate.runs]

    def _conclude(self) -> None:
        """Keeps what the confirmation showed, when all of it is there."""
        candidates = self._candidates or []
        if not all(candidate.done for candidate in candidates):
            return
        found = [confirmed(candidate, self.objectives) for candidate in candidates]
        if found != self.study.noted(CONFIRMATION):  # which may be of fewer trials, or under other settings
            self.study.note(CONFIRMATION, found)


def search_identity(sweep: SweepConfig, configurations: Configurations) -> dict[str, Any]:
    """Searches that agree in it are the same one, whose trials are of use to one another."""
    assert sweep.search is not None
    decisive = {"objectives": sweep.objectives, "seeds": sweep.seeds, "base": configurations.digest}
    decisive["earlier_base"] = configurations.earlier_digest
    return {**sweep.search.identity(), **decisive}


def nearly_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two points agree up to rounding: a range's end can come out of a logarithm as 4.999999999999998."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-9) if isinstance(value, float) else value == other[name]
        for name, value in one.items()
    )


def role(trial: FrozenTrial) -> str:
    """proposal or extra; a driver that was killed while asking for a proposal did not come to say so."""
    return str(trial.user_attrs.get("role", "proposal"))
