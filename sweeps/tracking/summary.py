"""What a sweep's parent run says of its results: a description, a few metrics, and which child run is the best."""

from dataclasses import dataclass

from ear.store import Store
from sweeps.spec.confidence import half_width
from sweeps.spec.metric import written
from sweeps.spec.plan import Plan
from sweeps.spec.ranking import Ranked, best_lines, ranking
from sweeps.spec.runs import result_of
from sweeps.tracking.run_view import run_view

BEST_SHOWN = 5


@dataclass(frozen=True)
class SweepSummary:
    """The summary of a sweep."""

    description: str  # Markdown
    metrics: dict[str, float]
    best: str | None  # evaluation key of the best configuration's first run
    view: str  # of the runs, see `run_view`


def summarise(plan: Plan, store: Store) -> SweepSummary:
    """Summarises a sweep's results in the store; of a search, only what it searches."""
    objective = plan.sweep.objective
    view = run_view(plan.identity.axes, plan.configurations.base.model_dump(mode="json"), plan.sweep.objectives)
    lines = [plan.sweep.description] if plan.sweep.description else []
    if plan.sweep.search is not None:
        space = ", ".join(f"`{axis}`" for axis in plan.sweep.search.space)
        return SweepSummary(
            "\n\n".join([*lines, f"A search over {space} for `{objective}`.", report(plan)]), {}, None, view
        )
    axes = ", ".join(f"`{axis}`" for axis in plan.sweep.space)
    lines.append(f"A sweep over {axes} on `{plan.sweep.base}`, {len(plan.sweep.seeds)} seeds.")
    ranked, unranked = ranking(plan, store)
    lines += best_lines(ranked, unranked, objective)
    if ranked:
        lines.append(table(ranked[:BEST_SHOWN], objective))
    results = [result_of(run, store) for run in plan.runs]
    states = [result.state for result in results if result is not None]
    metrics = {"runs_done": float(len(states)), "runs_diverged": float(states.count("diverged"))}
    metrics["training_seconds"] = training_seconds(plan, store)
    if ranked:
        metrics[f"best_{objective}"] = ranked[0].mean
        if (interval := half_width(ranked[0].values)) is not None:
            metrics[f"best_{objective}_interval"] = interval
    best = ranked[0].runs[0].keys.evaluation if ranked else None
    return SweepSummary("\n\n".join([*lines, report(plan)]), metrics, best, view)


def training_seconds(plan: Plan, store: Store) -> float:
    """Returns how long a grid's stages in the store were trained, those that runs share counted once."""
    seconds = 0.0
    for node in plan.tree.nodes.values():
        if node.key in store:
            seconds += store.entry(node.key).details["seconds"]  # includes the parent stages
            seconds -= store.entry(node.parent).details["seconds"] if node.parent is not None else 0.0
    return seconds


def table(ranked: list[Ranked], objective: str) -> str:
    """Returns the best configurations as a Markdown table."""
    rows = [f"| configuration | {objective}, mean ± 95% |", "|---|---|"]
    for each in ranked:
        interval = half_width(each.values)
        spread = "" if interval is None else f" ± {written(objective, interval)}"
        rows.append(f"| {each.parameters.replace('|', '&#124;')} | {written(objective, each.mean)}{spread} |")
    return "\n".join(rows)


def report(plan: Plan) -> str:
    """Says how to get more."""
    return f"Tables, tests and figures: `ear report {plan.sweep.name}`."
