"""A study's journal that can't be read: whoever reads it says so in the same words."""

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from searching import text
from simulated import plan_of

from ear.errors import UserError
from ear.store import Store
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.search.search import Search
from sweeps.search.study import JOURNAL
from sweeps.search.study_summary import describe
from sweeps.views.status_view import known_ends, known_tree

DAMAGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "bytes that are no text": lambda lines: [b"\xff\xfe" + lines[0], *lines[1:]],
    "an unknown operation": lambda lines: [*lines, json.dumps({"op_code": 99, "worker_id": "w"}).encode()],
    "half a line": lambda lines: [lines[0][: len(lines[0]) // 2], *lines[1:]],
    "a missing field": lambda lines: [*lines, b'{"op_code": 4}'],
    "another file": lambda _: [b"[1, 2]", b"[3]"],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_called_that_by_every_reader(damage: str, tmp_path: Path) -> None:
    plan, folder = plan_of(tmp_path, text()), SweepFolder(tmp_path, "s")
    journal = folder.path / JOURNAL
    journal.parent.mkdir()
    study = optuna.create_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(journal))))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    journal.write_bytes(b"".join(line + b"\n" for line in DAMAGES[damage](journal.read_bytes().splitlines())))
    readers: list[Callable[[], object]] = [
        lambda: known_tree(plan, folder),
        lambda: known_ends(plan, folder),
        lambda: describe(plan.sweep, folder.path),
        lambda: Search(plan.sweep, plan.configurations, tmp_path, Store(tmp_path)),
    ]
    said = set()
    for read in readers:
        with pytest.raises(UserError, match=r"study\.journal can't be read .*: move it away and run") as one:
            read()
        said.add(str(one.value))
    assert len(said) == 1
