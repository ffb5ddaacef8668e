"""No damage is passed on: what is read of a result is what was published."""

import json

import pytest
from store_parts import A, B, publish

from ear.errors import UserError
from ear.evaluation.result import load_evaluation
from ear.files.writing import write_text
from ear.store import Store
from ear.store.verify import require_as_published, verify


def test_a_changed_metric_is_not_served(store: Store) -> None:
    publish(store, A, **{"evaluation.json": '{"metrics": {"fid": 915.0}}'})
    write_text(store.path(A) / "evaluation.json", '{"metrics": {"fid": 115.0}}')
    with pytest.raises(
        UserError, match=r"evaluation\.json is damaged: its SHA-256 is not the published one.*verify --repair"
    ):
        load_evaluation(A, store)


@pytest.mark.parametrize("change", [{"details": {"step": 1, "diverged_at": 3}}, {"needs": [B]}, {"key": B}])
def test_a_changed_entry_is_not_served(change: dict[str, object], store: Store) -> None:
    publish(store, A)
    path = store.path(A) / "entry.json"
    write_text(path, json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=r"entry\.json is damaged .*verify --repair"):
        store.entry(A)
    assert list(verify(store).faults) == [A]


def test_a_renamed_folder_is_not_served(store: Store) -> None:
    publish(store, A).rename(store.path(B))
    with pytest.raises(UserError, match=f"is the entry of {A}, whose folder was renamed or copied"):
        store.entry(B)
    with pytest.raises(UserError, match=f"is the entry of {A}"):
        require_as_published(store.path(B) / "value")


def test_a_published_file_that_is_gone_is_said_to_be(store: Store) -> None:
    publish(store, A)
    (store.path(A) / "value").unlink()
    with pytest.raises(UserError, match=r"value can't be read \(No such file or directory\)"):
        require_as_published(store.path(A) / "value")
