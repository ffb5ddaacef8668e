"""The HTML page: what it contains, that nothing on it is code, and how a browser shows it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread, imsave

from analysis.page.content import Page, PageCell, PageFigure, PageKey, PageRow, PageSection, PageTable, PageVerdict
from analysis.page.render import render

HOSTILE = '<script>alert("1")</script>"onload=x'


class Tags(HTMLParser):
    """Collects the tags of a page with their attributes, and those that are left open."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path: Path) -> Page:
    picture = tmp_path / "figure.png"
    imsave(picture, np.zeros((20, 30, 3)))
    row = PageRow([PageCell("1.0"), PageCell("17.84 ± 3.05", bold=True)], "α 1.0", "alpha-0", [PageKey("0" * 32, 0)])
    section = PageSection(
        "alpha",
        "alpha",
        findings=HOSTILE,
        notice="Incomplete: 1 of 5 runs have ended.",
        tables=[PageTable(HOSTILE, ["α", "FID ↓"], [row], HOSTILE)],
        figures=[PageFigure(picture, HOSTILE)],
    )
    verdict = PageVerdict(HOSTILE, "table 1", "not yet implemented", [("Ours", HOSTILE)], ["alpha"])
    return Page(HOSTILE, HOSTILE, [section], [verdict], HOSTILE, [("Code", HOSTILE)])


def test_names_are_text_and_nothing_is_loaded(page: Page) -> None:
    html = render(page)
    tags = Tags()
    tags.feed(html)
    assert not tags.open
    assert not {tag for tag, _ in tags.found} & {"script", "link", "iframe", "object"}
    for tag, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert re.match(r"#|data:image/png;base64,", attributes.get(name) or "#"), attributes
    assert html.count("&lt;script&gt;") >= 8


def test_a_row_leads_to_its_results_and_a_verdict_to_its_numbers(page: Page) -> None:
    html = render(page)
    assert '<a href="#alpha-0">1.0</a>' in html
    assert f'<code title="{"0" * 32}">00000000</code>' in html
    assert '<li class="not-yet-implemented">' in html
    assert '<section id="alpha">' in html
    assert "<b>17.84 ± 3.05</b>" in html


def test_the_same_content_gives_the_same_bytes(page: Page) -> None:
    assert render(page) == render(page)


@pytest.mark.slow
def test_chromium_shows_it_light_dark_and_narrow(page: Page, tmp_path: Path) -> None:
    install = Path(__file__).parents[1] / "install_debian_packages"
    if shutil.which("chromium") is None and subprocess.run([install, "chromium"]).returncode != 0:
        pytest.skip("Chromium is not installed")
    (tmp_path / "page.html").write_text(render(page), encoding="utf-8")
    brightness = {}
    for scheme, setting in (("dark", 0), ("light", 1)):
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--window-size=600,900", f"--screenshot={tmp_path / scheme}.png"]
        command += [f"--blink-settings=preferredColorScheme={setting}", (tmp_path / "page.html").as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        pixels = imread(tmp_path / f"{scheme}.png")[..., :3]
        brightness[scheme] = np.median(pixels)
        assert pixels.std() > 0.05  # there is something on it
    assert brightness["dark"] < 0.2
    assert brightness["light"] > 0.9
