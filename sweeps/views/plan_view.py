"""Prints a plan, for people or as JSON."""

import json
from typing import Any

from rich.text import Text
from rich.tree import Tree

from ear.config.reach import parameter_reach
from ear.data.content import dataset_content
from ear.errors import UserError
from ear.store import Store
from ear.store.keys import require_known_reference
from ear.terminal.console import terminal
from ear.terminal.units import duration, size
from sweeps.driver.resources import trials_at_a_time
from sweeps.spec.namesakes import warn_of_namesakes
from sweeps.spec.naming import shown
from sweeps.spec.plan import Plan
from sweeps.spec.runs import PlannedRun, keys_without_data, result_of
from sweeps.spec.stage_tree import StageTree, Steps, TrainingNode
from sweeps.views.forecast import Forecast, Pace
from sweeps.views.seed_power import power_line

NODES_SHOWN = 40
VALUES_SHOWN = 8


def state(run: PlannedRun, store: Store) -> str:
    """Returns a run's state: evaluated, diverged, trained (but not evaluated), or to do."""
    result = result_of(run, store)
    if result is not None:
        return result.state
    return "trained" if run.keys.training in store else "to do"


def show_plan(plan: Plan, store: Store, as_json: bool) -> None:
    """Prints the plan. If the dataset is missing, prints the cost but not what is done already."""
    missing: UserError | None = None
    try:
        base = plan.configurations.base
        require_known_reference(base, dataset_content(base.data))
        tree, done = stage_tree(plan), store.published()
        warn_of_namesakes(plan.identity, store)
    except UserError as error:
        tree, done, missing = StageTree(plan.asked, keys_without_data), set(), error
    nodes = [node for node in tree.nodes.values() if node.key not in done]
    evaluations = [run.config for key, run in tree.runs.items() if key not in done]
    gpus = plan.sweep.resources.gpus
    pace = Pace.of(plan.configurations.base, gpus, store)
    forecast = Forecast.of(nodes, evaluations, slots(plan), pace)
    if as_json:
        runs = [] if missing else run_list(plan, store)  # empty for a search, whose runs are not known yet
        print(json.dumps({**plan_json(plan, tree, forecast), "run_list": runs}, indent=2))
        return
    print_plan(plan, tree, done, forecast, gpus > 0)
    if missing is None and (line := power_line(plan, store)):
        terminal().print(line, soft_wrap=True)
    if missing:
        terminal().print(f"Finished work can't be determined: {missing}", soft_wrap=True)


def stage_tree(plan: Plan) -> StageTree:
    """Returns a grid's stage tree; for a search, that of a hypothetical one."""
    if plan.sweep.search is None:
        return plan.asked_tree
    from sweeps.search.study_summary import drawn_runs  # imports Optuna

    return StageTree(drawn_runs(plan.sweep, plan.configurations))


def slots(plan: Plan) -> int:
    """Returns the trials at a time; `concurrency`, or 1, on a machine where the sweep can't run."""
    try:
        return trials_at_a_time(plan.sweep)
    except UserError:
        return plan.sweep.concurrency or 1


def plan_json(plan: Plan, tree: StageTree, forecast: Forecast) -> dict[str, Any]:
    """Returns the plan's counts and forecast as JSON values. Steps are training steps."""
    steps = Steps.of(tree)
    return {
        "name": plan.sweep.name,
        "description": plan.sweep.description,
        "tags": plan.sweep.tags,
        "configurations": len({repr(run.parameters) for run in tree.runs.values()}),
        "runs": len(tree.runs),
        "training_nodes": len(tree.nodes),
        "confirmation_runs": confirmations(plan, tree),
        "evaluations": len(tree.runs),
        "training_steps": steps.full_sharing,
        "training_steps_evaluation_sharing_only": steps.evaluation_sharing_only,
        "training_steps_without_sharing": steps.without_sharing,
        "training_hours": forecast.training_hours,
        "evaluation_hours": forecast.evaluation_hours,
        "wall_hours": forecast.wall_hours,
        "disk_bytes": forecast.disk_bytes,
        "basis": forecast.basis,
    }


def run_list(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Returns every run of a grid with its keys and state, as JSON values."""
    return [
        {
            "parameters": run.parameters,
            "seed": run.seed,
            "state": state(run, store),
            "training_key": run.keys.training,
            "evaluation_key": run.keys.evaluation,
        }
        for run in plan.asked
    ]


def print_plan(plan: Plan, tree: StageTree, done: set[str], forecast: Forecast, gpus: bool) -> None:
    """Prints the stage tree and the totals; `done` are the keys of results in the store."""
    console = terminal()
    if plan.sweep.description:
        console.print(plan.sweep.description.strip(), soft_wrap=True)
    if plan.sweep.tags:
        console.print("tags: " + ", ".join(f"{name}={value}" for name, value in plan.sweep.tags.items()))
    console.print(render_space(plan) if plan.sweep.search else render_tree(plan, tree, done))
    steps = Steps.of(tree)
    configurations = len({repr(run.parameters) for run in tree.runs.values()})
    to_train = [node for node in tree.nodes.values() if node.key not in done]
    to_evaluate = sum(key not in done for key in tree.runs)
    confirming = confirmations(plan, tree)
    fresh = f"{confirming} of the runs confirm the best with fresh seeds; " if confirming else ""
    lines = [
        "",
        f"{plan.sweep.name}: {configurations} configurations, {len(tree.runs)} runs; "
        f"{len(tree.nodes)} training stages, {len(tree.runs)} evaluations"
        + (f"; {fresh}without early stopping." if plan.sweep.search else ".")
        + (f" --only asks for this part of the grid's {len(plan.runs)} runs." if plan.is_partial else ""),
        f"Training steps: {steps.full_sharing:,}; {steps.evaluation_sharing_only:,} if only runs that differ in "
        f"evaluation shared a training ({ratio(steps.evaluation_sharing_only, steps.full_sharing)}); "
        f"{steps.without_sharing:,} without sharing ({ratio(steps.without_sharing, steps.full_sharing)}).",
        f"To do: {len(to_train)} stages ({sum(node.steps for node in to_train):,} steps), {to_evaluate} evaluations: "
        f"{duration(forecast.training_hours)} of training and {duration(forecast.evaluation_hours)} of sampling "
        f"on {'GPUs' if gpus else 'CPUs'}, {duration(forecast.wall_hours)} of wall time, {size(forecast.disk_bytes)}, "
        f"{forecast.basis}.",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


def confirmations(plan: Plan, tree: StageTree) -> int:
    """Returns how many of a search's runs confirm its best: those with fresh seeds."""
    return sum(run.seed not in plan.sweep.seeds for run in tree.runs.values()) if plan.sweep.search else 0


def render_space(plan: Plan) -> Tree:
    """Returns a search's settings and its space as a tree."""
    search = plan.sweep.search
    assert search is not None
    extras = f", {search.evaluations} more evaluations of each model" if search.evaluations else ""
    root = Tree(f"{plan.sweep.name}: {search.sampler}, {search.trials} proposals{extras}")
    for name, dimension in search.space.items():
        values = dimension.model_dump(exclude_none=True, exclude_defaults=True)
        condition = values.pop("when", None)
        (kind, given), *_ = values.items()
        alone = "" if parameter_reach(name, plan.configurations.base).needs_training else " (evaluation only)"
        only = f", when {condition}" if condition else ""
        root.add(f"{name}: {kind} {list(given)}{alone}{only}")
    if search.early_stopping is not None:
        stopping = search.early_stopping
        root.add(f"early stopping: {stopping.name} on {stopping.metric}, every {stopping.every} steps")
    return root


def render_tree(plan: Plan, tree: StageTree, done: set[str]) -> Tree:
    """Returns the stage tree with what distinguishes each stage from its siblings, at most `NODES_SHOWN` nodes."""
    reaches = {parameter: parameter_reach(parameter, plan.configurations.base) for parameter in plan.sweep.space}
    root = Tree(plan.sweep.name)
    left = NODES_SHOWN

    def add(branch: Tree, node: TrainingNode) -> None:
        nonlocal left
        left -= 1
        apart = [p for p, r in reaches.items() if r.needs_training and r.stage == node.stage]
        run = next(iter(node.evaluations.values()), None) or tree.runs_below(node.key)[0]
        words = [format_parameter(run, parameter) for parameter in apart]
        if node.stage == 0 and len(plan.sweep.seeds) > 1:
            words.append(f"seed {run.seed}")
        stages = len(node.config.training.stages)
        which = f"stage {node.stage + 1} of {stages}: " if stages > 1 else ""
        mark = " done" if node.key in done else ""
        here = branch.add(
            Text(f"{which}{', '.join(words) or 'as the base'}, {node.steps:,} steps").append(mark, "green")
        )
        if node.evaluations:
            here.add(evaluations_line(node, [p for p, r in reaches.items() if not r.needs_training], done))
        for child in node.children:
            if left > 0:
                add(here, tree.nodes[child])

    for node in tree.roots():
        if left > 0:
            add(root, node)
    if len(tree.nodes) > NODES_SHOWN:
        root.add(f"and {len(tree.nodes) - (NODES_SHOWN - left):,} more stages")
    return root


def evaluations_line(node: TrainingNode, parameters: list[str], done: set[str]) -> Text:
    """Returns a line on a node's evaluations: how many, with which values, and how many are done."""
    count = len(node.evaluations)
    finished = sum(key in done for key in node.evaluations)
    if not parameters:
        return Text("evaluated", "green") if finished else Text("1 evaluation")
    values = [
        ", ".join(format_parameter(run, parameter) for parameter in parameters)
        for run in list(node.evaluations.values())[:VALUES_SHOWN]
    ]
    more = f"; and {count - VALUES_SHOWN} more" if count > VALUES_SHOWN else ""
    there = f" {finished} done" if finished else ""
    return Text(f"{count} evaluation{'s' if count > 1 else ''}: {'; '.join(values)}{more}").append(there, "green")


def format_parameter(run: PlannedRun, parameter: str) -> str:
    """Formats a parameter of a run: `train_temperature 0.99`."""
    return f"{run.names[parameter]} {shown(run.parameters[parameter])}"


def ratio(more: float, less: float) -> str:
    """Formats a ratio: `2.5 times as many`."""
    return "as many" if more == less else f"{more / less:.2g} times as many"
