"""The table and the findings of a search's report: its best configurations and their confirmation."""

from collections.abc import Mapping

import pandas as pd

from analysis.results import SweepResults
from analysis.statistics import p_value
from analysis.tables import COLUMNS, Table, cell, display_table
from sweeps.search.domination import front, outcome
from sweeps.spec.confidence import CONFIDENCE, half_width
from sweeps.spec.metric import better, written
from sweeps.spec.search_schema import BoundConfig

BEST_SHOWN = 10
BEYOND = {"at_least": "below", "at_most": "above"}  # side of a bound -> where violating values lie


def ranked(summary: pd.DataFrame, results: SweepResults) -> pd.DataFrame:
    """Returns a search's configurations, best first, with their `trial` and a description of the `broken` bounds.

    With several objectives, `pareto_front` tells which are on the front; these come first. Then follow the other
    feasible ones, those that violate a bound, and those without a value; each group by the first objective.
    """
    found = summary.copy()
    found["trial"] = results.frame.groupby(results.axes, sort=True, dropna=False)["trial"].min().tolist()  # as summary
    missing = found[results.objective].isna()
    found["broken"] = [broken(row, results.constraints) for _, row in found.iterrows()]
    found.loc[missing, "broken"] = ""
    found["behind"] = missing * 2 + (found["broken"] != "")
    if len(results.objectives) > 1:
        found["pareto_front"] = on_front(found, results.objectives)
        found["behind"] -= found["pareto_front"]
    found["loss"] = found[results.objective] * (1 if better(results.objective) == "min" else -1)
    return found.sort_values(["behind", "loss"]).drop(columns=["behind", "loss"])


def broken(configuration: Mapping[str, float], constraints: Mapping[str, BoundConfig]) -> str:
    """Describes the bounds that a configuration violates: `recall below 0.5`."""
    return ", ".join(
        f"{metric} {BEYOND[side]} {getattr(bound, side):g}"
        for metric, bound in constraints.items()
        for side, violation in bound.violations(configuration[metric]).items()
        if violation > 0
    )


def on_front(found: pd.DataFrame, objectives: list[str]) -> pd.Series:
    """Returns which configurations are on the Pareto front: feasible, finished with all seeds, and not dominated."""
    whole = (found["broken"] == "") & (found["finished"] == found["runs"]) & (found["runs"] == found["runs"].max())
    able = found[whole].dropna(subset=objectives).sort_values("trial")
    outcomes = [outcome(values, objectives) for values in able[objectives].itertuples(index=False)]
    return pd.Series(found.index.isin(able.index[front(outcomes)]), found.index)


def search_table(found: pd.DataFrame, results: SweepResults) -> Table:
    """Returns the best of the `ranked` configurations, at least the whole Pareto front.

    Nothing is marked as best: the same runs selected the configurations, and the confirmation judges them.
    """
    several = len(results.objectives) > 1
    rows = found.head(max(BEST_SHOWN, found["pareto_front"].sum() if several else 0))
    table = display_table(rows, results.axes, None)
    for metric in (*results.objectives, *results.constraints):
        if metric not in COLUMNS:
            table[metric] = [cell(row, metric, 3) for _, row in rows.iterrows()]
    if several:
        table["Pareto front"] = [
            f"trial {trial}" if member else ""
            for trial, member in zip(rows["trial"], rows["pareto_front"], strict=True)
        ]
    if results.constraints:
        unknown = rows[results.objective].isna()
        table["constraints"] = [
            "" if nothing else words or "held" for words, nothing in zip(rows["broken"], unknown, strict=True)
        ]
    return Table(table, results.axes, {heading: metric for metric, (heading, _) in COLUMNS.items()})


def search_findings(found: pd.DataFrame, results: SweepResults) -> str:
    """States how many configurations there are, and the confirmed results of the best ones."""
    valued = found[results.objective].notna().sum()
    if not valued:
        return f"{len(found)} configurations, none with a value."
    line = f"{len(found)} configurations, {valued} with a value"
    if results.constraints:
        line += f", {(found['broken'] != '').sum()} outside the constraints"
    if len(results.objectives) > 1:
        best = found[found["pareto_front"]]
        sentences = [f"{line}; {len(best)} on the Pareto front of {listed(results.objectives)}, above."]
    else:
        best = found
        sentences = [f"{line}; the {min(BEST_SHOWN, len(found))} best above."]
    if results.confirmations.empty:
        return sentences[0]
    groups = dict(iter(results.confirmations.groupby("trial")))
    confirmed = [row for _, row in best.iterrows() if row["trial"] in groups]
    titles = [f"Trial {row['trial']}" for row in confirmed]
    if len(results.objectives) == 1:
        titles = [
            f"The {place}, {title.lower()}," for place, title in zip(("winner", "runner-up"), titles, strict=False)
        ]
    for title, row in zip(titles, confirmed, strict=False):
        searched = listed([f"{metric} {written(metric, row[metric])}" for metric in results.objectives])
        sentences.append(f"{title} had {searched} in the search; {again(groups[row['trial']], results.objectives)}.")
    if len(results.objectives) == 1 and len(confirmed) > 1:
        winner, runner_up = (groups[row["trial"]] for row in confirmed[:2])
        sentences.append(duel(winner, runner_up, results.objective))
    sentences.append("The best value in a search is partly luck and thus too good: report the values with fresh seeds.")
    return " ".join(sentences)


def duel(winner: pd.DataFrame, runner_up: pd.DataFrame, metric: str) -> str:
    """States whether fresh seeds tell winner and runner-up apart, paired by seed."""
    one, other = (runs[runs["outcome"] == "finished"].set_index("seed")[metric] for runs in (winner, runner_up))
    differences = (other - one).dropna()
    if (p := p_value(list(differences))) is None:
        return "No two fresh seeds finished with both, so they can't be compared."
    ahead = differences.mean() * (1 if better(metric) == "min" else -1)
    lead = f"The {'winner' if ahead > 0 else 'runner-up'} is the better one there" if ahead else "Both are equal there"
    apart = "and they are told apart" if p < 1 - CONFIDENCE else "but they can't be told apart"
    return f"{lead}, {apart} (paired over {len(differences)} seeds, p = {p:.2g})."


def again(runs: pd.DataFrame, metrics: list[str]) -> str:
    """Describes a configuration's results with fresh seeds."""
    values = []
    finished = runs[runs["outcome"] == "finished"]
    if finished.empty:
        return f"none of its {len(runs)} fresh seeds finished"
    for metric in metrics:
        numbers = finished[metric].dropna().tolist()
        width = half_width(numbers)
        interval = f" ± {written(metric, width)}" if width is not None else ""
        values.append(f"{metric} {written(metric, float(pd.Series(numbers).mean()))}{interval}")
    seeds = f"{len(finished)}" if len(finished) == len(runs) else f"{len(finished)} of {len(runs)}"
    return f"over {seeds} fresh seeds and {runs['images'].max():.0f} images each it has {listed(values)}"


def listed(words: list[str]) -> str:
    """Joins words: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
