"""Figures as files: their bytes, their texts at final size, their colours."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from plotted import ALPHA, COLLAPSE, runs, texts

from analysis.paper import paper_ablation
from analysis.plots.importances import COLOURS
from analysis.plots.metric_curve import metric_curve
from analysis.plots.paired_differences import paired_differences
from analysis.plots.saving import Plot, save_figure
from analysis.plots.style import COLUMN, FULL, OURS, OURS_NULL, PAPER


def curve() -> Figure:
    return metric_curve(runs(COLLAPSE), ALPHA, paper=paper_ablation([ALPHA]))


def test_equal_figures_are_equal_bytes(tmp_path: Path) -> None:
    figures = [paired_differences(runs(COLLAPSE), [ALPHA]) for _ in "ab"]
    first, second = (
        save_figure(Plot("x", figure, "said."), tmp_path / name) for figure, name in zip(figures, "ab", strict=True)
    )
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    png, pdf = first
    assert [file.suffix for file in first] == [".png", ".pdf"]
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    assert b"/Subtype /Image" not in pdf.read_bytes()  # vectors
    with Image.open(png) as opened:
        assert opened.text["Description"] == "said."  # type: ignore[attr-defined]
        assert opened.width == COLUMN * 200


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "from test_plot_files import *; save_figure(Plot('x', curve(), ''), Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / seed)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""})
    for kind in ("png", "pdf"):
        assert (tmp_path / "1" / f"x.{kind}").read_bytes() == (tmp_path / "2" / f"x.{kind}").read_bytes()


def test_texts_are_eight_to_nine_points_at_the_width_of_a_column_or_a_page() -> None:
    for figure in (curve(), paired_differences(runs(COLLAPSE), [ALPHA])):
        assert figure.get_size_inches()[0] in (COLUMN, FULL)
        assert {text.get_fontsize() for text in texts(figure)} <= {8, 9}


# Machado, Oliveira & Fernandes 2009, severity 1: on linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def lab(colour: str, deficiency: str) -> NDArray[np.float64]:
    """CIE L*a*b* (D65) of a colour as it is seen; a distance of 2.3 is just noticeable."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
@pytest.mark.parametrize("colours", [(OURS, OURS_NULL, PAPER), COLOURS])
def test_colours_that_stand_beside_one_another_are_told_apart(colours: tuple[str, ...], deficiency: str) -> None:
    distances = [
        np.linalg.norm(lab(one, deficiency) - lab(other, deficiency)) for one, other in combinations(colours, 2)
    ]
    assert min(distances) > 20


def test_lab_is_the_standard_s() -> None:
    np.testing.assert_allclose(lab("white", "none"), [100, 0, 0], atol=0.1)
    np.testing.assert_allclose(lab("red", "none"), [53.24, 80.09, 67.20], atol=0.1)
