"""States which of the paper's findings reproduce: only what the seeds can show, with the number of seeds.

For an order, every step must be a significant difference. A collapse is a qualitative change that one seed can show;
with several seeds, it must appear in each.
"""

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
from scipy import stats

from analysis.comparison import Pair, by_seed, compare, differences
from analysis.paper import PaperAblation
from analysis.tables import how_it_ended
from analysis.wording import in_seeds, listed, share, span
from sweeps.spec.naming import shown

COLLAPSE = 5.0  # the paper's FID / its lowest FID above which it counts as a collapse
RECALL_GONE = 0.1  # recall / best recall elsewhere below which a configuration has collapsed
IS_FALLEN = 0.5  # IS / lowest IS elsewhere below which IS shows the collapse
TEST = "paired, Holm, 95% confidence"


def reproduction(frame: pd.DataFrame, summary: pd.DataFrame, paper: PaperAblation) -> list[str]:
    """Returns findings on the configurations that are also in the paper; `summary` is `summarise` of the `frame`."""
    axis = paper.axis
    shared = summary[summary[axis].isin(paper.values)]
    if shared.empty:
        return ["The sweep has none of the paper's values, so nothing can be compared."]
    both = shared.dropna(subset=["fid"])
    theirs = pd.Series([paper.value("fid", value) for value in both[axis]], index=both.index, dtype=float)
    values = {metric: by_seed(frame, [axis], metric)[both.index] for metric in ("fid", "is", "recall")}
    return [
        *unfinished(shared[shared["fid"].isna()], axis),
        *order(both, theirs, values["fid"], paper),
        *collapse(both, axis, theirs, values["recall"]),
        *inception_score(both, theirs, values["is"], paper),
    ]


def unfinished(rows: pd.DataFrame, axis: str) -> list[str]:
    """States which of the paper's values have no numbers here, and why."""
    if rows.empty:
        return []
    ends = [f"{shown(row[axis])} ({how_it_ended(row)})" for _, row in rows.astype(object).iterrows()]
    return [f"No run finished at {', '.join(ends)}, so nothing is compared there."]


def order(both: pd.DataFrame, theirs: pd.Series, fid: pd.DataFrame, paper: PaperAblation) -> list[str]:
    """States whether the order by FID is the paper's; `fid` comes from `by_seed`.

    The order reproduces if every step from one configuration to the next in the paper's order is a significant
    difference in the paper's direction. A significant difference in the other direction contradicts the paper. Any
    other step leaves the order open.
    """
    if len(both) < 3:
        return []
    axis = paper.axis
    ranked = both.loc[theirs.sort_values().index]
    in_order = bool(ranked["fid"].is_monotonic_increasing)
    steps = judge_steps(ranked, fid)
    where = "" if len(both) == len(paper.values) else f" at {len(both)} of its {len(paper.values)} values"
    if in_order and len(steps.agree) == steps.count:
        return [f"The order by FID reproduces{where}: {steps.told()} of it apart ({TEST})."]
    one_seed = len(fid.dropna(how="all")) == 1
    if in_order:
        head = f"The {'FIDs' if one_seed else 'means'} are in the paper's order{where}"
    else:
        ours, papers = (", ".join(map(shown, rows[axis])) for rows in (both.sort_values("fid"), ranked))
        head = f"The order by {'FID' if one_seed else 'mean FID'} is {ours} here and {papers} in the paper"
        head += f" (rank correlation {stats.spearmanr(both['fid'], theirs).statistic:.2f})"
    if one_seed:
        verdict = "can't show it" if in_order else "contradicts nothing"
        return [f"{head}, from one seed, which {verdict}: each FID has that seed's luck in it."]
    return open_order(head, steps, in_order, axis)


@dataclass(frozen=True)
class Steps:
    """The verdicts on the steps of the paper's FID order, from each configuration to the next."""

    agree: list[Pair]  # significant in the paper's direction
    against: list[Pair]  # significant in the other direction
    open: list[Pair]  # not significant, or not testable
    seeds: str  # common seeds of the tested pairs; `0` if none can be tested

    @property
    def count(self) -> int:
        """The number of steps."""
        return len(self.agree) + len(self.against) + len(self.open)

    def told(self) -> str:
        """States how many steps are significant in the paper's direction."""
        return f"over {self.seeds} seeds, FID tells {share(len(self.agree), self.count)} steps"


def judge_steps(ranked: pd.DataFrame, fid: pd.DataFrame) -> Steps:
    """Tests the steps between configurations in the paper's order, lowest FID first; `fid` comes from `by_seed`."""
    compared = compare(list(pairwise(row for _, row in ranked.astype(object).iterrows())), fid)
    risen = [sum(differences(fid, higher, lower)) > 0 for lower, higher in compared.apart]
    return Steps(
        agree=[step for step, up in zip(compared.apart, risen, strict=True) if up],
        against=[step for step, up in zip(compared.apart, risen, strict=True) if not up],
        open=[*compared.close, *compared.unknown],
        seeds=compared.seeds,
    )


def open_order(head: str, steps: Steps, in_order: bool, axis: str) -> list[str]:
    """States what the seeds show of an order that does not fully reproduce; `head` describes the order of the means."""
    of_it = "of it" if in_order else "of the paper's order"
    if steps.seeds == "0":
        return [f"{head}; no step {of_it} has two finished seeds in common, so it can't be tested."]
    direction = "" if in_order and not steps.against else " in its direction"
    rest = listed(steps.open, [axis])
    but = f", but not {rest}" if steps.agree and rest else ""
    sentences = [f"{head}; {steps.told()} {of_it} apart{direction} ({TEST}){but}."]
    if steps.against:
        names = listed(steps.against, [axis]) or f"{len(steps.against)} steps"
        sentences.append(f"This contradicts the paper: FID tells {names} apart the other way round.")
    return sentences


def collapse(both: pd.DataFrame, axis: str, theirs: pd.Series, recall: pd.DataFrame) -> list[str]:
    """States whether the paper's collapses occur here, seed by seed, and how strongly; `recall` is from `by_seed`."""
    sentences = []
    for index in theirs.index[theirs > COLLAPSE * theirs.min()]:
        row, rest = both.loc[index], both.drop(index)
        held = gone(recall, index)
        name = f"The collapse at {shown(row[axis])}"
        if recall.isna().all(axis=None):
            sentences.append(f"{name} can't be judged: recall was not measured.")
            continue
        if not held:
            sentences.append(f"{name} can't be judged: no seed finished both there and elsewhere.")
            continue
        verdict = in_seeds("reproduces", "does not reproduce", held)
        factor, paper_factor = row["fid"] / both["fid"].min(), theirs[index] / theirs.min()
        sentences.append(
            f"{name} {verdict}: "
            f"{averaged(recall)}recall {row['recall']:.3f} against {span(rest['recall'], 2)} elsewhere, "
            f"FID {factor:.1f} times the lowest (paper: {paper_factor:.0f} times)"
            f"{unlabelled(row['fid_null'] / both['fid_null'].min())}."
        )
    return sentences


def unlabelled(factor: float) -> str:
    """Returns the FID factor without class labels as a clause; empty if it was not measured."""
    return "" if pd.isna(factor) else f", {factor:.1f} times without class labels"


def inception_score(both: pd.DataFrame, theirs: pd.Series, inception: pd.DataFrame, paper: PaperAblation) -> list[str]:
    """States whether IS shows the paper's collapse too, seed by seed; `inception` is IS from `by_seed`."""
    if both.empty:
        return []
    worst = theirs.idxmax()
    row, rest = both.loc[worst], both.drop(worst)
    paper_rest = [value for value in (paper.value("is", each) for each in rest[paper.axis]) if value is not None]
    paper_worst = paper.value("is", row[paper.axis])
    if not paper_rest or paper_worst is None or paper_worst >= IS_FALLEN * min(paper_rest):
        return []
    held = fallen(inception, worst)
    if not held:  # no seed to judge by, as `collapse` already states
        return []
    return [
        f"The paper's IS at {shown(row[paper.axis])} is less than half of every other; ours, with class labels, "
        f"{in_seeds('is', 'is not', held)}: {averaged(inception)}{row['is']:.2f} against {span(rest['is'], 2)} "
        f"elsewhere; without a label it is {row['is_null']:.2f} against {span(rest['is_null'], 2)}."
    ]


def gone(recall: pd.DataFrame, column: int) -> list[bool]:
    """Returns whether recall has collapsed at a configuration, for each seed; `recall` is as from `by_seed`."""
    return below(recall, column, RECALL_GONE * recall.drop(columns=column).max(axis=1))


def fallen(inception: pd.DataFrame, column: int) -> list[bool]:
    """Returns whether IS shows a collapse at a configuration, for each seed; `inception` is as from `by_seed`."""
    return below(inception, column, IS_FALLEN * inception.drop(columns=column).min(axis=1))


def below(values: pd.DataFrame, column: int, bound: pd.Series) -> list[bool]:
    """Returns whether a configuration's value is below the seed's bound, for each seed that has both."""
    known = values[column].notna() & bound.notna()
    return [bool(held) for held in (values[column] < bound)[known]]


def averaged(values: pd.DataFrame) -> str:
    """Returns "on average " for several seeds, otherwise nothing; `values` comes from `by_seed`."""
    return "on average " if len(values.dropna(how="all")) > 1 else ""
