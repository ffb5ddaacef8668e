"""What distinguishes results from one another: the settings in which they differ."""

import warnings
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import yaml
from pydantic import ValidationError

from ear.config import RunConfig
from ear.config.dotted import leaves
from ear.config.earlier import resolve_auto_precision
from ear.config.hashed import EVALUATED, TRAINED, hashed_values
from ear.config.numbers import RECORDED
from ear.store.recorded_config import CONFIG
from ear.store.store import Entry, Store

ALWAYS = ("data.name", "seed")  # of each result, whether or not others have the same
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # these files are as `yaml.safe_dump` writes them


def distinguishing(store: Store, entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
    """Return, by key, the dataset, the seed, and the settings in which results of this kind differ, by dotted path.

    Only settings that can influence a result count: of a training, those of its stages, and none of sampling. Results
    whose configuration can't be read are left out, as are extractors and references, which have none.
    """
    values: dict[str, dict[str, Any]] = {}
    kinds: dict[str, list[str]] = {}
    influential: dict[str, set[str]] = {}
    for entry in entries:
        if (config := _config(store, entry)) is None:
            continue
        config = _as_far_as(config, entry)
        values[entry.key] = dict(leaves(config.model_dump(mode="json")))
        kinds.setdefault(entry.kind, []).append(entry.key)
        reaches = TRAINED if entry.kind == "training" else TRAINED | EVALUATED
        influential.setdefault(entry.kind, set()).update(path for path, _ in leaves(hashed_values(config, reaches)))
    found: dict[str, dict[str, Any]] = {}
    for kind, keys in kinds.items():
        differing = {
            path
            for path in influential[kind]
            if len({repr(values[key][path]) for key in keys if path in values[key]}) > 1
        }
        wanted = [*ALWAYS, *sorted(differing.difference(ALWAYS))]
        found |= {key: {path: values[key][path] for path in wanted if path in values[key]} for key in keys}
    return found


def unusual(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return of each result, as from `distinguishing`, the dataset, the seed, and what most others have differently."""
    counts: dict[str, Counter[str]] = {}
    for each in settings.values():
        for path, value in each.items():
            counts.setdefault(path, Counter())[repr(value)] += 1
    usual = {path: counted.most_common(1)[0][0] for path, counted in counts.items()}
    return {
        key: {path: value for path, value in each.items() if path in ALWAYS or repr(value) != usual[path]}
        for key, each in settings.items()
    }


def _config(store: Store, entry: Entry) -> RunConfig | None:
    """The configuration recorded with a result; None if there is none that can be read."""
    try:
        values = yaml.load((store.path(entry.key) / CONFIG).read_bytes(), _Loader)  # a SafeLoader
        with warnings.catch_warnings(action="ignore"):
            return RunConfig.model_validate(resolve_auto_precision(values, "float32"), context={RECORDED: True})
    except (OSError, ValueError, AttributeError, yaml.YAMLError, ValidationError):
        return None


def _as_far_as(config: RunConfig, entry: Entry) -> RunConfig:
    """A configuration without the stages after the one whose training this is."""
    step = entry.details.get("step")
    if entry.kind != "training" or step is None:
        return config
    starts = [0, *accumulate(config.stage_steps)][:-1]
    stages = tuple(stage for stage, start in zip(config.training.stages, starts, strict=True) if start < max(step, 1))
    return config.model_copy(update={"training": config.training.model_copy(update={"stages": stages})})
