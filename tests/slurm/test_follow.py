"""`--follow` and its table: what is printed while a job waits, runs and ends."""

import io
from pathlib import Path

import pytest
from faked import FakedSlurm, fake_slurm, squeue_row
from rich.console import Console

import slurm.follow
from slurm.follow import follow
from slurm.queue import TaskState, task_states
from slurm.states_table import states_table
from slurm.submission import JobRecord

LONG_AGO = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakedSlurm:
    monkeypatch.setattr(slurm.follow, "QUEUE_POLL_SECONDS", 0.1)
    monkeypatch.setattr(slurm.follow, "POLL_SECONDS", 0.02)
    return fake_slurm(tmp_path, monkeypatch)


def array_of(count: int, folder: Path) -> JobRecord:
    tasks = [f"41_{index}" for index in range(count)]
    return JobRecord("41", tasks, "alpha", "ear sweep run alpha.yaml", "array", LONG_AGO, folder)


def play(
    moments: list[tuple[str, str]], record: JobRecord, faked: FakedSlurm, patch: pytest.MonkeyPatch, terminal: bool
) -> tuple[bool, str]:
    """What `follow` returns and prints where SLURM says one thing after another while the first log grows."""
    left = iter(moments)

    def next_moment(tasks: list[str]) -> dict[str, TaskState]:
        said, printed = next(left)
        faked.says("squeue", said)
        with record.log(record.tasks[0]).open("a") as log:
            log.write(printed)
        return task_states(tasks)

    patch.setattr(slurm.follow, "task_states", next_moment)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, height=40)
    return follow(record, console), stream.getvalue()


MOMENTS = [
    (squeue_row("41_0", "PENDING", reason="Resources") + squeue_row("41_1", "PENDING", reason="Priority"), ""),
    (
        squeue_row("41_0", "RUNNING", "n1") + squeue_row("41_1", "RUNNING", "n2"),
        "submitit INFO: x\nstep 10 [of] 20\nha",
    ),
    (squeue_row("41_0", "COMPLETED", "n1") + squeue_row("41_1", "FAILED", "n2"), "lf a line\n"),
]


def test_lines_tell_of_every_change_and_all_that_is_printed(
    faked: FakedSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well, printed = play(MOMENTS, array_of(2, tmp_path), faked, monkeypatch, terminal=False)
    assert not well
    assert printed.splitlines() == [
        "41_0 pending: waiting for free machines (Resources)",
        "41_1 pending: other jobs have a higher priority (Priority)",
        "41_0 running",
        "41_1 running",
        "41_0  step 10 [of] 20",
        "41_0 completed on n1 0:00",
        "41_1 failed on n2 0:00",
        "41_0  half a line",
    ]


def test_on_a_terminal_a_table_stays_below_what_is_printed(
    faked: FakedSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [*MOMENTS[:2], (MOMENTS[2][0].replace("FAILED", "COMPLETED"), MOMENTS[2][1])]
    well, printed = play(moments, array_of(2, tmp_path), faked, monkeypatch, terminal=True)
    assert well
    before, _, after = printed.rpartition("half a line")
    assert "step 10 [of] 20" in before
    assert "waiting for free" in before
    assert "starts" in after  # the table's head, drawn anew below
    assert "completed on n2" in after


def test_of_a_large_array_those_that_run_are_shown_and_the_rest_is_counted(tmp_path: Path) -> None:
    record = array_of(100, tmp_path)
    words = ["COMPLETED"] * 40 + ["RUNNING"] * 3 + ["PENDING"] * 57
    states = {task: TaskState(task, word, reason="Priority") for task, word in zip(record.tasks, words, strict=True)}
    console = Console(file=io.StringIO(), record=True, width=100)
    console.print(states_table([record], states, most_rows=5))
    lines = console.export_text().splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["41_40", "41_41", "41_42", "41_43", "41_44", "95"]
    assert "40 completed, 55 pending" in lines[-1] or "55 pending, 40 completed" in lines[-1]
