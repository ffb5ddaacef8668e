"""A plan, for people and for programs."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ear.config import Reach
from ear.config.hashing import digest
from ear.cost import SUSTAINED_FLOPS, cost
from ear.run import Run
from ear.store import Store
from sweeps.plan import Plan
from sweeps.runs import PlannedRun, short_name


def state(run: PlannedRun, store: Store) -> str:
    """evaluated, diverged, trained (but not evaluated), or to do."""
    if run.keys.evaluation in store:
        return "evaluated"
    outcome = Run(run.config, store).training_outcome()
    if outcome is None:
        return "to do"
    return "trained" if outcome.diverged_at is None else "diverged"


def plan_json(plan: Plan, store: Store) -> dict[str, Any]:
    """Counts and runs, as JSON values. Steps are of training, those shared by runs counted once."""
    return {
        "name": plan.sweep.name,
        "configurations": len(plan.runs) // len(plan.sweep.seeds),
        "runs": len(plan.runs),
        "training_nodes": len(plan.trials()),
        "evaluations": len({run.keys.evaluation for run in plan.runs}),
        "training_steps": sum(trial.config.total_steps for trial in plan.trials()),
        "training_steps_without_sharing": sum(run.config.total_steps for run in plan.runs),
        "run_list": [
            {
                "parameters": run.parameters,
                "seed": run.seed,
                "state": state(run, store),
                "training_key": run.keys.training,
                "evaluation_key": run.keys.evaluation,
            }
            for run in plan.runs
        ],
    }


WORTH_SAYING = 0.1  # GPU-hours


def plan_cost(plan: Plan) -> str | None:
    """What all of the sweep costs, as far as FLOPs tell; None where that is next to nothing."""
    trainings = {digest(run.config.part(Reach.TRAINING)): run.config for run in plan.runs}
    training = sum(cost(config).training_hours() for config in trainings.values())
    sampling = sum(
        cost(run.config).sampling_hours(run.config.evaluation.images + run.config.evaluation.null_images)
        for run in plan.runs
    )
    if training + sampling < WORTH_SAYING:
        return None
    return (
        f"All of it: about {quantity(training)} GPU-hours for {len(trainings)} trainings and {quantity(sampling)} for "
        f"{len(plan.runs)} evaluations' samples, at {SUSTAINED_FLOPS / 1e12:g} TFLOP/s (an H100 in bfloat16)."
    )


def quantity(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def plan_table(plan: Plan, store: Store) -> None:
    """Prints a row a run and what is left to do."""
    table = Table(box=None, pad_edge=False)
    for name in [*map(short_name, plan.sweep.space), "seed", "state"]:
        table.add_column(name)
    for run in plan.runs:
        table.add_row(*map(str, run.parameters.values()), str(run.seed), state(run, store))
    console = Console()
    console.print(table)
    pending = plan.pending(store)
    to_train = [trial for trial in pending if Run(trial.config, store).training_outcome() is None]
    steps = sum(trial.config.total_steps for trial in to_train)
    console.print(
        f"\n{plan.sweep.name}: {len(plan.runs)} runs, {len(plan.trials())} trainings. To do: {len(to_train)} trainings "
        f"({steps} steps) and {sum(len(trial.runs) for trial in pending)} evaluations.",
        highlight=False,
        soft_wrap=True,
    )
