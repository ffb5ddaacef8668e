"""Configurations as dotted parameters with plain values."""

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of everything below a JSON value; a list of plain values is one value."""
    children: Iterator[tuple[str, Any]] | None = None
    if isinstance(value, Mapping):
        children = ((str(name), each) for name, each in value.items())
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        children = ((str(number), each) for number, each in enumerate(value))
    if children is None:
        yield path, value
        return
    for name, each in children:
        yield from leaves(each, f"{path}.{name}" if path else name)


def short_names(paths: list[str]) -> dict[str, str]:
    """Map dotted parameters to their last part, or to the whole where several share it or it says nothing alone."""
    last = {path: path.rpartition(".")[2] for path in paths}
    alone = list(last.values())
    return {path: name if alone.count(name) == 1 and name != "name" else path for path, name in last.items()}
