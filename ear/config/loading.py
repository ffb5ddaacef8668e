"""YAML and dotted overrides to a validated `RunConfig`, with errors that say where and how to mend."""

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ear.config.schema import RunConfig
from ear.errors import UserError

Schema = TypeVar("Schema", bound=BaseModel)


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("ear.configs")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of this shipped name or YAML path, with `a.b=value` overrides applied.

    Raises:
        UserError: no such file, no valid YAML, an unknown key, a wrong type or a value out of range.
    """
    values = read_config(name_or_path)
    apply_overrides(values, overrides)
    return validate(RunConfig, values, source=name_or_path)


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Sets every `a.b=value`, its value read as YAML.

    Raises:
        UserError: an override is not of that form, or its path leads nowhere.
    """
    for override in overrides:
        path, separator, text = override.partition("=")
        if not separator:
            raise UserError(f"--set {override}: write it as section.key=value, for example scoring.alpha=1.25.")
        set_dotted(values, path.strip(), parse_yaml(text, f"--set {override}"))


def read_config(name_or_path: str) -> dict[str, Any]:
    """The unvalidated content of a shipped configuration or a YAML file."""
    if name_or_path in shipped_configs():
        text = (resources.files("ear.configs") / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        return as_mapping(parse_yaml(text, name_or_path), name_or_path)
    path = Path(name_or_path)
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"There is no configuration {name_or_path!r}: give a YAML file or one of the shipped names, "
            f"{', '.join(shipped_configs())}{_did_you_mean(name_or_path, shipped_configs())}."
        )
    return read_yaml(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: the file is missing, unreadable, not YAML, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path} can't be read: {reason}. Check the path.") from error
    return as_mapping(parse_yaml(text, str(path)), str(path))


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers (PyYAML reads 1e-6 as text), and no key twice (PyYAML keeps the last in silence)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value!r} stands here twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text; `source` names it in the error."""
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{source}{where}: this is not valid YAML: {problem}.") from error


def as_mapping(value: Any, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{source}: a mapping of keys to values is needed, not {type(value).__name__}.")
    return value


def set_dotted(values: dict[str, Any], path: str, value: Any) -> None:
    """Sets `a.b.0.c` in nested mappings and lists; numbers index lists, negative ones from their end.

    Raises:
        UserError: the path runs through something that is neither, or past a list's end.
    """
    target: Any = values
    keys = path.split(".")
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            try:
                index = int(key)
                target[index]
            except (ValueError, IndexError):
                here = ".".join(keys[:depth])
                raise UserError(
                    f"{path}: {here} is a list of {len(target)}; its entries are 0 to {len(target) - 1}, "
                    f"or -1 for the last, not {key!r}."
                ) from None
            if last:
                target[index] = value
            else:
                target = target[index]
        elif isinstance(target, dict):
            if last:
                target[key] = value
            else:
                target = target.setdefault(key, {})
        else:
            here = ".".join(keys[:depth])
            raise UserError(f"{path}: {here} is a value, not a section, so it has no {key!r}.")


def validate(schema: type[Schema], values: Mapping[str, Any], source: str) -> Schema:
    """The frozen schema object, or one message that lists every fault.

    Raises:
        UserError: naming the source, the path of each fault, what is wrong and the nearest valid name.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = schema.model_validate(values)
        except ValidationError as error:
            lines = [_explain(schema, details) for details in error.errors()]
            raise UserError("\n".join(f"{source}: {line}" for line in lines)) from error
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        warnings.warn(f"{source}: {message}", stacklevel=2)
    return result


def _explain(schema: type[BaseModel], details: ErrorDetails) -> str:
    path = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        valid = _fields_at(schema, details["loc"][:-1])
        return f"unknown key {path!r}{_did_you_mean(str(details['loc'][-1]), valid)}. Valid here: {', '.join(valid)}."
    if details["type"] == "missing":
        return f"{path} is missing; add it."
    message = details["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = "" if isinstance(details["input"], dict | list) else f" (given: {details['input']!r})"
    return f"{path + ': ' if path else ''}{message}{given}."


def _fields_at(schema: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    current: Any = schema
    for part in path:
        if isinstance(part, int):
            continue
        current = _inner_model(current.model_fields[part].annotation)
    return list(current.model_fields)


def _inner_model(annotation: Any) -> Any:
    # A section stands bare or as the item of a tuple, `tuple[StageConfig, ...]`.
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    raise AssertionError(annotation)


def _did_you_mean(name: str, valid: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, valid, n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""
