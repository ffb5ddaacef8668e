"""Outdated evaluations: earlier versions did not identify the real images of a folder by their content.

They identified them by names and sizes or, with `data.latents`, by the source of the cache, whatever `data.path`
contained. So the metrics may be against other images than recorded. Current keys contain the images' content, so no
command finds these results. Evaluations on embedded datasets and with statistics files are not affected.
"""

import json
from collections.abc import Iterable
from contextlib import suppress

from ear.errors import UserError
from ear.store.store import Entry, Store

REFERENCE = "reference_hash"  # an evaluation's detail: the hash of the real images' content
FOLDER = "image_folder/"  # prefix of such a reference's name in evaluation.json

WORDS = (
    "compared with images that an earlier version identified by names and sizes, or by the source of a cache, not by "
    "content: the metrics may be against other images, so these evaluations are no longer used. Run the sweep or `ear "
    "evaluate` command again: it repeats the evaluation and trains nothing. Then delete the old ones with `ear store "
    "gc`, adding --forget USER for users in `ear store list` that you do not run again."
)


def outdated(store: Store, known: Iterable[Entry]) -> list[str]:
    """The keys of the outdated evaluations among `known`."""
    return [entry.key for entry in known if entry.kind == "evaluation" and is_outdated(store, entry)]


def refuse_outdated(store: Store, keys: Iterable[str]) -> None:
    """Check that no evaluation is outdated, before metrics from MLflow are shown.

    Raises:
        UserError: some of them are outdated.
    """
    known = []
    for key in keys:
        with suppress(UserError):  # a damaged entry, which `verify` reports
            known += [store.entry(key)] if key in store else []
    if old := outdated(store, known):
        raise UserError(f"{len(old)} of these evaluations were {WORDS}")


def is_outdated(store: Store, entry: Entry) -> bool:
    """Whether an evaluation is outdated."""
    if REFERENCE in entry.details:
        return False
    try:
        evaluation = json.loads((store.path(entry.key) / "evaluation.json").read_text(encoding="utf-8"))
        return str(evaluation["reference"]).startswith(FOLDER)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged, which `verify` reports
