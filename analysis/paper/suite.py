"""The sweeps of sweeps/paper/, which test the paper's claims: their plans and their cost."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ear.config import RunConfig
from ear.config.schema import EnergyConfig
from ear.errors import UserError
from ear.store import Store
from ear.terminal.units import duration
from sweeps.spec.plan import Plan, compile_plan
from sweeps.spec.runs import is_done, keys_without_data
from sweeps.spec.stage_tree import StageTree
from sweeps.views.forecast import Forecast, Pace
from sweeps.views.plan_view import slots

FOLDER = Path(str(resources.files("sweeps") / "paper"))
OWN_BASE = "digits"  # of the YAML files themselves


def suite_files() -> dict[str, Path]:
    """Returns the suite's YAML files by the name of their sweep, in the order in which they run."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def name_on(sweep: str, base: str) -> str:
    """Returns a sweep's name on a base, as `ear sweep run --base` gives it."""
    return sweep if base == OWN_BASE else f"{sweep}-{Path(base).stem}"


def command(sweep: str, base: str) -> str:
    """Returns the command that runs one sweep of the suite."""
    return f"ear paper run --only {sweep}{on(base)}"


def on(base: str) -> str:
    """Returns the option for a base other than the sweeps' own."""
    return "" if base == OWN_BASE else f" --base {base}"


def plan_on(sweep: str, base: str, seeds: Sequence[int] = ()) -> Plan:
    """Returns a sweep's plan on a base, with these seeds if any are given.

    The configurations that warn (of alpha = 2, and of alpha < 1) are what the suite is about.

    Raises:
        UserError: there is no such base, or the sweep is not valid on it.
    """
    with warnings.catch_warnings(action="ignore"):
        return compile_plan(suite_files()[sweep], None if base == OWN_BASE else base, seeds=seeds)


@dataclass(frozen=True)
class Cost:
    """What the suite still has to compute, with everything counted once that sweeps share."""

    sweeps: int
    runs: int
    trainings: int  # distinct models
    trainings_to_do: int
    evaluations_to_do: int
    forecast: Forecast
    gpus: bool

    @classmethod
    def of(cls, plans: Sequence[Plan], store: Store) -> "Cost":
        """Returns the cost of these plans. Without the dataset, finished work counts as not done."""
        runs = [run for plan in plans for run in plan.runs]
        try:
            tree, left = StageTree(runs), StageTree(run for run in runs if not is_done(run, store))
            done = store.published()
        except UserError:
            tree = left = StageTree(runs, keys_without_data)
            done = set()
        nodes = [node for node in left.nodes.values() if node.key not in done]
        first = plans[0]
        gpus = first.sweep.resources.gpus
        pace = Pace.of(first.configurations.base, gpus, store)
        lasting = [node for node in nodes if not diverges_at_once(node.config)]
        evaluations = [run.config for run in left.runs.values() if not diverges_at_once(run.config)]
        return cls(
            sweeps=len(plans),
            runs=len(runs),
            trainings=len(tree.trainings),
            trainings_to_do=sum(bool(node.evaluations) for node in nodes),
            evaluations_to_do=len(evaluations),
            forecast=Forecast.of(lasting, evaluations, slots(first), pace),
            gpus=gpus > 0,
        )

    def told(self) -> str:
        """States the cost."""
        forecast, device = self.forecast, "GPUs" if self.gpus else "CPUs"
        whole = (
            f"{self.sweeps} sweep{'s' if self.sweeps != 1 else ''}, {self.runs} runs, {self.trainings} trained models."
        )
        if not self.trainings_to_do and not self.evaluations_to_do:
            return f"{whole} All are in the store."
        return (
            f"{whole} To do: {self.trainings_to_do} trainings and {self.evaluations_to_do} evaluations, "
            f"{duration(forecast.training_hours)} of training and {duration(forecast.evaluation_hours)} of sampling on "
            f"{device}, {duration(forecast.wall_hours)} of wall time, {forecast.basis}."
        )


def diverges_at_once(config: RunConfig) -> bool:
    """Whether the first step's gradient is not finite: at alpha < 1, all samples coincide at the first step."""
    scoring = config.scoring
    return isinstance(scoring, EnergyConfig) and scoring.alpha < 1 and scoring.epsilon == 0
