"""Finds results by the first digits of their keys, which is how tables, pages and `ear store list` show keys."""

import re

from ear.errors import UserError
from ear.store.collect import needs_of
from ear.store.store import Store

SHORTEST = 8  # digits: among 10,000 results, two share them with a probability of 1%
KEY_PREFIX = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")
MOST_NAMED = 5  # keys in a message


def is_key_prefix(text: str) -> bool:
    """Whether the text may be a key or the first digits of one."""
    return KEY_PREFIX.fullmatch(text) is not None


def find_key(store: Store, prefix: str) -> str:
    """The key of the one published result that begins with these digits.

    Raises:
        UserError: there is none, or there are several.
    """
    if prefix in store:
        return prefix
    found = sorted(key for key in store.published() if key.startswith(prefix) and key in store)
    if not found:
        raise UserError(f"No result in {store.folder} has a key that begins with {prefix}: `ear store list` shows all.")
    if len(found) > 1:
        named = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
        raise UserError(f"{len(found)} results in {store.folder} begin with {prefix}: {named}. Give more digits.")
    return found[0]


def training_key(store: Store, prefix: str) -> str:
    """The key of a training, from the first digits of its own key or of the key of one of its evaluations.

    Raises:
        UserError: no result or several have these digits, or the one that does comes from no training.
    """
    entry = store.entry(find_key(store, prefix))
    if entry.kind == "training":
        return entry.key
    if entry.kind == "evaluation":
        for key in needs_of(entry):
            if key in store and store.entry(key).kind == "training":
                return key
        raise UserError(f"The training that evaluation {entry.key} measured is no longer in {store.folder}.")
    raise UserError(f"{entry.key} in {store.folder} is the result of kind `{entry.kind}`, which has no checkpoint.")
