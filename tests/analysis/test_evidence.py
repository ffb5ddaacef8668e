"""From a sweep's runs to the sides of a claim: what is taken, what is not, and what is then not tested."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.axis_values import axis_column
from analysis.conditions import CONDITIONS
from analysis.paper.claims import Claim, read_claims
from analysis.paper.evidence import Evidence
from analysis.paper.verdicts import Verdict, judge_one
from analysis.results import METRICS, SweepResults
from ear.evaluation.result import Evaluation
from ear.store import Store

ALIKE = dict.fromkeys(CONDITIONS, "same")
End = float | str


def results(
    name: str, space: Mapping[str, Sequence[Any]], fid: Callable[..., End], seeds: int = 3, **conditions: str
) -> SweepResults:
    """Runs of a grid; `fid` gets the point's values and the seed, and may say how else a run ended, or `missing`."""
    rows, points = [], []
    for *values, seed in itertools.product(*space.values(), range(seeds)):
        end = fid(*values, seed)
        if end == "missing":
            continue
        points.append(values)
        finished = not isinstance(end, str)
        rows.append(
            {"seed": seed, "outcome": "finished" if finished else end, "diverged_at": 5 if end == "diverged" else None}
            | dict.fromkeys(METRICS, end if finished else None)
            | {"key": f"{len(rows):032x}", "rests_on": [f"{len(rows):032x}"]}
        )
    columns = {axis: axis_column([values[at] for values in points]) for at, axis in enumerate(space)}
    frame = pd.DataFrame({**columns, **pd.DataFrame(rows)})
    return SweepResults(
        name=name,
        axes=list(space),
        frame=frame,
        conditions=[ALIKE | conditions],
        client=None,
        confirmations=pd.DataFrame(),
        objectives=["fid"],
    )


def verdict(root: Path, statistic: str, *sweeps: SweepResults, spaces: Mapping[str, Any] | None = None) -> Verdict:
    evidence = Evidence(
        "digits",
        root,
        {each.name: each for each in sweeps},
        {},
        spaces or {each.name: space_of(each) for each in sweeps},
    )
    return judge_one(claim(statistic), evidence)


def space_of(each: SweepResults) -> dict[str, list[Any]]:
    return {axis: list(dict.fromkeys(each.frame[axis])) for axis in each.axes}


def claim(statistic: str) -> Claim:
    (found,) = read_claims(f"claims:\n  - {{id: a, words: Words., source: figure 1, statistic: {statistic}}}\n")
    return found


RISES = "{name: ordered, sweep: grid, along: scoring.alpha, direction: rises}"
ALPHA = {"scoring.alpha": [1.0, 1.5, 2.0]}


def test_an_order_of_some_values_is_not_that_of_all(tmp_path: Path) -> None:
    partly = results(
        "grid", ALPHA, lambda alpha, seed: "missing" if alpha == 2 else 20 + 9 * alpha + 0.1 * seed * alpha
    )
    given = verdict(tmp_path, RISES, partly, spaces={"grid": ALPHA})
    assert (given.outcome, given.todo) == (
        "not tested",
        "2 of 3 values of scoring.alpha have run in grid: ear paper run --only grid",
    )


def test_all_values_in_order(tmp_path: Path) -> None:
    given = verdict(tmp_path, RISES, results("grid", ALPHA, lambda alpha, seed: 20 + 9 * alpha + 0.1 * seed * alpha))
    assert given.outcome == "reproduces"
    assert [side.label for side in given.sides] == ["α 1.0", "α 1.5", "α 2.0"]
    assert given.seeds == (0, 1, 2)
    assert len(given.keys) == 9


def test_one_seed_is_undecided_however_large_the_difference(tmp_path: Path) -> None:
    given = verdict(tmp_path, RISES, results("grid", ALPHA, lambda alpha, _: 20 * alpha, seeds=1))
    assert (given.outcome, given.seeds_needed) == ("undecided", "")


STEPS_AND_CFG = {"sampling.steps": [4, 8], "sampling.cfg": [1.0, 1.5, 3.0]}
TUNED = "{name: ordered, sweep: grid, along: sampling.steps, tuned: [sampling.cfg], direction: falls}"


def test_each_side_takes_its_own_best_of_a_tuned_axis(tmp_path: Path) -> None:
    best = {4: 1.5, 8: 3.0}
    given = verdict(
        tmp_path,
        TUNED,
        results(
            "grid", STEPS_AND_CFG, lambda steps, cfg, seed: 10 / steps + seed * steps / 100 + 5 * (cfg != best[steps])
        ),
    )
    assert [side.values[0] for side in given.sides] == [2.5, 1.25]
    assert given.outcome == "reproduces"


def test_the_best_of_fewer_settings_is_not_compared(tmp_path: Path) -> None:
    """Seed 2 lacks its evaluation at one scale, on one side."""
    given = verdict(
        tmp_path,
        TUNED,
        results(
            "grid",
            STEPS_AND_CFG,
            lambda steps, cfg, seed: "failed" if (steps, cfg, seed) == (8, 3.0, 2) else 10 / steps + seed * steps / 100,
        ),
    )
    assert [sorted(side.values) for side in given.sides] == [[0, 1, 2], [0, 1]]
    assert given.tests[0].differences == pytest.approx((1.25, 1.25 - 0.04))


LOWER = """
    {name: lower_than, one: {label: slow, sweep: grid, at: {scoring.alpha: 1.0}},
     other: {label: fast, sweep: grid, at: {scoring.alpha: 1.5}}}
"""


@pytest.mark.parametrize(
    ("diverging", "outcome"), [(1.5, "reproduces"), (1.0, "contradicted")], ids=["the other side", "the side claimed"]
)
def test_a_side_that_always_diverges_is_the_worse_one(tmp_path: Path, diverging: float, outcome: str) -> None:
    ends = results("grid", ALPHA, lambda alpha, seed: "diverged" if alpha == diverging else 20.0 + seed)
    given = verdict(tmp_path, LOWER, ends)
    assert given.outcome == outcome
    assert given.test.startswith("every training with ")


def test_one_divergence_decides_nothing(tmp_path: Path) -> None:
    ends = results("grid", ALPHA, lambda alpha, seed: "diverged" if (alpha, seed) == (1.5, 1) else 20.0 + seed)
    assert verdict(tmp_path, LOWER, ends).outcome == "undecided"


def test_sweeps_that_were_measured_differently_are_not_compared(tmp_path: Path) -> None:
    statistic = LOWER.replace("label: fast, sweep: grid", "label: fast, sweep: more")
    sweeps = [results("grid", ALPHA, lambda *_: 20.0), results("more", ALPHA, lambda *_: 20.0, images="5000")]
    given = verdict(tmp_path, statistic, *sweeps)
    assert (given.outcome, given.todo) == ("not tested", "grid and more differ in number of images")


def test_values_of_sections_are_found(tmp_path: Path) -> None:
    sizes = [{"width": 60, "depth": 5}, {"width": 36, "depth": 3}]
    given = verdict(
        tmp_path,
        "{name: ordered, sweep: grid, along: model, direction: falls, labels: [B, L]}",
        results("grid", {"model": sizes}, lambda model, seed: 100 / model["width"] + seed * model["depth"] / 100),
    )
    assert [(side.label, round(side.values[0], 2)) for side in given.sides] == [("B", 2.78), ("L", 1.67)]
    assert given.outcome == "reproduces"


def publish(store: Store, key: str, seconds: float) -> None:
    evaluation = Evaluation({"fid": 1.0}, "c", 0.9, "0", "digits/train", 1297, 2000, 1000, seconds)

    def fill(folder: Path) -> None:
        (folder / "evaluation.json").write_text(json.dumps(asdict(evaluation)))

    store.publish(key, "evaluation", fill, {})


def test_times_are_compared_by_their_ratio(tmp_path: Path) -> None:
    sweep = results("grid", {"scoring.alpha": [1.0, 1.5]}, lambda *_: 20.0)
    for row in sweep.frame.to_dict("records"):
        busy = [1.0, 3.0, 1.2][row["seed"]]  # a busy machine slows both sides down
        publish(Store(tmp_path), row["key"], busy * (3.0 if row["scoring.alpha"] == 1.0 else 30.0 + row["seed"]))
    given = verdict(tmp_path, LOWER.replace("lower_than", "faster"), sweep)
    assert given.outcome == "reproduces"
    assert given.sides[0].values == pytest.approx({0: 0.001, 1: 0.003, 2: 0.0012})
