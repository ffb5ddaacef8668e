"""Every parameter of the schema changes exactly the keys that its declared reach says."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest

from ear.config import RunConfig, load_config
from ear.config.loading import models_in
from ear.config.reach import parameter_reach
from ear.config.schema import Reach, Section
from ear.data import load_dataset
from ear.errors import UserError
from ear.store.keys import evaluation_key, stage_keys

BASES = {
    "energy": load_config("digits"),
    "hyvarinen": load_config("digits_hyvarinen"),
    "kl": load_config("imagenet256_base"),
}


def leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted parameter, value, annotation) of everything that can be set."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for index, item in enumerate(value):
                yield from leaves(item, f"{prefix}{name}.{index}.")
        else:
            yield f"{prefix}{name}", value, field.annotation


def another(value: Any, annotation: Any) -> Any:
    """A value of the same type that is not this one; ranges are not looked at, keys don't either."""
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(value + 1)
    if isinstance(value, tuple):
        return tuple(each / 2 for each in value)
    return "elsewhere" if str in get_args(annotation) else 7


def keys(config: RunConfig) -> tuple[tuple[str, ...], str]:
    """Of the stages, and of the evaluation with the training's share taken out."""
    return stage_keys(config, dataset_hash=""), evaluation_key("", config, "")


def changed(config: RunConfig, parameter: str, value: Any) -> RunConfig:
    """With one value replaced, unvalidated."""

    def replace(section: Any, path: list[str]) -> Any:
        if not path:
            return value
        if isinstance(section, tuple):
            index = int(path[0])
            return (*section[:index], replace(section[index], path[1:]), *section[index + 1 :])
        return section.model_copy(update={path[0]: replace(getattr(section, path[0]), path[1:])})

    result: RunConfig = replace(config, parameter.split("."))
    return result


PARAMETERS = [(base, *leaf) for base, config in BASES.items() for leaf in leaves(config)]


@pytest.mark.parametrize(("base", "parameter", "value", "annotation"), PARAMETERS, ids=lambda each: str(each)[:40])
def test_keys_change_as_declared(base: str, parameter: str, value: Any, annotation: Any) -> None:
    config = BASES[base]
    if parameter.endswith("name"):  # of a union's member: its other fields would have to change as well
        assert parameter_reach(parameter, config).reach is Reach.TRAINING
        return
    reach = parameter_reach(parameter, config)
    if parameter == "sampling.denoising_steps" and base != "hyvarinen":
        assert keys(changed(config, parameter, 7)) == keys(config)  # another rule reads it
        return
    if reach.reach is Reach.NOTHING and str in get_args(annotation):
        return  # a location: what lies there is hashed instead, by its content
    before, after = keys(config), keys(changed(config, parameter, another(value, annotation)))
    stages = len(config.training.stages)
    first = {Reach.TRAINING: 0, Reach.EVERYTHING: 0, Reach.STAGE: reach.stage}.get(reach.reach, stages)
    assert [a != b for a, b in zip(before[0], after[0], strict=True)] == [stage >= first for stage in range(stages)]
    assert (before[1] != after[1]) == (reach.reach in (Reach.EVALUATION, Reach.EVERYTHING))


def test_every_field_is_among_them() -> None:
    """Each leaf of each section of the schema, whichever member of a union it belongs to, was tried above."""
    tried = {parameter.split(".")[-1] for _, parameter, _, _ in PARAMETERS}
    missing = set()
    waiting: list[type[Any]] = [RunConfig]
    while waiting:
        section = waiting.pop()
        for name, field in section.model_fields.items():
            inner = models_in(field.annotation)
            waiting += inner
            if not inner and name not in tried:
                missing.add(f"{section.__name__}.{name}")
    assert missing == set()


def test_what_the_loss_means() -> None:
    config = BASES["energy"]
    marked = {p for base, p, *_ in PARAMETERS if base == "energy" and parameter_reach(p, config).defines_loss}
    assert {"scoring.alpha", "training.stages.1.train_temperature", "training.mask_ratio_min"} <= marked
    assert not {"scoring.generator.width", "optimizer.generator_lr_scale", "training.batch_size"} & marked


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(UserError, match=r"no parameter 'scoring\.alpa'"):
        parameter_reach("scoring.alpa", BASES["energy"])


def test_stages_count_from_both_ends() -> None:
    assert parameter_reach("training.stages.-1.steps", BASES["energy"]).stage == 1
    assert parameter_reach("training.stages.0.steps", BASES["energy"]).stage == 0


def test_configuration_s_dataset_enters_by_content() -> None:
    config = BASES["energy"]
    assert stage_keys(config, load_dataset(config.data).content_hash()) != stage_keys(config, "")
