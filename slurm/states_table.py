"""The table of jobs of `ear slurm status` and `--follow`."""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table

from slurm.attempts import Attempts
from slurm.queue import TaskState
from slurm.submission import JobRecord


def states_table(records: Sequence[JobRecord], states: Mapping[str, TaskState], most_rows: int | None = None) -> Table:
    """Returns a table with a row per task; beyond `most_rows`, running tasks come first and the rest are counted."""
    table = Table(box=None, pad_edge=False)
    for column in ("job", "name", "starts", "state"):
        table.add_column(column, overflow="fold")
    rows = [(record, states[task]) for record in records for task in record.tasks if task in states]
    left_out: list[TaskState] = []
    if most_rows is not None and len(rows) > most_rows:
        rows.sort(key=lambda row: (row[1].over, row[1].waits))
        rows, left_out = rows[:most_rows], [state for _, state in rows[most_rows:]]
    for record, state in rows:
        style = "red" if state.failed else "dim" if state.over else "cyan"
        table.add_row(state.task, record.name, start_count(record, state.task), state.describe(), style=style)
    if left_out:
        counts = Counter(state.state.lower() for state in left_out)
        table.add_row(f"{len(left_out)} more", "", "", ", ".join(f"{count} {word}" for word, count in counts.items()))
    return table


def start_count(record: JobRecord, task: str) -> str:
    """Returns how often a task was started; empty if unknown."""
    try:
        return str(len(Attempts(record.folder / f"attempts-{task}.json", 0).all()))
    except OSError:  # just replaced by another machine
        return ""
