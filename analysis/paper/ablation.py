"""The paper's numbers, read from data files."""

from dataclasses import dataclass
from importlib import resources

TABLES = ("alpha.yaml",)


@dataclass(frozen=True)
class PaperAblation:
    """One table of the paper."""

    axis: str  # dotted parameter that the table varies
    setting: str
    values: list[float]
    printed: dict[str, list[str]]  # metric -> one number per value, with the paper's digits

    def text(self, metric: str, at: float) -> str | None:
        """Returns the number as printed in the paper, or None if there is none."""
        known = dict(zip(self.values, self.printed[metric], strict=True))
        return known.get(at)

    def value(self, metric: str, at: float) -> float | None:
        """Returns the paper's number, or None if there is none."""
        text = self.text(metric, at)
        return None if text is None else float(text)


def paper_ablation(axes: list[str]) -> PaperAblation | None:
    """Returns the paper's table over these axes, or None; the paper has numbers only for single axes."""
    from ear.config.yaml_text import parse_yaml  # imported here: it takes pydantic, which `ear --help` does without

    if len(axes) != 1:
        return None
    for name in TABLES:
        text = (resources.files("analysis.paper") / name).read_text(encoding="utf-8")
        ablation = PaperAblation(**parse_yaml(text, name))
        if ablation.axis == axes[0]:
            return ablation
    return None
