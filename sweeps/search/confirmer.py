"""Carries out the confirmation of a search: chooses its candidates, collects their results, and stores them."""

from collections.abc import Iterator, Sequence

from optuna.trial import FrozenTrial

from sweeps.search.confirmation import CONFIRMATION, Candidate, chosen, confirmation_runs, confirmed
from sweeps.search.study import CHOSEN, Study
from sweeps.spec.configurations import Configurations
from sweeps.spec.runs import PlannedRun, RunResult
from sweeps.spec.schema import SweepConfig


class Confirmer:
    """The confirmation of one search; without the setting `confirmation` it does nothing.

    Call it with the study locked.
    """

    def __init__(self, sweep: SweepConfig, configurations: Configurations, study: Study) -> None:
        assert sweep.search is not None
        self._settings = sweep.search.confirmation
        self._seeds = sweep.seeds
        self._objectives = sweep.objectives
        self._configurations = configurations
        self._study = study
        self._candidates: list[Candidate] = []

    def choose(self, best: Sequence[FrozenTrial]) -> list[Candidate]:
        """Returns the candidates among a search's best trials; none if they are already being confirmed."""
        if self._settings is None:
            return []
        candidates = [Candidate(trial, self._runs_of(trial)) for trial in chosen(best, self._objectives)]
        if [candidate.keys for candidate in candidates] == [each.keys for each in self._candidates]:
            return []
        self._candidates = candidates
        known = self._study.noted(CHOSEN) or []
        if new := [each.trial.number for each in candidates if each.trial.number not in known]:
            self._study.note(CHOSEN, known + new)
        return candidates

    def chosen_before(self) -> Iterator[tuple[int, PlannedRun]]:
        """Yields the trial and the run of everything that any driver ever chose for confirmation."""
        for number in self._study.noted(CHOSEN) or () if self._settings else ():
            for run in self._runs_of(self._study.trial(number)):
                yield number, run

    def settle(self, key: str, result: RunResult) -> None:
        """Records a run's result, by its evaluation key; stores the confirmation once all results are there."""
        for candidate in self._candidates:
            if key in candidate.keys:
                candidate.results[key] = result
                self._conclude()

    def _conclude(self) -> None:
        if not all(candidate.done for candidate in self._candidates):
            return
        found = [confirmed(candidate, self._objectives) for candidate in self._candidates]
        if found != self._study.noted(CONFIRMATION):  # the stored one may cover fewer trials or other settings
            self._study.note(CONFIRMATION, found)

    def _runs_of(self, trial: FrozenTrial) -> list[PlannedRun]:
        assert self._settings is not None
        return confirmation_runs(self._settings, trial.params, self._seeds, self._configurations)
