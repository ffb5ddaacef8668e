"""The live table: what fits a terminal, and what a log gets instead."""

import pytest
from rich.console import Console

from sweeps import board as board_module
from sweeps.board import Board, Row, clock


@pytest.fixture(autouse=True)
def small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")


def lines_of(board: Board) -> list[str]:
    console = Console(width=100, height=24)
    with console.capture() as captured:
        console.print(board.render())
    return captured.get().splitlines()


def test_thousands_of_trials_fit_and_those_at_work_are_shown() -> None:
    board = Board("Sweep", {str(index): Row(f"trial {index}", 100) for index in range(10_000)}, 2, done_before=3)
    board.update("9000", "training", 10, 1.25)
    board.update("1", "evaluated", 100, 1.0)
    lines = lines_of(board)
    assert len(lines) < 24
    assert any("trial 9000" in line and "10/100" in line and "1.2500" in line for line in lines)
    assert not any(line.startswith("trial 1 ") for line in lines)
    assert f"and {10_000 - (24 - board_module.LINES_AROUND)} more trials" in lines
    assert "4/10003 trials have their result" in lines[-1]


def test_time_left_follows_the_pace_since_the_first_report() -> None:
    row = Row("a", total_steps=100, state="training", steps=30, first_steps=10, first_time=1000.0)
    assert row.eta(now=1040.0) == 140.0  # 20 steps in 40 s, 70 to go
    row.state = "evaluating"
    assert row.eta(now=1040.0) is None


def test_a_log_gets_changes_and_a_summary_every_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(board_module.time, "monotonic", lambda: now[0])
    board = Board("Sweep", {"a": Row("trial a", 100)}, 1, done_before=0)
    for now[0], steps in ((1.0, 10), (30.0, 20), (61.0, 30), (62.0, 40)):
        board.update("a", "training", steps, 1.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "trial a: training"
    assert lines[1].startswith("0/1 trials have their result")
    assert len(lines) == 2


def test_clock() -> None:
    assert [clock(seconds) for seconds in (None, 65, 7384)] == ["", "1:05", "2:03:04"]
