"""Puts counts, ranges, seeds and pairs of configurations into words."""

from collections.abc import Sequence

import pandas as pd

from analysis.comparison import Pair
from sweeps.spec.naming import shown

MOST_LISTED = 6  # pairs of configurations that a sentence names


def share(part: int, whole: int) -> str:
    """Formats a share: `2 of 5`, `all 5`, `none of 5`, or `both`."""
    everything = "both" if whole == 2 else f"all {whole}"
    return everything if part == whole else f"{part or 'none'} of {whole}"


def listed(pairs: Sequence[Pair], axes: list[str]) -> str:
    """Lists the pairs' values, `1.0 and 1.25; 1.25 and 1.5`; empty if there are too many."""
    if len(pairs) > MOST_LISTED:
        return ""
    return "; ".join(" and ".join(", ".join(shown(row[axis]) for axis in axes) for row in pair) for pair in pairs)


def span(values: pd.Series, decimals: int) -> str:
    """Formats a range, `0.55 to 0.68`; a single number if both ends round to the same."""
    least, most = f"{values.min():.{decimals}f}", f"{values.max():.{decimals}f}"
    return least if least == most else f"{least} to {most}"


def in_seeds(yes: str, no: str, held: Sequence[bool]) -> str:
    """States a verdict with its seeds (at least one): `YES, from one seed`, `YES in 2 of 3 seeds only`."""
    count, seeds = sum(held), len(held)
    if seeds == 1:
        return f"{yes if count else no}, from one seed"
    if count == seeds:
        return f"{yes} in each of {seeds} seeds"
    return f"{yes} in {count} of {seeds} seeds only" if count else f"{yes} in none of {seeds} seeds"
