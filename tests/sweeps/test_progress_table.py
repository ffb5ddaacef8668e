"""The live table: what fits a terminal, and what a log gets instead."""

import re

import pytest
from rich.console import Console

from ear.terminal.units import clock
from sweeps.driver import progress_table as table_module
from sweeps.driver.progress_table import ROWS_KEPT, ProgressTable
from sweeps.driver.task_progress import Counts, Row


@pytest.fixture(autouse=True)
def small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")


def board_of(tasks: int, counts: Counts) -> ProgressTable:
    table = ProgressTable("Sweep", 2, lambda: counts)
    for index in range(tasks):
        table.begin(str(index), f"task {index}", 100)
    return table


def lines_of(table: ProgressTable) -> list[str]:
    console = Console(width=100, height=24)
    with console.capture() as captured:
        console.print(table.render())
    return captured.get().splitlines()


def test_many_tasks_fit_and_those_at_work_are_shown() -> None:
    table = board_of(100, Counts(3, 1000, 0, 0))
    for index in range(90):
        table.update(str(index), "finished")
    table.update("95", "training", 10, 1.25)
    lines = lines_of(table)
    assert len(lines) < 24
    assert any("task 95" in line and "10/100" in line and "1.2500" in line for line in lines)
    assert not any(line.startswith("task 80 ") for line in lines)
    assert f"and {100 - (24 - table_module.LINES_AROUND)} more tasks" in lines
    assert "3 of 1000 runs done" in lines[-1]


def test_what_is_over_is_forgotten_after_a_while() -> None:
    table = ProgressTable("Sweep", 2, lambda: Counts(0, 0, 0, 0))
    for index in range(10_000):
        table.begin(str(index), "task", 100)
        table.update(str(index), "finished")
    assert len(table.rows) == ROWS_KEPT + 1


def test_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(table_module.time, "monotonic", lambda: now[0])
    table = board_of(1, Counts(1, 3, steps=400, evaluations=5))
    for now[0], steps in ((0.0, 10), (40.0, 30)):  # 20 steps in 40 s
        table.update("0", "training", steps, 1.0)
    assert table.rows["0"].eta() == 140.0  # 70 to go
    assert table.seconds_left() == 400.0  # 800 s of steps in two places
    table.update("0", "evaluating")
    assert table.rows["0"].eta() is None
    assert Row("a", 100).eta() is None


def test_a_log_gets_changes_and_a_summary_every_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(table_module.time, "monotonic", lambda: now[0])
    table = board_of(1, Counts(0, 1, 60, 1, "1 of 4 proposed"))
    for now[0], steps in ((1.0, 10), (30.0, 20), (61.0, 30), (62.0, 40)):
        table.update("0", "training", steps, 1.0)
        table.tick()
    lines = capsys.readouterr().err.splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "
    assert re.fullmatch(stamp + "task 0: training", lines[0])
    assert re.match(stamp + "0 of 1 runs done  ·  1 of 4 proposed", lines[1])
    assert len(lines) == 2


def test_metrics_show_as_runs_end(capsys: pytest.CaptureFixture[str]) -> None:
    table = ProgressTable("Sweep", 1, lambda: Counts(2, 2, 0, 0), ["fid", "recall"])
    table.begin("a", "alpha=1.0", 100)
    table.evaluated("a", "alpha=1.0 cfg=1", {"fid": 31.0, "recall": 0.5, "is": 2.0})
    table.evaluated("a", "alpha=1.0 cfg=2", {"fid": 28.5, "recall": 0.4, "is": 2.0})
    table.evaluated(None, "by another driver", {"fid": 7.0, "recall": 0.1, "is": 2.0})
    logged = capsys.readouterr().err.splitlines()
    assert [line[21:] for line in logged] == [
        "alpha=1.0 cfg=1: fid 31.00, recall 0.500",
        "alpha=1.0 cfg=2: fid 28.50, recall 0.400",
        "by another driver: fid 7.00, recall 0.100",
    ]
    row = next(line for line in lines_of(table) if line.startswith("alpha"))
    assert "28.50 (best of 2)" in row
    assert "0.500 (best of 2)" in row


def test_the_last_state_is_shown_although_counts_are_taken_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    counts = [Counts(0, 1, 60, 1)]
    with ProgressTable("Sweep", 1, lambda: counts[0]):
        counts[0] = Counts(1, 1, 0, 0)
    assert capsys.readouterr().err[21:] == "1 of 1 runs done\n"


def test_clock() -> None:
    assert [clock(seconds) for seconds in (None, 65, 7384)] == ["", "1:05", "2:03:04"]
