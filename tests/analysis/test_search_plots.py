"""The plots of a search and of training curves, on numbers that are written out."""

import math
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from matplotlib.axes import Axes
from plotted import ALPHA, overlapping
from safetensors.numpy import save_file

from analysis.axis_values import NOT_DRAWN, axis_column
from analysis.plots.importances import importance_table, importances
from analysis.plots.optimisation_history import optimisation_history
from analysis.plots.parallel_coordinates import parallel_coordinates
from analysis.plots.pareto_front import pareto_front
from analysis.plots.training_curves import read_curve, training_curves

AXES = [ALPHA, "optimizer.generator_lr_scale", "scoring.epsilon"]
CONFIRMED = pd.DataFrame({"trial": [3], "fid": [13.0], "fid_ci": [2.0], "recall": [0.55], "recall_ci": [0.1]})


def trials() -> pd.DataFrame:
    """Best first, as the report ranks them; trial 4 breaks a bound, trial 2 diverged."""
    return pd.DataFrame(
        {
            "trial": [3, 1, 0, 5, 4, 2],
            "fid": [12.0, 18.0, 20.0, 25.0, 11.0, math.nan],
            "recall": [0.5, 0.7, 0.6, 0.8, 0.3, math.nan],
            "broken": ["", "", "", "", "recall below 0.4", ""],
            "pareto_front": [True, True, False, True, False, False],
            ALPHA: [1.0, 1.2, 1.4, 1.6, 1.8, 2.0],
            AXES[1]: [0.01, 0.1, 1.0, 0.1, 0.1, 0.1],
            AXES[2]: axis_column([NOT_DRAWN, "b", "a", "b", "a", "a"]),
        }
    )


def line(panel: Axes, label: str) -> list[tuple[float, float]]:
    found = next(each for each in panel.lines if each.get_label() == label)
    return list(zip(found.get_xdata(), found.get_ydata(), strict=True))


def test_the_best_so_far_is_of_what_holds_the_bounds() -> None:
    figure = optimisation_history(trials(), "fid", CONFIRMED)
    (panel,) = figure.axes
    assert line(panel, "trial") == [(0, 20.0), (1, 18.0), (3, 12.0), (5, 25.0)]
    assert line(panel, "best so far") == [(0, 20.0), (1, 18.0), (3, 12.0), (5, 12.0)]
    assert line(panel, "breaks a constraint") == [(4, 11.0)]
    assert line(panel, "no value") == [(2, 1.0)]  # at the upper edge, where FID is worse
    fresh = next(each for each in panel.containers if each.get_label() == "fresh seeds")
    assert list(fresh.lines[0].get_ydata()) == [13.0]  # type: ignore[attr-defined]
    assert overlapping(figure) == []


def test_higher_is_better_for_recall() -> None:
    (panel,) = optimisation_history(trials(), "recall").axes
    assert line(panel, "best so far") == [(0, 0.6), (1, 0.7), (3, 0.7), (5, 0.8)]
    assert line(panel, "no value") == [(2, 0.0)]


def test_the_front_is_joined_by_steps_on_its_worse_side() -> None:
    figure = pareto_front(trials(), ["fid", "recall"], CONFIRMED)
    (panel,) = figure.axes
    assert line(panel, "Pareto front") == [(12.0, 0.5), (18.0, 0.7), (25.0, 0.8)]
    assert line(panel, "dominated") == [(20.0, 0.6)]
    steps = next(each for each in panel.lines if each.get_drawstyle() == "steps-post")
    assert list(steps.get_xdata()) == [12.0, 18.0, 25.0]
    from_search = next(each for each in panel.lines if list(each.get_xdata()) == [12.0, 13.0])
    assert list(from_search.get_ydata()) == [0.5, 0.55]
    assert overlapping(figure) == []


def test_lines_cross_each_axis_at_their_value() -> None:
    figure = parallel_coordinates(trials(), AXES, "fid")
    base = figure.axes[0]
    drawn = [each.get_ydata() for each in base.lines]  # the best one last
    assert len(drawn) == 5  # not the one without a value
    for rank, heights in enumerate(reversed(drawn)):
        row = trials().iloc[rank]
        for panel, name, height in zip(figure.axes, [*AXES, "fid"], heights, strict=True):
            value = row[name]
            if name == AXES[2]:
                known = {"a": 0.0, "b": 1.0}
                assert np.isnan(height) == (str(value) == "-")
                if np.isnan(height):
                    continue
                value = known[str(value)]
            seen = panel.transAxes.inverted().transform(panel.transData.transform((0, value)))[1]
            assert height == pytest.approx(seen)
    assert figure.axes[1].get_yscale() == "log"  # 0.01 to 1
    low, high = figure.axes[3].get_ylim()
    assert low > high  # the better end of FID is at the top
    assert [label.get_text() for label in figure.axes[2].get_yticklabels()] == ["a", "b"]
    assert overlapping(figure) == []


def test_importances_find_what_matters_and_are_the_same_each_time() -> None:
    """FID depends on x alone; recall on x and y alike."""
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    uniform = optuna.distributions.FloatDistribution(0, 1)
    draws = np.random.default_rng(0).uniform(size=(40, 2))
    for x, y in draws:
        study.add_trial(
            optuna.trial.create_trial(
                params={"a.x": x, "a.y": y}, distributions={"a.x": uniform, "a.y": uniform}, values=[10 * x, x + y]
            )
        )
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED))
    table = importance_table(study, ["fid", "recall"])
    share = table.set_index(["objective", "parameter"])["importance"]
    assert share["fid", "a.x"] > 0.9
    assert 0.3 < share["recall", "a.x"] < 0.7
    pd.testing.assert_frame_equal(table, importance_table(study, ["fid", "recall"]))
    figure = importances(table, ["a.x", "a.y"])
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["x", "y"]
    np.testing.assert_allclose(
        [bar.get_width() for bar in panel.patches],
        share[[("fid", "a.x"), ("fid", "a.y"), ("recall", "a.x"), ("recall", "a.y")]],
    )
    assert overlapping(figure) == []


def test_too_few_trials_have_no_importances() -> None:
    assert importance_table(optuna.create_study(), ["fid"]).empty


def test_curves_are_read_from_a_checkpoint_without_torch(tmp_path: Path) -> None:
    columns = {"step": [25.0, 50.0], "loss": [3.0, 2.0], "gradient_norm": [9.0, 4.0], "seconds": [1.0, 2.0]}
    save_file({f"history/{name}": np.array(values) for name, values in columns.items()}, tmp_path / "c.safetensors")
    found = read_curve(tmp_path / "c.safetensors")
    assert found.to_dict("list") == {name: columns[name] for name in ("step", "loss", "gradient_norm")}
    assert read_curve(tmp_path / "none.safetensors").empty
    save_file({"model/w": np.zeros(2)}, tmp_path / "other.safetensors")
    assert read_curve(tmp_path / "other.safetensors").empty


def test_each_run_has_a_line_and_a_divergence_is_marked() -> None:
    steps = [25.0, 50.0, 75.0]
    rest = {"gradient_norm": 1.0, "diverged_at": math.nan}
    rows = [
        {ALPHA: alpha, "seed": seed, "step": step, "loss": alpha + seed / step, **rest}
        for alpha in (1.0, 2.0)
        for seed in (0, 1)
        for step in steps
    ]
    rows += [{ALPHA: 0.9, "seed": 0, "step": 25.0, "loss": 3.0, "gradient_norm": math.nan, "diverged_at": 31.0}]
    figure = training_curves(pd.DataFrame(rows), [ALPHA])
    loss, norm = figure.axes
    curves = [each for each in loss.lines if len(each.get_xdata()) == 3]
    assert len(curves) == 4
    assert len({tuple(each.get_color()) for each in curves}) == 2  # a colour for each configuration
    crosses = [(each.get_xdata()[0], each.get_ydata()[0]) for each in loss.lines if each.get_marker() == "x"]
    assert crosses == [(31.0, 3.0)]
    assert [text.get_text() for text in (*loss.texts, *norm.texts)] == ["diverged at step 31"] * 2
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 3
