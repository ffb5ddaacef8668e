"""What a search's report says instead of an ablation's: its best configurations, and how they did once more."""

import pandas as pd

from analysis.results import SweepResults
from analysis.statistics import half_width
from sweeps.metric import better

BEST_SHOWN = 10


def best_rows(summary: pd.DataFrame, metric: str, most: int = BEST_SHOWN) -> pd.DataFrame:
    """The best configurations by their mean, best first; those without a value come last."""
    return summary.sort_values(metric, ascending=better(metric) == "min", na_position="last").head(most)


def search_findings(results: SweepResults, summary: pd.DataFrame, metric: str) -> str:
    """How many configurations, and what winner and runner-up came to with fresh seeds, told apart or not."""
    finished = summary[metric].notna().sum()
    sentences = [
        f"{len(summary)} configurations, {finished} with a value; the {min(BEST_SHOWN, len(summary))} best above."
    ]
    again = results.confirmations
    if again.empty:
        return sentences[0]
    ranked = sorted(
        again.groupby("trial"), key=lambda group: group[1]["searched"].iloc[0], reverse=better(metric) == "max"
    )
    values = []
    for title, (trial, group) in zip(("winner", "runner-up"), ranked, strict=False):
        numbers = group[metric].dropna().tolist()
        width = half_width(numbers)
        mean = float(pd.Series(numbers).mean()) if numbers else float("nan")
        values.append((mean, width))
        interval = f" ± {width:.2f}" if width is not None else ""
        sentences.append(
            f"The {title}, trial {trial}, had {metric} {group['searched'].iloc[0]:.2f} in the search; over "
            f"{len(group)} fresh seeds and {group['images'].iloc[0]:.0f} images each it has {mean:.2f}{interval}."
        )
    sentences.append(
        "What a search chose looks better than it is, since luck helped to choose it: print the second figure."
    )
    return " ".join(sentences)
