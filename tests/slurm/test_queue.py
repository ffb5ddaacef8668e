"""What SLURM says of jobs, its silences included."""

from pathlib import Path

import pytest
from faked import FakedSlurm, fake_slurm, sacct_row, squeue_row

from ear.errors import UserError
from slurm import queue
from slurm.queue import FORGOTTEN, TaskState, cancel, task_states

TOO_OLD = "slurm_load_jobs error: Invalid job id specified\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakedSlurm:
    return fake_slurm(tmp_path, monkeypatch)


def test_a_waiting_job_says_why(slurm: FakedSlurm) -> None:
    slurm.says("squeue", squeue_row("5", "PENDING", reason="QOSMaxJobsPerUserLimit"))
    state = task_states(["5"])["5"]
    assert not state.over
    assert state.describe() == "pending: you run as many jobs as the QOS allows (QOSMaxJobsPerUserLimit)"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ReqNodeNotAvail, UnavailableNodes:n7", "a required node is down, drained or reserved (ReqNodeNotAvail)"),
        ("SomethingNew", "pending: SomethingNew (SomethingNew)"),
    ],
)
def test_reasons_with_details_and_unknown_ones(reason: str, words: str, slurm: FakedSlurm) -> None:
    slurm.says("squeue", squeue_row("5", "PENDING", reason=reason))
    assert words in task_states(["5"])["5"].describe()


def test_members_of_an_array_have_states_of_their_own(slurm: FakedSlurm) -> None:
    slurm.says("squeue", squeue_row("6_0", "RUNNING", "n1", elapsed="1:02") + squeue_row("6_1", "FAILED", "n2"))
    states = task_states(["6_0", "6_1"])
    assert states["6_0"].describe() == "running on n1 1:02"
    assert [(state.over, state.failed) for state in states.values()] == [(False, False), (True, True)]
    assert len(slurm.calls("squeue")) == 1


def test_what_squeue_has_forgotten_sacct_knows(slurm: FakedSlurm) -> None:
    slurm.says("squeue", stderr=TOO_OLD, code=1)
    slurm.says("sacct", sacct_row("5", "CANCELLED by 1000"))
    assert task_states(["5"])["5"] == TaskState("5", "CANCELLED", "n1", "None", "00:01:00")


@pytest.mark.parametrize("accounts", [None, "Slurm accounting storage is disabled\n"], ids=["no sacct", "no accounts"])
def test_without_accounts_an_old_job_is_over_and_not_called_failed(accounts: str | None, slurm: FakedSlurm) -> None:
    slurm.says("squeue", stderr=TOO_OLD, code=1)
    if accounts is not None:
        slurm.says("sacct", stderr=accounts, code=1)
    state = task_states(["5"])["5"]
    assert state.state == FORGOTTEN
    assert (state.over, state.failed) == (True, False)
    assert "see its log" in state.describe()


def test_a_controller_that_is_away_is_an_error_and_no_end(slurm: FakedSlurm) -> None:
    slurm.says("squeue", stderr="slurm_load_jobs error: Unable to contact slurm controller\n", code=1)
    with pytest.raises(UserError, match="Unable to contact slurm controller"):
        task_states(["5"])


def test_a_command_that_hangs_is_given_up(slurm: FakedSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    (slurm.folder / "squeue").write_text("#!/bin/sh\nwhile :; do :; done\n")
    (slurm.folder / "squeue").chmod(0o755)
    monkeypatch.setattr(queue, "SECONDS_TO_ANSWER", 0.2)
    with pytest.raises(UserError, match="does not respond"):
        task_states(["5"])


def test_cancelling_what_is_over_says_slurm_s_words(slurm: FakedSlurm) -> None:
    slurm.says("scancel", stderr="scancel: error: Kill job error on job id 5: Invalid job id specified\n", code=1)
    with pytest.raises(UserError, match="Kill job error on job id 5: Invalid job id specified"):
        cancel("5")
