"""Searches with the real Optuna and a simulated training, for the tests of what they propose, tell and refuse."""

from pathlib import Path
from typing import Any

from simulated import Hands, plan_of

from ear.store import Store
from sweeps.driver.scheduler import Scheduler
from sweeps.search.search import Search
from sweeps.spec.runs import PlannedRun

SPACE = """
  space:
    scoring.alpha: {uniform: [1.0, 1.9]}
    optimizer.generator_lr_scale: {log_uniform: [0.05, 1.0]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""
WIDTHS = """
  space:
    scoring.alpha: {uniform: [1.0, 1.9]}
    model.width: {int: [32, 64]}
    sampling.infer_temperature: {uniform: [0.5, 1.0]}
"""
PROPOSALS, EXTRAS = 12, 2
SAMPLERS = ("random", "tpe", "gp", "nsga2")


def text(sampler: str = "tpe", more: str = "", space: str = SPACE, trials: int = PROPOSALS, top: str = "") -> str:
    head = f"name: s\n{top}\nsearch:\n  sampler: {sampler}\n  trials: {trials}\n  evaluations: {EXTRAS}\n"
    return f"{head}{more}{space}"


def searching(folder: Path, yaml: str, **hands: Any) -> tuple[Search, Scheduler, Hands]:
    plan, store = plan_of(folder, yaml), Store(folder)
    search = Search(plan.sweep, plan.configurations, folder, store)
    work = Scheduler(search, store, retries=0)
    work.start()
    return search, work, Hands(store, **{"fid": bowl, **hands})


def bowl(run: PlannedRun) -> float:
    """Best at alpha 1.3, generator 0.3, infer temperature 0.8."""
    scoring: Any = run.config.scoring
    scale, temperature = run.config.optimizer.generator_lr_scale, run.config.sampling.infer_temperature
    return 10 + 40 * (scoring.alpha - 1.3) ** 2 + 10 * (scale - 0.3) ** 2 + 20 * (temperature - 0.8) ** 2


def states(search: Search) -> list[str]:
    return [trial.state.name for trial in search.study.trials()]


def one_after_another(work: Scheduler, hands: Hands, most: int | None = None) -> int:
    """Tasks done."""
    done = 0
    while done != most and (task := work.next()) is not None:
        hands.do(work, task)
        done += 1
    return done


STOPPING = "  early_stopping: {name: median, every: 300, startup_trials: 2}\n  confirmation: null\n"
