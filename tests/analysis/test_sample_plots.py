"""Sample sheets: grids are cut into their images, and every image stands where its row and column say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from numpy.typing import NDArray
from plotted import ALPHA, overlapping, runs

from analysis.plots.report_samples import first_seeds, rows_shown, varies_guidance
from analysis.plots.sample_images import SampleImages, cut, guided_images, sample_images
from analysis.plots.sample_sheet import (
    GAP,
    TWICE_UP_TO,
    fits_as_grid,
    grid_roles,
    in_lines,
    mosaic,
    sample_grid,
    sample_list,
)
from analysis.plots.style import FULL
from analysis.results import METRICS, SweepResults
from analysis.statistics import summarise
from ear.sampling import save_grid
from ear.store import Store

AXES = ["sampling.cfg", "sampling.steps"]


def images(rows: int, columns: int, size: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "channels", "rows"), [(8, 1, 10), (8, 3, 2), (16, 1, 1), (28, 1, 3), (32, 3, 2), (64, 3, 1)]
)
def test_cutting_undoes_saving(size: int, channels: int, rows: int, tmp_path: Path) -> None:
    saved = torch.randint(0, 256, (10 * rows, channels, size, size), dtype=torch.uint8)
    save_grid(saved, tmp_path / "grid.png", columns=10)
    found = cut(imread(tmp_path / "grid.png"))
    assert found is not None
    expected = np.moveaxis(saved.expand(-1, 3, -1, -1).numpy(), 1, -1).reshape(rows, 10, size, size, 3)
    np.testing.assert_array_equal(found, expected)


def test_a_picture_that_is_no_grid_is_not_cut() -> None:
    for shape in ((4, 4, 3), (100, 100, 4), (37, 364, 3)):
        assert cut(np.zeros(shape, np.float32)) is None


def results_of(frame: pd.DataFrame, axes: list[str]) -> SweepResults:
    return SweepResults("s", axes, frame, [], None, pd.DataFrame(), ["fid"])


def test_the_store_s_grid_is_read_and_a_missing_one_is_none(tmp_path: Path) -> None:
    class NoArtifacts:
        def download_artifacts(self, *_: str) -> str:
            raise OSError

    store = Store(tmp_path)
    results = SweepResults("s", [ALPHA], pd.DataFrame(), [], NoArtifacts(), pd.DataFrame(), ["fid"])
    run = {"key": "k", "run_id": "r", "stages": []}
    store.path("k").mkdir()
    assert sample_images(results, run, store) is None
    for name, rows in (("samples.png", 10), ("samples_null.png", 1)):
        save_grid(
            torch.full((10 * rows, 1, 8, 8), 51 * rows // 2, dtype=torch.uint8), store.path("k") / name, columns=10
        )
    found = sample_images(results, run, store)
    assert found is not None
    assert found.labelled.shape == (10, 10, 8, 8, 3)
    assert (found.unlabelled == 25).all()
    assert guided_images(run, store, 10, 10) is None  # there is no checkpoint


def test_a_mosaic_has_its_tiles_in_order_with_white_gaps() -> None:
    tiles = images(2, 3)
    picture = mosaic(tiles)
    gap = round(GAP * 32)
    assert picture.shape == (2 * 32 + gap, 3 * 32 + 2 * gap, 3)
    np.testing.assert_array_equal(picture[32 + gap :: 4, 2 * (32 + gap) :: 4], tiles[1, 2])
    assert (picture[32 : 32 + gap] == 255).all()


def test_a_list_has_a_block_for_each_configuration_and_real_images_last() -> None:
    frame = runs({1.0: [16.5, 18.5], 1.5: [20.0, 21.0], 1.75: ["diverged"], 2.0: [83.2, 86.4]})
    summary = summarise(frame, [ALPHA], METRICS)
    pictures = {row: SampleImages(images(10, 10, seed=row), images(1, 10, seed=row)) for row in (0, 1, 3)}
    figure = sample_list(summary, [ALPHA], "fid", pictures, images(10, 10, seed=9))
    assert figure.get_size_inches()[0] == FULL
    words = [text.get_text() for text in figure.texts]
    assert [each.split("\n")[0] for each in words[2:]] == [
        r"$\alpha$ = 1.0",
        r"$\alpha$ = 1.5",
        r"$\alpha$ = 2.0",
        "real images",
    ]
    assert words[2].split("\n")[1] == "FID 17.50 ± 12.71"  # t(0.975, 1) = 12.7062, times 1: the table's mean
    shown = [panel.images[0].get_array() for panel in figure.axes]
    assert len(shown) == 2 * 3 + 1
    for block, row in zip(shown[::2], (0, 1, 3), strict=False):  # classes along x, two images of each
        np.testing.assert_array_equal(block, mosaic(pictures[row].labelled[:, :2].swapaxes(0, 1)))
    assert overlapping(figure) == []


def test_many_configurations_have_one_line_each() -> None:
    frame = runs({1 + at / 100: [20.0 + at] for at in range(TWICE_UP_TO + 1)})
    pictures = {row: SampleImages(images(10, 10), images(1, 10)) for row in range(len(frame))}
    figure = sample_list(summarise(frame, [ALPHA], METRICS), [ALPHA], "fid", pictures)
    assert figure.axes[0].images[0].get_array().shape[0] == 32  # type: ignore[union-attr]
    assert overlapping(figure) == []


def test_two_axes_are_laid_out_as_their_grid() -> None:
    frame = runs({(cfg, steps): [20.0] for cfg in (1.0, 1.5, 2.0) for steps in (4, 8)}, " ".join(AXES))
    summary = summarise(frame, AXES, METRICS)
    assert grid_roles(summary, AXES) == (AXES[0], AXES[1])
    assert fits_as_grid(summary, AXES)
    pictures = {row: SampleImages(images(10, 10, seed=row), images(1, 10)) for row in range(6)}
    figure = sample_grid(summary, AXES, "fid", pictures, images(10, 10, seed=9))
    assert len(figure.axes) == 6 + 2
    corners = [(round(panel.get_position().x0, 3), round(panel.get_position().y1, 3)) for panel in figure.axes[:6]]
    assert len({x for x, _ in corners}) == 2
    assert len({y for _, y in corners}) == 3
    for panel, row in zip(figure.axes[:6], range(6), strict=True):  # in the table's order: steps fastest
        np.testing.assert_array_equal(panel.images[0].get_array(), mosaic(in_lines(pictures[row].labelled[:, 0])))
    assert overlapping(figure) == []


def test_a_wide_grid_is_a_list() -> None:
    frame = runs({(cfg, steps): [20.0] for cfg in range(7) for steps in range(7)}, " ".join(AXES))
    assert not fits_as_grid(summarise(frame, AXES, METRICS), AXES)


def test_the_first_finished_seed_is_shown_and_guidance_is_kept_where_it_is_studied() -> None:
    frame = runs({1.0: ["failed", 18.5], 1.5: ["diverged", "diverged"], 2.0: [83.2, 86.4]}).assign(key="k")
    results = results_of(frame, [ALPHA])
    shown = rows_shown(results, summarise(frame, [ALPHA], METRICS))
    assert {index: run["seed"] for index, run in first_seeds(results, shown).items()} == {0: 1, 2: 0}
    assert [varies_guidance(results_of(frame, axes)) for axes in ([ALPHA], ["sampling.steps"], ["sampling.cfg"])] == [
        False,
        False,
        True,
    ]
