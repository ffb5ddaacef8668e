"""Axes of other values than numbers: sorted, grouped, drawn, and written as Markdown and LaTeX."""

import csv
from collections.abc import Sequence

import pandas as pd
import pytest

from analysis.axis_values import NOT_DRAWN, as_csv, axis_column
from analysis.findings import findings
from analysis.notation import latex_text, markdown_text
from analysis.plots.metric_curve import metric_curve
from analysis.plots.report_samples import rows_shown
from analysis.plots.sample_sheet import MOST_ROWS
from analysis.results import METRICS, SweepResults
from analysis.statistics import summarise
from analysis.tables import Table, display_table, latex, markdown

AXIS, OTHER = "optimizer.x", "scoring.alpha"
SORTED = [None, False, True, -1, 0.5, 10, "10", "b", [0.8, 2], [0.9], [0.9, None], {"b": 1}, {"b": 2}, NOT_DRAWN]
TEXTS = [
    *("none", "false", "true", "-1", "0.5", "10", "10", "b"),
    *("[0.8, 2]", "[0.9]", "[0.9, none]", "{b: 1}", "{b: 2}", "-"),
]


def runs(values: Sequence[object], seeds: int = 2) -> pd.DataFrame:
    """A row for each value and seed; every metric rises by 10 from value to value, and by 1 from seed to seed."""
    ends = [(at, seed) for at in range(len(values)) for seed in range(seeds)]
    columns = {
        AXIS: axis_column([values[at] for at, _ in ends]),
        OTHER: [1.0] * len(ends),
        "seed": [seed for _, seed in ends],
        **{metric: [10.0 * (1 + at) + seed for at, seed in ends] for metric in METRICS},
    }
    return pd.DataFrame(columns).assign(outcome="finished", diverged_at=None)


def test_values_are_sorted_by_kind_then_within_it_and_equal_ones_are_one_row() -> None:
    frame = pd.concat([runs(SORTED[::-1]), runs(SORTED)], ignore_index=True)
    summary = summarise(frame, [AXIS, OTHER], ["fid"])
    assert list(map(str, summary[AXIS])) == TEXTS
    assert set(summary["runs"]) == {4}
    assert list(display_table(summarise(frame, [AXIS], METRICS), [AXIS], None)["x"]) == TEXTS


def test_a_csv_file_has_every_digit_and_says_what_is_no_number() -> None:
    digits = 0.12345678901234567
    values = [None, True, digits, 10, "10 a", [0.8, None, "é"], {"b": 1}, NOT_DRAWN]
    summary = summarise(runs(values), [AXIS, OTHER], ["fid"])
    rows = list(csv.DictReader(as_csv(summary).splitlines()))
    cells = ["null", "true", str(digits), "10", "10 a", '[0.8, null, "é"]', '{"b": 1}', ""]
    assert [row[AXIS] for row in rows] == cells
    assert {row[OTHER] for row in rows} == {"1.0"}
    assert [float(row["fid"]) for row in rows] == list(summary["fid"])
    numbers = summarise(runs([digits, 2.5]), [AXIS], ["fid"])
    assert [float(row[AXIS]) for row in csv.DictReader(as_csv(numbers).splitlines())] == [digits, 2.5]


def test_columns_of_numbers_stay_numbers() -> None:
    assert axis_column([1, 2.5]) == [1, 2.5]
    assert pd.api.types.is_integer_dtype(pd.Series(axis_column([16, 32])))
    assert list(map(str, axis_column([150, NOT_DRAWN]))) == ["150", "-"]  # not 150.0, as a column with a gap has it


def test_neighbours_are_judged_and_named_as_those_of_numbers_are() -> None:
    said = findings(runs([[0.9, 0.95], None, "x"]), [AXIS], None)
    assert "FID tells both pairs of neighbours apart" in said
    assert findings(runs([None]), [AXIS], None).startswith("The paper's summary gives no numbers")


@pytest.mark.parametrize("numbers", [False, True])
def test_values_that_are_no_numbers_are_drawn_side_by_side_in_the_table_s_order(numbers: bool) -> None:
    figure = metric_curve(runs([3, 1, 7] if numbers else ["b$", None, 7]), AXIS, ["fid"], without_label=False)
    (panel,) = figure.axes
    line = panel.containers[0].lines[0]  # type: ignore[attr-defined]
    assert list(line.get_xdata(orig=False)) == ([1, 3, 7] if numbers else [0, 1, 2])
    assert list(line.get_ydata(orig=False)) == ([20.5, 10.5, 30.5] if numbers else [20.5, 30.5, 10.5])
    assert line.get_linestyle() == ("-" if numbers else "None")
    if not numbers:
        assert [text.get_text() for text in panel.get_xticklabels()] == ["none", "7", r"b\$"]


def test_a_metric_that_was_not_measured_has_no_panel() -> None:
    figure = metric_curve(runs([1, 2]).assign(**{"is": None, "is_null": None}), AXIS)
    assert [panel.get_ylabel() for panel in figure.axes] == ["FID ↓", ""]  # with label and without


def test_words_of_users_do_not_break_tables() -> None:
    words = r"a|b {c: 1} 50% $x$ ~^\d & #_"
    table = display_table(summarise(runs([words, 2]), [AXIS], METRICS), [AXIS], None)
    assert {line.replace(r"\|", "").count("|") for line in markdown(Table(table)).splitlines()} == {
        len(table.columns) + 1
    }
    assert r"a|b \{c: 1\} 50\% \$x\$ \textasciitilde{}\textasciicircum{}\textbackslash{}d \& \#\_" in latex(
        Table(table, [AXIS]), "caption", "tab:x"
    )


@pytest.mark.parametrize(
    ("words", "latex_has", "markdown_has"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}", r"\\input{/etc/passwd}"),
        ("$x^2_a$ #1 & 5%", r"\$x\textasciicircum{}2\_a\$ \#1 \& 5\%", "$x^2_a$ #1 & 5%"),
        ("a\n\n~b", r"a  \textasciitilde{}b", r"a  \~b"),
        ("[0.9, 0.95]", "{[}0.9, 0.95]", "[0.9, 0.95]"),  # right behind the end of a row
        ("[a](http://b)", "{[}a](http://b)", r"[a]\(http://b)"),
        ("<script>`*_c_*`|&lt;", r"<script>`*\_c\_*`|\&lt;", r"\<script>\`\*\_c\_\*\`\|\&lt;"),
        ("train_temperature ±", r"train\_temperature $\pm$", "train_temperature ±"),
    ],
)
def test_words_are_text_to_latex_and_markdown(words: str, latex_has: str, markdown_has: str) -> None:
    assert latex_text(words) == latex_has
    assert markdown_text(words) == markdown_has


def test_the_sample_sheet_of_many_configurations_has_the_best() -> None:
    values = [*range(30, 0, -1), None]
    results = SweepResults("s", [AXIS], runs(values), [], None, pd.DataFrame(), ["fid"])
    shown = rows_shown(results, summarise(results.frame, [AXIS], METRICS))
    assert list(map(str, shown[AXIS])) == [str(value) for value in range(30, 30 - MOST_ROWS, -1)]
