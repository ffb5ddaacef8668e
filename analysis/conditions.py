"""The evaluation conditions of runs, which must agree for their numbers to be compared, and which label a report."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from analysis.sweep_runs import Row, RunOfSweep
from ear.errors import UserError

# Condition -> its name in a report.
CONDITIONS = {
    "extractor": "extractor",
    "extractor_hash": "extractor",
    "reference": "reference",
    "reference_hash": "reference",
    "reference_images": "reference",
    "images": "number of images",
    "null_images": "number of images without label",
}
DECIDED_BY = ("data", "evaluation")  # configuration sections that determine the conditions
SETTINGS = {
    "sampling.cfg": "CFG",
    "sampling.infer_temperature": "inference temperature",
    "sampling.steps": "steps",
}
ALONE = " for each configuration alone; with common seeds, differences can be more certain than ± suggests"

Conditions = dict[str, Any]  # the evaluation conditions of one run


def conditions_of(runs: Iterable[RunOfSweep], axes: Sequence[str]) -> list[Conditions]:
    """Returns the distinct conditions of the finished runs; more than one only if an axis varies them.

    Raises:
        UserError: the conditions differ although no axis varies them, so that one table would mislead.
    """
    finished = [run for run in runs if run.row["outcome"] == "finished"]
    deciding = [axis for axis in axes if axis.split(".")[0] in DECIDED_BY]
    alike: dict[str, list[Conditions]] = {}
    for run in finished:
        decided = json.dumps([run.parameters.get(axis) for axis in deciding])
        alike.setdefault(decided, []).append(_conditions(run.row, axes))
    for group in alike.values():
        _require_alike(group)
    found = {json.dumps(conditions, sort_keys=True): conditions for group in alike.values() for conditions in group}
    return list(found.values())


def _conditions(row: Row, axes: Sequence[str]) -> Conditions:
    found = {name: row[name] for name in (*CONDITIONS, "extractor_accuracy")}
    return found | {name: row[name] for name in SETTINGS if name not in axes}


def _require_alike(group: Sequence[Conditions]) -> None:
    """Requires equal conditions within a group, and fills in what earlier versions did not record.

    Raises:
        UserError: the conditions differ.
    """
    known = {conditions["reference_hash"] for conditions in group} - {None}
    for conditions in group:
        if len(known) == 1:
            conditions["reference_hash"] = next(iter(known))  # missing in results of earlier versions
        conditions["extractor_accuracy"] = group[0]["extractor_accuracy"]
    for name in CONDITIONS:
        values = {conditions[name] for conditions in group}
        if len(values) > 1:
            raise UserError(
                f"The sweep's runs differ in {name}: {', '.join(sorted(map(str, values)))}. A single table would be "
                "misleading: use a sweep of another name for each."
            )


def differing(conditions: Sequence[Conditions]) -> list[str]:
    """Returns the names of the conditions in which the rows of a table differ, such as `reference`."""
    names = (label for name, label in CONDITIONS.items() if len({each[name] for each in conditions}) > 1)
    return list(dict.fromkeys(names))


def describe(conditions: Sequence[Conditions], seeds: str) -> str:
    """Returns the caption of a report, one sentence with the evaluation conditions; all of them if they differ."""
    if not conditions:
        return "No run has finished, so nothing was measured."
    images, null_images = (either(f"{each[name]:.0f}" for each in conditions) for name in ("images", "null_images"))
    parts = [
        f"{images} generated images ({null_images} without label) against {either(map(_reference, conditions))}",
        f"extractor {either(map(_extractor, conditions))}",
    ]
    values = {name: {each[name] for each in conditions if name in each} for name in SETTINGS}
    common = [f"{label} {min(values[name])}" for name, label in SETTINGS.items() if len(values[name]) == 1]
    parts.append(", ".join(common))  # what an axis varies is in the table
    parts.append(f"{seeds} seed{f's, mean ± 95% interval{ALONE}' if seeds != '1' else ''}")
    return "; ".join(part for part in parts if part) + "."


def _reference(conditions: Conditions) -> str:
    if conditions["reference_images"] is None:  # a file of statistics does not give the number
        return str(conditions["reference"])
    return f"{conditions['reference_images']:.0f} of {conditions['reference']}"


def _extractor(conditions: Conditions) -> str:
    weights = f"weights {conditions['extractor_hash']}"
    if conditions["extractor_accuracy"] is not None:
        weights = f"{conditions['extractor_accuracy']:.1%} accurate, {weights}"
    return f"{conditions['extractor']} ({weights})"


def either(words: Iterable[str]) -> str:
    """Joins the distinct words: `a or b`."""
    return " or ".join(dict.fromkeys(words))
