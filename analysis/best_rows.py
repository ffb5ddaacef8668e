"""Which configurations of a grid are best in each metric, or can't be told from the best."""

from collections.abc import Sequence

import pandas as pd

from analysis.comparison import by_seed, not_worse
from sweeps.spec.metric import better


def best_rows(
    frame: pd.DataFrame, summary: pd.DataFrame, axes: list[str], metrics: Sequence[str]
) -> dict[str, set[int]]:
    """Returns for each metric the numbers of the rows of `summary` that are best or can't be told from the best.

    With at least 95% confidence for a metric, its truly best configuration is among them (`comparison.not_worse`). A
    metric is left out if nothing can be told: its best row finished with a single seed, or no row is worse for sure.
    """
    found = {}
    for metric in metrics:
        sign = 1 if better(metric) == "min" else -1
        values = sign * by_seed(frame, axes, metric)
        rows = [row for _, row in summary.dropna(subset=[metric]).iterrows()]
        if len(rows) < 2:
            continue
        winner = min(rows, key=lambda row: sign * float(row[metric]))
        if values[winner.name].count() < 2:
            continue
        others = [row for row in rows if row is not winner]
        kept = not_worse(winner, others, values)
        if len(kept) < len(others):
            found[metric] = {int(row.name) for row in (winner, *kept)}
    return found


def bold_note(summary: pd.DataFrame, best: dict[str, set[int]]) -> str:
    """Returns what bold means in a table, or why nothing is bold; empty for fewer than two rows with numbers."""
    finished = summary["finished"][summary["finished"] > 0]
    if len(finished) < 2:
        return ""
    if best:
        return (
            "Bold: the best of a column and all that can't be told from it (paired by seed, 95% confidence); in a "
            "column without bold, no row can be told from the best."
        )
    why = "one seed tells no rows apart" if finished.max() == 1 else "no row can be told from the best of its column"
    return f"Nothing is bold: {why}."
