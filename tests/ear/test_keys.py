"""Keys hold what they claim, and survive growth: those of the shipped configurations are frozen, and so are defaults.

A golden key that changes means that every store is computed anew: then `ear store migrate` has to carry results over.
Both files are written by `python tests/ear/test_keys.py`, whose diff shows what it costs.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from ear.config import RunConfig, config_hash, load_config
from ear.config.hashed import EVALUATED, TRAINED, hashed_values, trained_differently
from ear.config.loading import models_in, shipped_configs
from ear.config.schema import HyvarinenConfig, Section, TrainingConfig
from ear.data import load_dataset
from ear.store import RECIPE_VERSION, reference_keys
from ear.store.keys import evaluation_key, stage_keys

GOLDEN = Path(__file__).with_name("golden")
KEYS, DEFAULTS = GOLDEN / "keys.json", GOLDEN / "defaults.json"


def keys_of(config: RunConfig) -> dict[str, Any]:
    """With hashes of nothing in the places of datasets that are not embedded."""
    embedded = config.data.name == "digits"
    stages = stage_keys(config, load_dataset(config.data).content_hash() if embedded else "")
    found: dict[str, Any] = {"stages": list(stages)}
    reference = ""
    if embedded:
        found["extractor"], reference = reference_keys(config, load_dataset(config.data))
        found["reference"] = reference
    return {**found, "evaluation": evaluation_key(stages[-1], config, reference)}


def defaults() -> dict[str, Any]:
    """Of every field that can enter a key and has one, as `Section.field`."""
    found = {}
    waiting: list[tuple[type[Any], str]] = [(RunConfig, "training")]
    while waiting:
        section, above = waiting.pop()
        for name, field in section.model_fields.items():
            extra: Any = field.json_schema_extra or {}
            reach = extra.get("reach", above)
            default = field.get_default(call_default_factory=True)
            waiting += [(inner, reach) for inner in models_in(field.annotation)]
            # A section at its default is one whose fields are.
            if reach != "nothing" and default is not PydanticUndefined and not isinstance(default, Section):
                found[f"{section.__name__}.{name}"] = default
    return json.loads(json.dumps(dict(sorted(found.items()))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", shipped_configs())
def test_keys_of_shipped_configurations_are_frozen(name: str) -> None:
    assert keys_of(load_config(name)) == json.loads(KEYS.read_text())[name]


def test_every_golden_key_is_of_a_shipped_configuration() -> None:
    assert sorted(json.loads(KEYS.read_text())) == shipped_configs()


def test_defaults_are_frozen() -> None:
    """A default does not enter keys, so another one would make the store serve the old one's results: then
    RECIPE_VERSION has to be raised. A new field with a default only has to be added to the file."""
    golden = json.loads(DEFAULTS.read_text())
    assert defaults() == golden["defaults"]
    assert golden["recipe_version"] == RECIPE_VERSION


class GrownTraining(TrainingConfig):
    gradient_noise: float = 0.0


class GrownHyvarinen(HyvarinenConfig):
    heads: tuple[int, ...] = ()


def grown(config: RunConfig, **values: Any) -> RunConfig:
    """As if the schema of training had one more field."""
    training = GrownTraining.model_validate({**dict(config.training), **values})
    return config.model_copy(update={"training": training})


@pytest.mark.parametrize("name", ["digits", "digits_hyvarinen", "imagenet256_base"])
def test_a_new_field_changes_no_key_until_it_is_set(name: str) -> None:
    config = load_config(name)
    assert keys_of(grown(config)) == keys_of(config)
    noisy = keys_of(grown(config, gradient_noise=0.1))
    assert not set(noisy["stages"]) & set(keys_of(config)["stages"])
    assert noisy["evaluation"] != keys_of(config)["evaluation"]


def test_a_new_field_of_a_union_s_member_changes_no_key_until_it_is_set() -> None:
    config = load_config("digits_hyvarinen")
    values = dict(config.scoring)
    same, other = (
        config.model_copy(update={"scoring": GrownHyvarinen.model_validate({**values, "heads": heads})})
        for heads in ((), (1, 2))
    )
    assert keys_of(same) == keys_of(config)
    assert keys_of(other) != keys_of(config)


def test_a_default_that_is_written_out_is_the_default() -> None:
    assert keys_of(load_config("digits", ["training.label_drop=0.1", "sampling.cfg=1"])) == keys_of(
        load_config("digits")
    )


def test_two_members_of_a_union_never_share_a_key() -> None:
    """Each is a section of which nothing may be set but its name."""
    configs = [load_config(name) for name in ("digits", "fashion_mnist")]
    parts = [hashed_values(config, TRAINED)["data"] for config in configs]
    assert parts == [{"name": "digits"}, {"name": "fashion_mnist"}]


def test_precisions_have_keys_of_their_own() -> None:
    float32, bfloat16 = load_config("digits"), load_config("digits", ["execution.precision=bfloat16"])
    one, other = keys_of(float32), keys_of(bfloat16)
    assert not set(one["stages"]) & set(other["stages"])
    assert config_hash(float32) != config_hash(bfloat16)
    # Of the same weights, too: sampling is done in that precision.
    assert evaluation_key("weights", float32, "") != evaluation_key("weights", bfloat16, "")


def test_what_one_rule_reads_is_in_no_other_s_key() -> None:
    for name, enters in (("digits", False), ("digits_hyvarinen", True)):
        config = load_config(name, ["sampling.denoising_steps=50"])
        assert (hashed_values(config, EVALUATED)["sampling"].get("denoising_steps") == 50) is enters
        assert (keys_of(config)["evaluation"] != keys_of(load_config(name))["evaluation"]) is enters


def test_how_trainings_differ_is_named_up_to_a_stage() -> None:
    config = load_config("digits")
    other = load_config(
        "digits", ["scoring.alpha=1.5", "training.stages.1.train_temperature=0.9", "execution.precision=bfloat16"]
    )
    assert trained_differently(config, other, 1) == ["execution.precision", "scoring.alpha"]
    assert trained_differently(config, other, 2) == [
        "execution.precision",
        "scoring.alpha",
        "training.stages.1.train_temperature",
    ]
    assert trained_differently(config, load_config("digits", ["sampling.cfg=2", "execution.threads=2"]), 2) == []


if __name__ == "__main__":
    before = json.loads(DEFAULTS.read_text())
    changed = [name for name, value in before["defaults"].items() if defaults().get(name) != value]
    if changed and before["recipe_version"] == RECIPE_VERSION:
        sys.exit(f"Raise RECIPE_VERSION first: stores would serve results of other values of {', '.join(changed)}.")
    KEYS.write_text(json.dumps({name: keys_of(load_config(name)) for name in shipped_configs()}, indent=1) + "\n")
    DEFAULTS.write_text(json.dumps({"recipe_version": RECIPE_VERSION, "defaults": defaults()}, indent=1) + "\n")
