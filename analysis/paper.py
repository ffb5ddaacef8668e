"""The paper's numbers, kept as data files."""

from dataclasses import dataclass
from importlib import resources

from ear.config.yaml_text import parse_yaml


@dataclass(frozen=True)
class PaperAblation:
    """One table of the paper."""

    axis: str  # the dotted parameter that it varies
    setting: str
    values: list[float]
    printed: dict[str, list[str]]  # metric -> as many numbers as values, with the paper's digits

    def text(self, metric: str, at: float) -> str | None:
        """The number as the paper prints it, or None where it gives none."""
        known = dict(zip(self.values, self.printed[metric], strict=True))
        return known.get(at)

    def value(self, metric: str, at: float) -> float | None:
        """The paper's number, or None where it gives none."""
        text = self.text(metric, at)
        return None if text is None else float(text)


def paper_ablation(axes: list[str]) -> PaperAblation | None:
    """The paper's table over these axes; it gives numbers for single axes only."""
    if len(axes) != 1:
        return None
    for file in resources.files("analysis.paper_data").iterdir():
        if file.name.endswith(".yaml"):
            ablation = PaperAblation(**parse_yaml(file.read_text(encoding="utf-8"), file.name))
            if ablation.axis == axes[0]:
                return ablation
    return None
