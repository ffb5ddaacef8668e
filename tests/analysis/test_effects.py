"""Main effects, best guidance and components of variance, on frames whose answers are known."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from analysis.effects import GUIDANCE, at_best_guidance, best_guidance_table, main_effects, main_effects_table
from analysis.results import METRICS
from analysis.statistics import summarise
from analysis.variance import EVALUATION_SEED, components, variance_words
from sweeps.spec.confidence import half_width

ALPHA, STEPS = "scoring.alpha", "sampling.steps"


def grid(axes: dict[str, list[float]], fid: "object", seeds: int = 3) -> pd.DataFrame:
    """A frame of finished runs; `fid(*values, seed)` gives each one's FID."""
    rows = [
        {**dict(zip(axes, values, strict=True)), "seed": seed, **dict.fromkeys(METRICS, 1.0), "fid": fid(*values, seed)}  # type: ignore[operator]
        for values in itertools.product(*axes.values())
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows).assign(outcome="finished", diverged_at=math.nan)


def test_a_main_effect_is_the_mean_over_the_rest_with_the_seeds_interval() -> None:
    frame = grid({ALPHA: [1.0, 2.0], STEPS: [4, 8]}, lambda alpha, steps, seed: 10 * alpha + steps + seed)
    effects = main_effects(frame, [ALPHA, STEPS], ["fid"])
    in_order = effects.set_index(["axis", "value"])["fid"]
    assert in_order[ALPHA].tolist() == [10 + 6 + 1, 20 + 6 + 1]
    assert in_order[STEPS].tolist() == [15 + 4 + 1, 15 + 8 + 1]
    assert effects["fid_ci"].tolist() == pytest.approx([half_width([0.0, 1.0, 2.0])] * 4)  # steps are no luck
    table = main_effects_table(frame, [ALPHA, STEPS])
    assert table.cells[["parameter", "value"]].to_numpy().tolist() == [
        ["α", "1.0"],
        ["α", "2.0"],
        ["steps", "4"],
        ["steps", "8"],
    ]


def test_a_point_that_one_value_lacks_counts_for_none() -> None:
    frame = grid({ALPHA: [1.0, 2.0], STEPS: [4, 8]}, lambda alpha, steps, seed: 10 * alpha + steps + seed)
    frame.loc[(frame[ALPHA] == 2.0) & (frame[STEPS] == 8) & (frame["seed"] == 0), "outcome"] = "diverged"
    effects = main_effects(frame, [ALPHA, STEPS], ["fid"]).set_index(["axis", "value"])["fid"]
    assert effects[ALPHA].tolist() == [10 + 4 + 1, 20 + 4 + 1]  # at 4 steps only
    assert effects[STEPS].tolist() == [10 + 4 + 1, 10 + 8 + 1]


def test_each_configuration_is_compared_at_its_best_guidance() -> None:
    best = {1.0: 1.5, 2.0: 3.0}
    frame = grid(
        {ALPHA: [1.0, 2.0], GUIDANCE: [1.0, 1.5, 3.0]}, lambda alpha, cfg, seed: abs(cfg - best[alpha]) + alpha + seed
    )
    summary = summarise(frame, [ALPHA, GUIDANCE], METRICS)
    chosen = at_best_guidance(summary, [ALPHA, GUIDANCE], "fid")
    assert dict(zip(chosen[ALPHA], chosen[GUIDANCE], strict=True)) == best
    assert best_guidance_table(summary, [ALPHA, GUIDANCE], "fid").cells["cfg"].tolist() == ["1.5", "3.0"]


def test_variance_is_taken_apart_as_the_formula_says() -> None:
    """Two trainings, two evaluations each: means 1 and 5, each ± 1. MS within 2, MS between 16: (16 - 2) / 2 = 7."""
    values = {(0, 0): 0.0, (0, 1): 2.0, (1, 0): 4.0, (1, 1): 6.0}
    frame = grid({EVALUATION_SEED: [0, 1]}, lambda evaluation, seed: values[seed, evaluation], seeds=2)
    found = components(frame, [EVALUATION_SEED], "fid")
    assert found is not None
    assert (found.retraining**2, found.resampling**2) == pytest.approx((7.0, 2.0))
    assert (found.trainings, found.evaluations) == (2, 4)
    assert "by 2.65 (standard deviation) from training to training and by 1.41" in variance_words(
        frame, [EVALUATION_SEED]
    )
    # A single training shows nothing of the variance between trainings.
    alone = frame.assign(**{ALPHA: 1.0}).query("seed == 0").assign(fid=50.0)
    both = components(pd.concat([frame.assign(**{ALPHA: 1.5}), alone]), [ALPHA, EVALUATION_SEED], "fid")
    assert both == found
    assert components(frame[frame[EVALUATION_SEED] == 0], [EVALUATION_SEED], "fid") is None  # one evaluation each
    assert variance_words(frame, [ALPHA]) == ""


def test_the_components_are_found_in_simulated_runs() -> None:
    """Standard deviations 2 and 0.5 over 20 configurations of different means."""
    rng = np.random.default_rng(0)
    trainings = 2.0 * rng.normal(size=(20, 5)) + 100 * rng.random((20, 1))

    def fid(alpha: float, _: float, seed: int) -> float:
        return float(trainings[int(alpha), seed] + 0.5 * rng.normal())

    frame = grid({ALPHA: list(range(20)), EVALUATION_SEED: [0, 1, 2]}, fid, seeds=5)
    found = components(frame, [ALPHA, EVALUATION_SEED], "fid")
    assert found is not None
    # 80 and 200 degrees of freedom: the standard deviations are known to 8% and 5%.
    assert found.retraining == pytest.approx(2.0, rel=3 * 0.08)
    assert found.resampling == pytest.approx(0.5, rel=3 * 0.05)
