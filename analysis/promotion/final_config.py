"""The configuration of a promoted model, as YAML with a comment on each value that says where it comes from."""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import yaml

from analysis.promotion.transfer import Setting, carry_over, settings_of
from ear.config import RunConfig
from ear.config.dotted import leaves
from ear.config.loading import as_mapping, read_config, validate
from ear.config.yaml_text import parse_yaml
from ear.errors import UserError

COMMENT_COLUMN = 44
WIDTH = 110  # of comments, in characters
DEFAULT = "default"


@dataclass(frozen=True)
class FinalConfig:
    """A configuration to train, and where its values come from."""

    config: RunConfig
    origins: dict[str, str]  # by dotted path
    carried: Sequence[Setting] = ()  # of a scale: what it has from the sweep
    kept: Sequence[Setting] = ()  # of a scale: what it has not

    def text(self, heading: Sequence[str]) -> str:
        """Returns the YAML, below a heading whose lines become comments; reading it gives the same configuration."""
        comments = [
            line
            for each in heading
            for line in fill(
                " ".join(each.split()),
                WIDTH,
                initial_indent="# ",
                subsequent_indent="#   ",
                break_long_words=False,
                break_on_hyphens=False,
            ).splitlines()
        ]
        lines = [*comments, *emitted(self.config.model_dump(mode="json"), self.origins)]
        text = "\n".join(lines) + "\n"
        read = validate(RunConfig, as_mapping(parse_yaml(text, "the final YAML"), "the final YAML"), "the final YAML")
        assert read == self.config, "the YAML gives another configuration"
        return text


def same_scale(config: RunConfig, parameters: Mapping[str, Any], sweep: Mapping[str, Any]) -> FinalConfig:
    """Returns the winner's own configuration, with the seed of `config`.

    Args:
        config: the winner's, of the sweep's first seed.
        parameters: the winner's values of the axes.
        sweep: the settings of the sweep's YAML.
    """
    base = os.path.basename(str(sweep["base"]))  # noqa: PTH119 (a shipped name or a path)
    origins = base_origins(str(sweep["base"]), f"base {base}", config)
    stages = len(config.training.stages)
    origins |= {path: each.origin for path, each in settings_of(parameters, sweep["set"], stages).items()}
    origins["seed"] = "first seed of the sweep: this training is in the store"
    origins["execution.threads"] = "resources of the sweep"
    return FinalConfig(config, origins)


def other_scale(scale: str, config: RunConfig, parameters: Mapping[str, Any], sweep: Mapping[str, Any]) -> FinalConfig:
    """Returns the configuration `scale` with what carries over from the winner; other arguments as for `same_scale`.

    Raises:
        UserError: there is no such configuration, or it does not allow the winner's values.
    """
    values = read_config(scale)
    rule = validate(RunConfig, values, scale).scoring.name
    if rule != config.scoring.name:
        raise UserError(
            f"--scale {scale}: its scoring rule is {rule}, but this sweep's is {config.scoring.name}, and the size of "
            f"its head can't be guessed: give a scale with scoring.name {config.scoring.name}."
        )
    name = os.path.basename(scale)  # noqa: PTH119
    stages = len(config.training.stages)
    settings = settings_of(parameters, sweep["set"], stages)
    origins = {path: name for path, _ in leaves(values)}
    carried, kept = carry_over(settings, stages, values)
    found = validate(RunConfig, values, f"{scale} with the winner's values")
    origins |= {path: each.origin for path, each in carried.items()}
    return FinalConfig(found, origins, list(carried.values()), kept)


def base_origins(base: str, words: str, config: RunConfig) -> dict[str, str]:
    """Returns the origin of each value that the base gives; of all values if the base can't be read any more."""
    with suppress(UserError):
        return {path: words for path, _ in leaves(read_config(base))}
    return {path: words for path, _ in leaves(config.model_dump(mode="json"))}


def emitted(value: Any, origins: Mapping[str, str], path: str = "", indent: str = "", first: str = "") -> list[str]:
    """Returns a section as lines of YAML. Values that are not given (null) are left out.

    Args:
        path: the section's dotted path.
        indent: before each line; before the first one, `first` replaces its end.
    """
    lines: list[str] = []
    for name, each in value.items():
        here = f"{path}.{name}" if path else name
        begin = first if first and not lines else indent
        if isinstance(each, dict):
            lines += [f"{begin}{name}:", *emitted(each, origins, here, indent + "  ")]
        elif isinstance(each, list) and any(isinstance(item, dict) for item in each):
            lines.append(f"{begin}{name}:")
            for number, item in enumerate(each):
                lines += emitted(item, origins, f"{here}.{number}", indent + "    ", indent + "  - ")
        elif each is not None:
            lines.append(
                f"{begin}{name}: {scalar(each)}".ljust(COMMENT_COLUMN - 1) + f" # {origins.get(here, DEFAULT)}"
            )
    return lines


def scalar(value: Any) -> str:
    """Returns a plain value, or a list of them, as YAML on one line."""
    text = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()[1:-1]
    if isinstance(value, str) and ("\n" in text or parse_yaml(text, "a value") != value):
        return json.dumps(value)  # PyYAML writes YAML 1.1, in which 1e3 is text
    return text
