"""Parses YAML by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2, 10.3.2).

PyYAML reads YAML 1.1, where 016 is 14, 20:30 is 1230, yes is true and 1e-6 is text. This module uses its parser but
resolves plain scalars by YAML 1.2: numbers, true, false and null as it defines them, everything else as text. Two more
things differ from PyYAML. An alias is a copy of its anchor, so that changing one does not change the other. Keys must
be text, and unique within a mapping. The merge key `<<` of YAML 1.1 still works: 1.2 gives it no other meaning, and
stages are often written with it.

ruamel.yaml reads YAML 1.2 too, but not only: its safe loader (0.19) still makes integers of 1_000 and 0b101 and a date
of 2026-11-27, lets an alias share its anchor's object or contain itself, and bounds neither nesting nor expansion.
Overriding that takes as much code as this module, which rests on a parser that MLflow and Ray need anyway.
"""

import re
from collections.abc import Callable, Collection
from typing import Any, NoReturn

import yaml

from ear.errors import UserError, shortened

LARGEST = 2**63 - 1
"""The largest integer: that of 64 bits with a sign, as in torch, NumPy and MLflow's databases."""
DEEPEST = 100  # levels of nesting: no configuration has ten, and Python's recursion limit comes at a few hundred
MOST_DIGITS = 22  # of a 64-bit integer in octal
COPIED = 100_000  # values that aliases may repeat: a few lines of nested aliases can expand to billions
SHOWN = 60  # characters of a value in a message
TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    digits = text.removeprefix("0o").removeprefix("0x").lstrip("+-").lstrip("0") or "0"
    size = int(digits, base) if len(digits) <= MOST_DIGITS else LARGEST + 1
    if size > LARGEST:
        raise OverflowError(f"is too large: integers have 64 bits and are at most {LARGEST:,} in magnitude")
    return -size if text.startswith("-") else size


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


# type -> pattern of its plain scalars, their possible first characters, conversion to a value
CORE: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"(?:null|Null|NULL|~)?", "nN~", lambda _: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
        _float,
    ),
}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 scalars, copied aliases, checked keys and bounds on nesting and size."""

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        f"{TAG}map": yaml.SafeLoader.construct_yaml_map,
        f"{TAG}seq": yaml.SafeLoader.construct_yaml_seq,
    }
    copied = 0
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if not self.check_event(yaml.AliasEvent):
            self._descend(mark)
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node
        named = super().compose_node(parent, index)
        if named is None or named.end_mark is None:  # its anchor is not complete yet
            raise _fault("an alias is used inside its own anchor", mark)
        return self._copy(named, mark)

    def _copy(self, node: yaml.Node, mark: yaml.Mark) -> yaml.Node:
        self.copied += 1
        if self.copied > COPIED:
            raise _fault(f"aliases repeat more than {COPIED:,} values", mark)
        self._descend(mark)
        value = node.value
        if isinstance(node, yaml.MappingNode):
            value = [(self._copy(key, mark), self._copy(inside, mark)) for key, inside in value]
        elif isinstance(node, yaml.SequenceNode):
            value = [self._copy(item, mark) for item in value]
        self.depth -= 1
        return type(node)(node.tag, value, node.start_mark, node.end_mark)

    def _descend(self, mark: yaml.Mark) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _fault(f"values are nested more than {DEEPEST} deep", mark)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the keys as written, then merge the mappings under `<<`."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault(
                    "a key must be text, not a mapping or a list; fill in the {{ }} of a template, or put the text "
                    "in quotes",
                    key.start_mark,
                )
            if key.tag not in (f"{TAG}str", MERGE):
                raise _fault(f"a key must be text: put {key.value or 'the empty key'} in quotes", key.start_mark)
            if key.value in seen:
                raise _fault(f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        super().flatten_mapping(node)

    def construct_undefined(self, node: yaml.Node) -> NoReturn:
        raise _fault(f"unknown tag {node.tag.replace(TAG, '!!')}; remove it", node.start_mark)

    def construct_yaml_str(self, node: Any) -> str:
        text = str(self.construct_scalar(node))
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise _fault("half of a surrogate pair is not a character; write the character itself", node.start_mark)
        return text


def _fault(problem: str, mark: yaml.Mark) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def _constructor(name: str, pattern: re.Pattern[str], value: Callable[[str], Any]) -> Callable[[_Loader, Any], Any]:
    def construct(loader: _Loader, node: Any) -> Any:
        text = str(loader.construct_scalar(node))
        try:
            if pattern.fullmatch(text):  # it may not match if an explicit tag is wrong: !!int one
                return value(text)
        except OverflowError as error:
            raise _fault(f"{shortened(text, SHOWN)} {error}", node.start_mark) from None
        raise _fault(f"{shortened(text, SHOWN)!r} is not a valid {name}", node.start_mark)

    return construct


for _name, (_written, _first, _value) in CORE.items():
    _pattern = re.compile(_written)
    _Loader.add_implicit_resolver(
        TAG + _name, re.compile(f"(?:{_written})$"), [*_first, *([""] if _name == "null" else [])]
    )
    _Loader.add_constructor(TAG + _name, _constructor(_name, _pattern, _value))
_Loader.add_implicit_resolver(MERGE, re.compile("<<$"), ["<"])
_Loader.add_constructor(None, _Loader.construct_undefined)
for _tag in (f"{TAG}str", MERGE):  # `<<` is text where it is not a key
    _Loader.add_constructor(_tag, _Loader.construct_yaml_str)


def parse_yaml(text: str, source: str, verbatim: Collection[str] = ()) -> Any:
    """Parse a YAML text.

    Args:
        source: names the text in error messages.
        verbatim: top-level keys under which numbers stay text, exactly as written.

    Raises:
        UserError: it is not valid YAML; the message gives line and column.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value in verbatim:
                    _keep_text(value)
        return loader.construct_document(node)
    except RecursionError:
        raise UserError(f"{source}: not valid YAML: it is nested too deeply.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(
            f"{source}, line {line}: not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed; "
            "remove it."
        ) from error
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f", line {place.line + 1}, column {place.column + 1}" if place else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{source}{where}: not valid YAML: {problem}.") from error


def _keep_text(node: yaml.Node) -> None:
    """Turn all numbers in this node into text."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag in (f"{TAG}int", f"{TAG}float"):
            node.tag = f"{TAG}str"
    else:
        for inner in node.value:
            for each in inner if isinstance(inner, tuple) else (inner,):
                _keep_text(each)
