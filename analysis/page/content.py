"""The content of a report's page, before it becomes HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class PageCell:
    """A cell of a table."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class PageKey:
    """A result in the store."""

    key: str
    seed: int
    link: str = ""  # address of the run in MLflow


@dataclass(frozen=True)
class PageRow:
    """A row of a table, with what it rests on."""

    cells: Sequence[PageCell]
    name: str = ""  # the configuration's, as in `α 1.0, CFG 2.0`
    anchor: str = ""  # unique on the page
    keys: Sequence[PageKey] = ()  # of the store's results behind the row, a run each


@dataclass(frozen=True)
class PageTable:
    """A table."""

    title: str
    headings: Sequence[str]
    rows: Sequence[PageRow]
    caption: str = ""
    titled: bool = False  # whether the title is shown


@dataclass(frozen=True)
class PageFigure:
    """A picture."""

    file: Path  # PNG
    title: str  # also the text for readers who do not see it


@dataclass(frozen=True)
class PageSection:
    """A sweep's part of the page."""

    title: str
    anchor: str  # unique on the page: letters, digits, - and _
    findings: str = ""
    notice: str = ""  # what keeps the section from being final
    tables: Sequence[PageTable] = ()
    figures: Sequence[PageFigure] = ()
    facts: Sequence[tuple[str, str]] = ()  # name and value, such as a promotion's


@dataclass(frozen=True)
class PageVerdict:
    """The verdict on one of the paper's claims."""

    claim: str
    source: str  # in the paper
    verdict: str
    evidence: Sequence[tuple[str, str]]  # name and value
    anchors: Sequence[str] = ()  # of the sections with the numbers


@dataclass(frozen=True)
class Page:
    """A report's page."""

    title: str
    lead: str
    sections: Sequence[PageSection]
    verdicts: Sequence[PageVerdict] = ()
    verdicts_note: str = ""  # what all verdicts have in common
    provenance: Sequence[tuple[str, str]] = field(default_factory=tuple)  # name and value
