"""Statistics, tables and findings on frames whose answers are known."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from analysis.conditions import ALONE, describe
from analysis.findings import findings
from analysis.notation import figure_symbol, latex_symbol
from analysis.paper import PaperAblation, paper_ablation
from analysis.report import grid_findings
from analysis.results import METRICS, SweepResults
from analysis.statistics import summarise
from analysis.tables import Table, display_table, latex, markdown
from sweeps.spec.confidence import half_width

ALPHA = "scoring.alpha"
PAPER_FACTS = {
    "fid": [3.55, 3.73, 4.10, 4.32, 188.1],
    "is": [230.3, 223.1, 212.1, 204.2, 6.4],
}


End = float | str  # a run's FID, or how else it ended


def runs(fid: Mapping[float, Sequence[End]], recall: dict[float, float] | None = None) -> pd.DataFrame:
    """A frame of runs: alpha -> FID by seed, or its outcome where it did not finish."""
    rows = []
    for alpha, ends in fid.items():
        for seed, end in enumerate(ends):
            finished = not isinstance(end, str)
            metrics = dict.fromkeys(METRICS, 1.0 if finished else math.nan) | {
                "fid": end if finished else math.nan,
                "fid_null": end if finished else math.nan,
                "recall": (recall or {}).get(alpha, 0.7) if finished else math.nan,
            }
            rows.append(
                {
                    ALPHA: alpha,
                    "seed": seed,
                    "outcome": "finished" if finished else end,
                    "diverged_at": 7.0 if end == "diverged" else math.nan,
                    **metrics,
                }
            )
    return pd.DataFrame(rows)


def summary_of(fid: Mapping[float, Sequence[End]], **more: dict[float, float]) -> pd.DataFrame:
    return summarise(runs(fid, **more), [ALPHA], METRICS)


@pytest.fixture
def paper() -> PaperAblation:
    found = paper_ablation([ALPHA])
    assert found is not None
    return found


def test_half_width_is_students() -> None:
    assert half_width([3.0]) is None
    # t(0.975, 2) = 4.302653 (any table); the standard deviation of 1, 2, 3 is 1.
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert math.isnan(half_width([1.0, math.nan]) or 0)  # as of a confirmation, one of whose runs has no finite metric


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 3))
    covered = [abs(row.mean()) <= (half_width(list(row)) or 0) for row in draws]
    # Binomial(4000, 0.95) has a standard deviation of 0.0034.
    assert np.mean(covered) == pytest.approx(0.95, abs=4 * 0.0034)


def test_summary_averages_the_finished_runs_only() -> None:
    row = summary_of({1.0: [10.0, 14.0, "diverged"]}).iloc[0]
    assert (row["runs"], row["diverged"], row["diverged_at"]) == (3, 1, 7)
    assert row["fid"] == 12
    assert row["fid_ci"] == pytest.approx(half_width([10.0, 14.0]))


def test_outcomes_are_counted_by_name() -> None:
    summary = summary_of({1.0: [10.0, "pruned", "failed", 14.0, "pruned"], 1.5: ["failed"], 2.0: ["diverged", 12.0]})
    counts = summary[["runs", "finished", "diverged", "pruned", "failed"]]
    assert counts.to_numpy().tolist() == [[5, 2, 0, 2, 1], [1, 0, 0, 0, 1], [2, 1, 1, 0, 0]]
    assert summary["fid"].tolist()[::2] == [12.0, 12.0]
    assert math.isnan(summary["fid"][1])


def test_cells_name_what_did_not_finish() -> None:
    ends: dict[float, list[End]] = {
        1.0: [5.0, 5.0, "pruned"],
        1.1: [5.0, "failed", "failed"],
        1.2: [5.0, "pruned", "failed", "diverged"],
        1.3: ["diverged", "diverged"],
        1.4: ["pruned"],
        1.5: ["failed", "failed"],
        1.6: ["failed", "diverged", "pruned", "diverged"],
        1.7: ["failed", "pruned"],
    }
    table = display_table(summary_of(ends), [ALPHA], None)
    nothing = [
        "diverged at step 7",
        "stopped early",
        "failed",
        "2 diverged at step 7, 1 stopped early, 1 failed",
        "1 stopped early, 1 failed",
    ]
    assert list(table["FID"]) == [
        "5.00 ± 0.00 (1 of 3 stopped early)",
        "5.00 (2 of 3 failed)",
        "5.00 (1 of 4 diverged, 1 of 4 stopped early, 1 of 4 failed)",
        *nothing,
    ]
    assert list(table["recall"]) == ["0.700 ± 0.000", "0.700", "0.700", *nothing]


def test_paper_numbers_are_the_papers(paper: PaperAblation) -> None:
    assert paper.values == [1.0, 1.25, 1.5, 1.75, 2.0]
    assert {metric: [paper.value(metric, at) for at in paper.values] for metric in paper.printed} == PAPER_FACTS
    assert paper.printed["fid"][2] == "4.10"  # with the paper's digits
    assert paper_ablation(["sampling.infer_temperature"]) is None  # the paper's summary has no numbers for it
    assert paper_ablation([ALPHA, "sampling.cfg"]) is None


def test_table_shows_intervals_divergence_and_the_paper(paper: PaperAblation) -> None:
    table = display_table(
        summary_of({1.0: [10.0, 14.0], 1.1: [5.0, "diverged"], 1.5: [6.0, 8.0], 2.0: ["diverged", "diverged"]}),
        [ALPHA],
        paper,
    )
    assert list(table["α"]) == ["1.0", "1.1", "1.5", "2.0"]
    width = half_width([10.0, 14.0])
    assert [*table["FID"][:2], table["FID"][3]] == [
        f"12.00 ± {width:.2f}",
        "5.00 (1 of 2 diverged)",
        "diverged at step 7",
    ]
    assert list(table["FID, paper"]) == ["3.55", "", "4.10", "188.1"]
    assert markdown(Table(table)).count("\n") == 5
    text = latex(Table(table, [ALPHA]), "100% of digits_test", "tab:x")
    assert r"$\alpha$" in text
    assert rf"12.00 \pm {width:.2f}" in text
    assert r"100\% of digits\_test" in text


def test_findings_reproduce_the_collapse_and_claim_no_order_from_one_seed(paper: PaperAblation) -> None:
    fid: dict[float, list[float | None]] = {1.0: [17], 1.25: [20], 1.5: [21], 1.75: [26], 2.0: [160]}
    text = findings(runs(fid, recall={2.0: 0.0}), [ALPHA], paper)
    assert "FIDs are in the paper's order, from one seed, which can't show it" in text
    assert "order by FID reproduces" not in text
    assert "collapse at 2.0 reproduces, from one seed: recall 0.000 against 0.70 elsewhere" in text
    assert f"{160 / 17:.1f} times the lowest (paper: {188.1 / 3.55:.0f} times)" in text
    assert "With one seed there is no interval" in text


def test_findings_say_what_does_not_reproduce(paper: PaperAblation) -> None:
    text = findings(runs({1.0: [30], 1.5: [20], 2.0: [10]}), [ALPHA], paper)
    assert "2.0, 1.5, 1.0 here and 1.0, 1.5, 2.0 in the paper (rank correlation -1.00)" in text
    assert "from one seed, which contradicts nothing" in text
    assert "collapse at 2.0 does not reproduce, from one seed: recall 0.700 against 0.70 elsewhere" in text


def test_findings_without_a_value_of_the_papers(paper: PaperAblation) -> None:
    text = findings(runs({0.9: [10.0], 1.1: [11.0]}), [ALPHA], paper)
    assert "none of the paper's values" in text


def test_caption_says_that_differences_can_be_surer_than_the_intervals() -> None:
    conditions: dict[str, object] = dict.fromkeys(("reference", "extractor", "extractor_hash"), "x")
    conditions |= {"images": 2, "null_images": 1, "reference_images": None, "extractor_accuracy": None}
    assert describe([conditions], "1 to 3").endswith(f"; 1 to 3 seeds, mean ± 95% interval{ALONE}.")
    assert describe([conditions], "1").endswith("; 1 seed.")


def test_names_are_written_as_latex_and_matplotlib_read_them() -> None:
    scale = "optimizer.generator_lr_scale"
    assert latex_symbol(scale, [scale]) == r"generator\_lr\_scale"
    assert figure_symbol(scale, [scale]) == "generator_lr_scale"  # which would print the backslash
    assert latex_symbol(ALPHA, [ALPHA]) == figure_symbol(ALPHA, [ALPHA]) == r"$\alpha$"


def test_what_was_not_measured_is_no_seed() -> None:
    frame = runs({1.0: [10.0, 14.0, 30.0]})
    frame.loc[2, "fid"] = math.nan  # finished, by an evaluation without it
    (row,) = summarise(frame, ["scoring.alpha"], ["fid"]).to_dict("records")
    assert row["fid"] == 12
    assert row["fid_ci"] == pytest.approx(half_width([10.0, 14.0]))


def test_rows_measured_otherwise_are_labelled_and_not_compared() -> None:
    """As sweeps of earlier versions may have them, and files of statistics in a section."""
    train = {"extractor": "e", "extractor_hash": "0", "extractor_accuracy": None, "images": 20, "null_images": 10}
    train |= {"reference": "d/train", "reference_hash": "a", "reference_images": 1297, "sampling.cfg": "1.0"}
    test = train | {"reference": "d/test", "reference_hash": "b", "reference_images": 500, "images": 40}
    assert describe([train, test], "2").startswith(
        "20 or 40 generated images (10 without label) against 1297 of d/train or 500 of d/test; "
        "extractor e (weights 0); CFG 1.0; 2 seeds"
    )
    frame = runs({1.0: [10.0, 11.0], 1.5: [20.0, 21.0]})

    def said(*conditions: dict[str, object]) -> str:
        return grid_findings(SweepResults("s", [ALPHA], frame, list(conditions), None, pd.DataFrame(), ["fid"]), None)

    assert said(train, test).startswith("The rows differ in reference and number of images, so their numbers are not")
    assert "tells 1.0 and 1.5 apart" in said(train, train | {"sampling.cfg": "2.0"})
