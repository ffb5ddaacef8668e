"""Loads a validated `RunConfig` from YAML and dotted overrides. Errors say what is wrong, where, and how to fix it."""

import difflib
import errno
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ear.config.numbers import RECORDED
from ear.config.schema import RunConfig
from ear.config.yaml_text import parse_yaml
from ear.errors import UserError, shortened
from ear.files.writing import exists, require_regular

Schema = TypeVar("Schema", bound=BaseModel)

MOST_BYTES = 2**20  # of a YAML file: more takes seconds to parse, and a search with 10,000 starting points has less
MOST_FAULTS = 20  # in one message

INDEX = re.compile(r"-?[0-9]{1,9}")
"""A list index in a dotted parameter."""


def shipped_configs() -> list[str]:
    """The names of the configurations that come with the package, sorted."""
    folder = resources.files("ear.configs")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def yaml_files(*configs: str) -> tuple[Path, ...]:
    """The paths among `configs`, without the names of shipped configurations."""
    return tuple(Path(config) for config in configs if config not in shipped_configs())


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Load a shipped configuration or a YAML file and apply `a.b=value` overrides.

    Raises:
        UserError: the file is missing or not valid YAML, a key is unknown, or a value has a wrong type or range.
    """
    values = read_config(name_or_path)
    apply_overrides(values, overrides)
    return validate(RunConfig, values, source=name_or_path)


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Apply `a.b=value` overrides to `values` in place; each value is parsed as YAML.

    Raises:
        UserError: an override does not have that form, or its path does not exist.
    """
    for override in overrides:
        set_dotted(values, *parse_override(override))


def parse_override(override: str) -> tuple[str, Any]:
    """Return the path and the value of `a.b=value`.

    Raises:
        UserError: it does not have that form.
    """
    source = f"--set {shortened(override)}"
    path, separator, text = override.partition("=")
    if not separator:
        raise UserError(f"{source}: write it as section.key=value, for example scoring.alpha=1.25.")
    return path.strip(), parse_yaml(text, source)


def read_config(name_or_path: str) -> dict[str, Any]:
    """Read a shipped configuration or a YAML file without validating it.

    Raises:
        UserError: there is no such name, or the file can't be read or is not valid YAML.
    """
    if name_or_path in shipped_configs():
        text = (resources.files("ear.configs") / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return as_mapping(parse_yaml(text, name_or_path), name_or_path)
    path = Path(name_or_path)
    if not exists(path) and path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no configuration {shortened(name_or_path)!r}: give a YAML file or a shipped name: "
            f"{', '.join(shipped_configs())}{did_you_mean(name_or_path, shipped_configs())}."
        )
    return read_yaml(path)


def read_yaml(path: Path, verbatim: Collection[str] = ()) -> dict[str, Any]:
    """Read the mapping in a YAML file. Numbers under the top-level keys `verbatim` stay text, exactly as written.

    Raises:
        UserError: the file is missing, unreadable, too large or not valid YAML, or its content is not a mapping.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)  # not all of a checkpoint that is given by mistake
        if len(content) > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES:,} bytes, the limit for YAML files")
        text = content.decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8 text"
        raise UserError(f"{shortened(str(path))} can't be read: {reason}. Check the path.") from error
    return as_mapping(parse_yaml(text, str(path), verbatim), str(path))


def as_mapping(value: Any, source: str) -> dict[str, Any]:
    """Return `value` if it is a mapping.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, dict):
        given = "empty" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{source}: a mapping of keys to values is needed, but this is {given}.")
    return value


def set_dotted(values: dict[str, Any], path: str, value: Any) -> None:
    """Set `a.b.0.c` in nested mappings and lists. Numbers index lists; negative ones count from the end.

    The value is copied, so that later changes inside it do not change the original.

    Raises:
        UserError: the path leads through a value that is neither a mapping nor a list, or past the end of a list.
    """
    target: Any = values
    keys = path.split(".")
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            index = int(key) if INDEX.fullmatch(key) else len(target)
            if not -len(target) <= index < len(target):
                here = ".".join(keys[:depth])
                raise UserError(
                    f"{shortened(path)}: {here} is a list of {len(target)}; use an index from 0 to {len(target) - 1}, "
                    f"or -1 for the last entry, not {shortened(key)!r}."
                )
            if last:
                target[index] = deepcopy(value)
            else:
                target = target[index]
        elif isinstance(target, dict):
            if last:
                target[key] = deepcopy(value)
            else:
                target = target.setdefault(key, {})
        else:
            here = ".".join(keys[:depth])
            raise UserError(f"{shortened(path)}: {here} is a value, not a section, so it has no {shortened(key)!r}.")


def validate(schema: type[Schema], values: Mapping[str, Any], source: str, *, recorded: bool = False) -> Schema:
    """Validate `values` and return the frozen schema object.

    Args:
        source: where the values come from, for messages.
        recorded: the values were recorded with a result; earlier versions accepted seeds of any size.

    Raises:
        UserError: one line for each fault, with the source, the path, what is wrong and the nearest valid name.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = schema.model_validate(values, context={RECORDED: recorded})
        except ValidationError as error:
            faults = _causes(error.errors())
            lines = [_explain(schema, details) for details in faults[:MOST_FAULTS]]
            if len(faults) > MOST_FAULTS:
                lines.append(f"and {len(faults) - MOST_FAULTS:,} more errors.")
            raise UserError("\n".join(f"{source}: {line}" for line in lines)) from error
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        warnings.warn(f"{source}: {message}", stacklevel=2)
    return result


def _causes(faults: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """The faults without those that only follow from others: a list whose items are not valid counts as too short."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short"
        or not any(len(place) > len(fault["loc"]) and place[: len(fault["loc"])] == fault["loc"] for place in places)
    ]


def unknown_key(keys: Sequence[str], valid: Sequence[str]) -> str:
    """A sentence on a key, given by the parts of its path, that is none of the valid names in its section."""
    return f"unknown key {shortened('.'.join(keys))!r}{did_you_mean(keys[-1], valid)}. Valid here: {', '.join(valid)}."


def _explain(schema: type[BaseModel], details: ErrorDetails) -> str:
    keys, section = _place(schema, details["loc"])
    path = ".".join(keys)
    if details["type"] == "extra_forbidden":
        valid = list(section.model_fields)
        return unknown_key(keys, valid)
    if details["type"] == "missing":
        return f"{path} is missing; add it."
    if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
        context = details["ctx"]
        given = str(context.get("tag", ""))
        valid = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")] if given else []
        known = (
            f"{shortened(given)!r} is not one of {', '.join(valid)}{did_you_mean(given, valid)}"
            if given
            else "is missing; add it"
        )
        return f"{path}.name: {known}."
    message = details["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if details["type"] == "string_type" and isinstance(details["input"], int | float):
        message += "; put it in quotes"
    given = "" if isinstance(details["input"], dict | list) else f" (given: {shortened(repr(details['input']))})"
    if details["type"] == "literal_error":
        given += did_you_mean(str(details["input"]), re.findall(r"'([^']*)'", str(details["ctx"]["expected"])))
    return f"{path + ': ' if path else ''}{message}{given}."


def _place(schema: type[BaseModel], location: Iterable[int | str]) -> tuple[list[str], type[BaseModel]]:
    """The location of an error: the parts of its dotted path, and the section that contains the last one.

    Pydantic's location also has the name of a union's member, between the union and the member's key; YAML does not.
    """
    keys: list[str] = []
    section, inner = schema, [schema]
    for part in location:
        named = {str(member.model_fields["name"].default): member for member in inner if "name" in member.model_fields}
        if len(inner) > 1 and part in named:
            inner = [named[str(part)]]
            continue
        keys.append(str(part))
        if isinstance(part, int):
            continue
        section = inner[0] if inner else section
        field = section.model_fields.get(part)
        inner = models_in(field.annotation) if field else []
    return keys, section


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections in a field's type: the type itself, the items of a tuple, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in models_in(argument)]


def did_you_mean(name: str, valid: Sequence[str]) -> str:
    """Words that name the valid name nearest to this one; empty if none is near."""
    nearest = difflib.get_close_matches(name, valid, n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
