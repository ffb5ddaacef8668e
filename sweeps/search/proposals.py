"""Chooses the points of a search's proposals: the given starting points first, then those of Optuna's sampler."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from sweeps.search.best import undominated
from sweeps.search.study import Study
from sweeps.spec.configurations import Configurations
from sweeps.spec.search_schema import SearchConfig
from sweeps.spec.search_space import evaluation_only, starting_point


class Proposer:
    """Chooses the next points of a search. Call it with the study locked."""

    def __init__(
        self, search: SearchConfig, objectives: Sequence[str], configurations: Configurations, study: Study
    ) -> None:
        self._search = search
        self._objectives = objectives
        self._configurations = configurations
        self._study = study

    def next_point(self) -> dict[str, Any]:
        """Returns the parameters of the next proposal; empty if the sampler must draw from the study itself."""
        asked = sum(role(trial) == "proposal" for trial in self._study.trials())
        if asked < len(self._search.start):
            return starting_point(self._search, self._search.start[asked], self._configurations)
        return self._suggestion()

    def training_of(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns those of a point's parameters that need training."""
        free = evaluation_only(self._search, self._configurations)
        return {name: value for name, value in point.items() if name not in free}

    def history(self) -> list[FrozenTrial] | None:
        """Returns what the sampler sees: of each training its undominated evaluations, or its proposal if none yet.

        All evaluations would mislead a sampler that models densities or a surface: five evaluations of one training
        look like five good trainings, and it proposes the same again. None for the samplers that need the study
        itself: the genetic algorithm keeps its generations there, and random sampling needs no history.
        """
        if self._search.sampler in ("random", "nsga2"):
            return None
        trainings: dict[int, list[FrozenTrial]] = {}
        for trial in self._study.trials():
            trainings.setdefault(int(trial.user_attrs.get("extra_of", trial.number)), []).append(trial)
        return [each for trials in trainings.values() for each in undominated(trials, self._objectives) or trials[:1]]

    def _suggestion(self) -> dict[str, Any]:
        history = self.history()
        if history is None:
            return {}
        point = self._study.suggest(history)
        # A Gaussian process models noise and may propose a point again. Here that would repeat the same training with
        # the same seeds, which gives no new information.
        trained = (self.training_of(trial.params) for trial in history)
        if any(nearly_equal(self.training_of(point), other) for other in trained):
            return self._study.suggest(history, blindly=True)
        return point


def nearly_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two points are equal up to rounding; a logarithmic range may yield 4.999999999999998 for its end 5."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-9) if isinstance(value, float) else value == other[name]
        for name, value in one.items()
    )


def role(trial: FrozenTrial) -> str:
    """Returns "proposal" or "extra"; a trial without the attribute is a proposal of a driver killed while asking."""
    return str(trial.user_attrs.get("role", "proposal"))
