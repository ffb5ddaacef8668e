"""Saves figures as PNG and PDF with the same bytes for the same figure."""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.plots.style import house_style
from ear.files.writing import write_atomically


@dataclass(frozen=True)
class Plot:
    """A figure with the name of its files and its caption."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class SavedPlot:
    """The files of a plot."""

    caption: str  # without the evaluation conditions
    png: Path
    pdf: Path

    @property
    def files(self) -> list[Path]:
        """Both files."""
        return [self.png, self.pdf]


@house_style()
def save_figure(plot: Plot, folder: Path) -> list[Path]:
    """Saves FOLDER/NAME.png and NAME.pdf; returns their paths.

    The caption goes into the files' metadata (PNG `Description`, PDF `Subject`), so that a copied file still says what
    it was measured against. No date or version is written, so that equal figures have equal bytes.
    """
    figure, png, pdf = plot.figure, folder / f"{plot.name}.png", folder / f"{plot.name}.pdf"
    about = {"Software": None, "Title": plot.name, "Description": plot.caption}
    write_atomically(png, lambda path: figure.savefig(path, format="png", metadata=about))
    about = {"Creator": None, "Producer": None, "CreationDate": None, "Title": plot.name, "Subject": plot.caption}
    write_atomically(pdf, lambda path: figure.savefig(path, format="pdf", metadata=about))
    return [png, pdf]
