"""Tables: what is bold, what LaTeX makes of them."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.best_rows import best_rows, bold_note
from analysis.results import METRICS
from analysis.statistics import summarise
from analysis.tables import Table, ablation_table, column_format, latex, latex_cell, markdown
from ear.errors import UserError

CFG = "sampling.cfg"


def runs(fid: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> pd.DataFrame:
    """A frame of finished runs; `fid` has a row per configuration and a column per seed."""
    configurations, seeds = fid.shape
    index = np.arange(configurations).repeat(seeds)
    return pd.DataFrame(
        {
            CFG: 1.0 + index,
            "seed": np.tile(np.arange(seeds), configurations),
            "outcome": "finished",
            "diverged_at": np.nan,
            **{metric: fid.ravel() if metric == "fid" else 1.0 for metric in METRICS},
        }
    )


def best(fid: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> set[int]:
    frame = runs(fid)
    summary = summarise(frame, [CFG], ["fid"])
    return best_rows(frame, summary, [CFG], ["fid"]).get("fid", set())


def test_a_row_as_good_as_the_best_is_left_out_in_one_of_twenty_tables_at_most() -> None:
    """Four equal configurations and a bad one, with noise that is common to a seed: each must be bold."""
    rng, tables, missed = np.random.default_rng(0), 100, 0
    for _ in range(tables):
        fid = rng.normal(size=(5, 4)) + 2 * rng.normal(size=(1, 4)) + [[0], [0], [0], [0], [50]]
        missed += 0 not in best(fid)  # any one of the equal ones: which is the first of them does not matter
    # Binomial(100, 0.05) has a standard deviation of 0.022.
    assert missed / tables <= 0.05 + 3 * 0.022


def test_what_is_clearly_worse_is_not_bold() -> None:
    noise = np.array([[0.0, 0.1, 0.2], [0.1, 0.3, 0.1], [0.0, 0.2, 0.1]])
    assert best(noise + np.array([[10.0], [10.0], [30.0]])) == {0, 1}


def test_nothing_is_bold_where_nothing_can_be_told() -> None:
    assert best(np.array([[1.0], [2.0]])) == set()  # one seed
    assert best(np.array([[1.0, 2.0, 3.0]])) == set()  # one row
    assert best(np.array([[1.0, 9.0, 5.0], [2.0, 7.0, 5.5]])) == set()  # all are as good


@pytest.mark.parametrize(
    ("fid", "expected"),
    [
        ([[1.0, 1.1, 1.2], [30.0, 31.0, 29.0]], "Bold: the best of a column and all that can't be told from it"),
        ([[1.0, 9.0, 5.0], [2.0, 7.0, 5.5]], "Nothing is bold: no row can be told from the best of its column."),
        ([[1.0], [30.0]], "Nothing is bold: one seed tells no rows apart."),
        ([[1.0, 1.1, 1.2]], ""),
    ],
)
def test_a_note_says_what_bold_means_or_why_nothing_is(fid: list[list[float]], expected: str) -> None:
    frame = runs(np.array(fid))
    summary = summarise(frame, [CFG], ["fid"])
    assert bold_note(summary, best_rows(frame, summary, [CFG], ["fid"])).partition(" (")[0] == expected


def test_higher_is_better_for_some() -> None:
    frame = runs(np.zeros((2, 3))).assign(recall=[0.1, 0.11, 0.12, 0.9, 0.92, 0.9])
    summary = summarise(frame, [CFG], ["recall"])
    assert best_rows(frame, summary, [CFG], ["recall"]) == {"recall": {1}}


@pytest.fixture
def table() -> Table:
    frame = runs(np.array([[17.841, 18.2, 17.5], [85.0, 84.0, 86.0], [9.0, 9.0, 9.0]]))
    frame.loc[6:, "outcome"], frame.loc[6:, "diverged_at"] = "diverged", 7.0
    summary = summarise(frame, [CFG], METRICS)
    return ablation_table(summary, [CFG], None, best_rows(frame, summary, [CFG], ["fid"]))


def test_markdown_has_arrows_and_bold(table: Table) -> None:
    header, _, first, second, third = markdown(table).splitlines()
    assert "FID ↓" in header
    assert "recall ↑" in header
    assert "**17.85 ± 0.87**" in first
    assert "**" not in second
    assert "diverged at step 7" in third


def test_cells_are_numbers_to_siunitx_and_words_to_latex() -> None:
    assert latex_cell("17.84 ± 3.05", bold=True) == r"\bfseries 17.84 \pm 3.05"
    assert latex_cell("5.00 (1 of 2 diverged)", bold=False) == "5.00{ (1 of 2 diverged)}"
    assert latex_cell("diverged at step 7", bold=False) == "{diverged at step 7}"
    assert latex_cell("", bold=False) == "{}"
    assert column_format(pd.Series(["7.84 ± 13.05", "117.8", "n/a"])) == "S[table-format=3.2(2.2)]"
    assert column_format(pd.Series(["4", "16"])) == "r"
    # Without room for its text, a cell would be printed over its neighbour.
    assert column_format(pd.Series(["5.00 (1 of 2 diverged)", "6.00"])) == "S[table-format=1.2{ (1 of 2 diverged)}]"


def test_columns_are_chosen_by_metric(table: Table) -> None:
    assert list(table.only(["recall", "fid"]).cells) == ["cfg", "recall", "FID"]
    with pytest.raises(UserError, match=r"There is no column fdi; columns: fid, is"):
        table.only(["fdi"])


@pytest.mark.slow
def test_latex_sets_it_within_its_columns(table: Table, tmp_path: Path) -> None:
    """As ICML's style: two columns of 3.25 inches."""
    install = Path(__file__).parents[1] / "install_debian_packages"
    needed = ("texlive-latex-recommended", "texlive-science")
    if shutil.which("pdflatex") is None and subprocess.run([install, *needed]).returncode != 0:
        pytest.skip("LaTeX is not installed")
    some = Table(table.cells.assign(FID="17.85 ± 0.87 (2 of 3 stopped early)"), table.axes, table.metrics, table.best)
    many = Table(pd.concat([table.cells.add_prefix(f"parameter {number}, ") for number in range(3)], axis=1))
    tables = [table.only(["fid"]), table.only(["fid", "is", "precision", "recall"]), table, some.only(["fid"]), many]
    body = "\n".join(latex(each, "50% of _x_", f"tab:{number}") for number, each in enumerate(tables))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage[textwidth=6.75in]{geometry}\usepackage{booktabs,graphicx,siunitx}"
        rf"\begin{{document}}{body}\ref{{tab:1}}\end{{document}}",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall("Overfull.*|LaTeX Font Warning.*shape.*", done.stdout)
    assert r"\begin{table}" in latex(tables[0], "", "")
    assert r"\begin{table*}" in latex(tables[2], "", "")
