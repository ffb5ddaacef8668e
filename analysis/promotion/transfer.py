"""What of a sweep's findings carries over to a model of another size, and what stays that model's own.

What a scoring rule, sampling or a temperature is set to has a meaning at any size. Sizes, data, batches, lengths and
learning rates have not: a width of 48 that wins on 8x8 pixels says nothing about ImageNet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ear.config.dotted import leaves
from ear.config.loading import set_dotted
from sweeps.spec.naming import shown

# The first entry that a parameter begins with decides: None if it carries over, else why it does not.
RULES: dict[str, str | None] = {
    "scoring.generator": "the head's size",
    "scoring.denoiser": "the head's size",
    "scoring": None,
    "optimizer.generator_lr_scale": None,
    "optimizer": "depends on the batch and the length of training",
    "sampling.steps": "depends on the number of tokens",
    "sampling": None,
    "training.label_drop": None,
    "training.mask_ratio_min": None,
    "training.mask_ratio_std": None,
    "training": "batches, lengths and learning rates depend on the size",
    "model": "the model's size",
    "data": "the data",
    "tokenizer": "the tokenizer",
    "evaluation": "how this scale is measured",
    "execution": "how this scale is executed",
}
STAGES, TEMPERATURE = "training.stages", "train_temperature"


@dataclass(frozen=True)
class Setting:
    """A value that the sweep found or set."""

    parameter: str  # dotted
    value: Any
    origin: str  # where the sweep has it from
    kept: str = ""  # why it does not carry over; empty if it does

    @property
    def words(self) -> str:
        """Formats the setting: `scoring.alpha=1.25 (winner)`."""
        return f"{self.parameter}={shown(self.value)} ({self.origin})"


def normal(parameter: str, stages: int) -> str:
    """Returns a dotted parameter with the index of a training stage counted from 0."""
    parts = parameter.split(".")
    if parameter.startswith(f"{STAGES}."):
        parts[2] = str(int(parts[2]) % stages)
    return ".".join(parts)


def settings_of(parameters: Mapping[str, Any], fixed: Mapping[str, Any], stages: int) -> dict[str, Setting]:
    """Returns what a sweep found and set, by dotted path with a plain value.

    Args:
        parameters: the winner's values of the axes.
        fixed: the sweep's `set`.
        stages: training stages of the sweep's configurations.
    """
    found: dict[str, Setting] = {}
    for origin, values in (("set in the sweep", fixed), ("winner", parameters)):
        for parameter, value in values.items():
            for path, each in leaves(value, normal(parameter, stages)):
                found[path] = Setting(path, each, origin)
    return found


def carry_over(
    settings: Mapping[str, Setting], stages: int, values: dict[str, Any]
) -> tuple[dict[str, Setting], list[Setting]]:
    """Sets in the `values` of a scale what carries over to it; returns that, by path, and what does not.

    Args:
        settings: as `settings_of` returns them.
        values: of a scale with the winner's scoring rule.
        stages: training stages of the sweep's configurations.
    """
    carried: dict[str, Setting] = {}
    kept: list[Setting] = []
    own = len(values["training"]["stages"])
    for path, setting in settings.items():
        target, why = place(path, stages, own)
        if path == "scoring.name":
            continue  # the scale's is the same
        if why:
            kept.append(Setting(path, setting.value, setting.origin, why))
        else:
            set_dotted(values, target, setting.value)
            carried[target] = Setting(target, setting.value, setting.origin)
    return carried, kept


def place(path: str, stages: int, own: int) -> tuple[str, str]:
    """Returns where a scale with `own` training stages has a parameter of a sweep with `stages`, and why it stays the
    scale's; empty if it carries over."""
    if path.startswith(f"{STAGES}.") and path.endswith(f".{TEMPERATURE}"):
        number = int(path.split(".")[2])
        if number == stages - 1:
            return f"{STAGES}.{own - 1}.{TEMPERATURE}", ""
        if number < own - 1:
            return path, ""
        return path, "this scale has no such stage"
    for prefix, why in RULES.items():
        if path == prefix or path.startswith(f"{prefix}."):
            return path, why or ""
    return path, "this scale's own"
