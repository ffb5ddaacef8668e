"""Evaluations that earlier versions compared with real images without knowing them by their content.

They knew the images of a folder by names and sizes or, with `data.latents`, by what the cache was made from, whatever
lay under `data.path`. So such a number may be of other images than it says. Nothing finds these results any more: the
keys of today hold the content. Results on embedded datasets and with statistics files are not concerned.
"""

import json
from collections.abc import Iterable
from contextlib import suppress

from ear.errors import UserError
from ear.store.store import Entry, Store

REFERENCE = "reference_hash"  # among an evaluation's details: of the content compared with
FOLDER = "image_folder/"  # how such a reference is called in evaluation.json

WORDS = (
    "compared with images that an earlier version knew by names and sizes, or by what a cache was made from, not by "
    "content: their numbers may be of other images, and they are not served any more. Run the sweep or the `ear "
    "evaluate` that made them again: it measures anew and trains nothing. Then `ear store gc` deletes the old ones, "
    "with --forget for users that `ear store list` names and that are not run again."
)


def outdated(store: Store, known: Iterable[Entry]) -> list[str]:
    """The keys of such evaluations among these results."""
    return [entry.key for entry in known if entry.kind == "evaluation" and is_outdated(store, entry)]


def refuse_outdated(store: Store, keys: Iterable[str]) -> None:
    """For who shows the numbers of these evaluations, as MLflow keeps them.

    Raises:
        UserError: some of them are outdated.
    """
    known = []
    for key in keys:
        with suppress(UserError):  # a damaged entry, which `verify` names
            known += [store.entry(key)] if key in store else []
    if old := outdated(store, known):
        raise UserError(f"{len(old)} of these evaluations were {WORDS}")


def is_outdated(store: Store, entry: Entry) -> bool:
    """Of an evaluation."""
    if REFERENCE in entry.details:
        return False
    try:
        evaluation = json.loads((store.path(entry.key) / "evaluation.json").read_text(encoding="utf-8"))
        return str(evaluation["reference"]).startswith(FOLDER)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged, which `verify` says
