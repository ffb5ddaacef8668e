"""The records of who needs which results, on which it rests what `ear store gc` deletes."""

import json
from pathlib import Path

import pytest

from ear.errors import UserError
from ear.store import Store
from ear.store.uses import Use, record_use, recorded_uses

USER = "sweep α of a name that is much longer than the sixty characters that a file's name has room for"
FILE = "sweep-of-a-name-that-is-much-longer-than-the-sixty-character-a1f32057.json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_user_has_one_record_whichever_version_writes_it(store: Store) -> None:
    """Under another name the earlier record would stay, and keep for ever what nobody needs."""
    record_use(store, USER, ["b", "a", "b"])
    record_use(store, USER, ["c", "d"])
    assert [path.name for path in store.uses.iterdir()] == [FILE]
    record_use(store, f"{USER}.", ["e"])
    record_use(store, "report a", [])
    found = recorded_uses(store)
    assert found[0] == Use("report a", found[0].updated, frozenset(), found[0].path)
    assert {use.user: use.keys for use in found} == {"report a": set(), USER: {"c", "d"}, f"{USER}.": {"e"}}
    assert [use.path.name for use in found] == sorted(path.name for path in store.uses.iterdir())


def test_a_record_says_since_when_its_keys_are_needed(store: Store) -> None:
    record_use(store, "sweep a", ["b", "a"])
    (path,) = store.uses.iterdir()
    written = json.loads(path.read_text())
    assert written == {"user": "sweep a", "updated": written["updated"], "keys": ["a", "b"]}
    assert written["updated"].endswith("+00:00")
    assert len(written["updated"]) == len("2026-11-26T12:00:00+00:00")
    path.write_text(json.dumps({**written, "updated": "then"}))
    record_use(store, "sweep a", ["a", "b", "a"])
    assert recorded_uses(store) == [Use("sweep a", "then", frozenset("ab"), path)]
    record_use(store, "sweep a", ["a"])
    (use,) = recorded_uses(store)
    assert use.keys == {"a"}
    assert use.updated != "then"


@pytest.mark.parametrize("damaged", ["{", "[]", "{}", '{"user": "sweep a", "updated": "then"}'])
def test_a_damaged_record_is_named_and_written_anew(store: Store, damaged: str) -> None:
    record_use(store, "sweep a", ["a"])
    (path,) = store.uses.iterdir()
    path.write_text(damaged)
    with pytest.raises(UserError, match=rf"{path} is damaged .*unknown which results are needed"):
        recorded_uses(store)
    record_use(store, "sweep a", ["a"])
    assert [use.keys for use in recorded_uses(store)] == [{"a"}]


@pytest.mark.parametrize(("user", "named"), [("sweep a", True), ("sweep a/1", True), ("sweep ab", False), ("b", False)])
def test_a_sweep_s_name_is_each_sweep_of_that_name(user: str, named: bool) -> None:
    assert Use(user, "then", frozenset(), Path()).is_of("sweep a") is named
