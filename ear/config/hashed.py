"""The part of a configuration that is hashed into keys: values that can change a result and differ from their default.

Fields at their default are not hashed. So a new field with a default changes no key, and a store stays valid as the
schema grows. In return, defaults are frozen: changing one requires a new `RECIPE_VERSION`
(tests/ear/golden/defaults.json).
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ear.config.loading import models_in
from ear.config.schema import Reach, RunConfig, Section

TRAINED = frozenset({Reach.TRAINING, Reach.STAGE, Reach.EVERYTHING})
EVALUATED = frozenset({Reach.EVALUATION, Reach.EVERYTHING})


@dataclass(frozen=True)
class _Scope:
    """Which fields of a section to hash."""

    reaches: frozenset[Reach]
    rule: str  # the scoring rule; fields that only another rule reads are skipped
    above: Reach  # of the section itself


@dataclass(frozen=True)
class _Field:
    name: str
    scope: _Scope  # for the fields below it
    names_a_kind: bool  # the discriminator of a union, which is always hashed
    default: Any  # PydanticUndefined, which equals nothing else, for a required field


@cache
def _fields(section: type[Section], scope: _Scope) -> tuple[_Field, ...]:
    """The fields of a section to hash, or with fields to hash below them."""
    found = []
    for name, field in section.model_fields.items():
        extra: Any = field.json_schema_extra or {}
        below = replace(scope, above=Reach(extra["reach"]) if "reach" in extra else scope.above)
        sections = models_in(field.annotation)
        wanted = any(_fields(each, below) for each in sections) if sections else below.above in scope.reaches
        if wanted and extra.get("rule", scope.rule) == scope.rule:
            default = field.get_default(call_default_factory=True)
            found.append(_Field(name, below, name == "name", default))
    return tuple(found)


def hashed_values(config: RunConfig, reaches: frozenset[Reach]) -> dict[str, Any]:
    """The values with these reaches that differ from their default, as JSON values, nested as in the configuration.

    Fields that only another scoring rule reads are left out, and so are sections without any such value.
    """
    return _section(config, _Scope(reaches, config.scoring.name, Reach.TRAINING))


def _section(section: Section, scope: _Scope) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in _fields(type(section), scope):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            if inner := _section(value, field.scope):
                found[field.name] = inner
        elif field.names_a_kind or value != field.default:
            found[field.name] = _plain(value, field.scope)
    return found


def _plain(value: Any, scope: _Scope) -> Any:
    if not isinstance(value, tuple):
        return value
    return [_section(each, scope) if isinstance(each, Section) else each for each in value]


def trained_differently(one: RunConfig, other: RunConfig, stages: int) -> list[str]:
    """The dotted names of the values in which two trainings differ, up to the end of the first `stages` stages."""
    return sorted(_differing(_up_to(one, stages), _up_to(other, stages)))


def _up_to(config: RunConfig, stages: int) -> dict[str, Any]:
    values = hashed_values(config, TRAINED)
    training = values["training"]
    return {**values, "training": {**training, "stages": training["stages"][:stages]}}


def _differing(one: Any, other: Any, prefix: str = "") -> list[str]:
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if not (isinstance(one, dict) or isinstance(other, dict)):
        return [prefix] if one != other else []
    one, other = one or {}, other or {}  # sections at their defaults are left out
    names = dict.fromkeys([*one, *other])
    return [
        found
        for name in names
        for found in _differing(one.get(name), other.get(name), f"{prefix}.{name}" if prefix else f"{name}")
    ]
