"""Prints the sweeps below an output root, from what they recorded in its store and from their folders."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ear.store import Store
from ear.store.uses import recorded_uses
from ear.terminal.console import terminal
from ear.terminal.units import age
from sweeps.driver.sweep_folder import SweepFolder
from sweeps.spec.identity import user_of


@dataclass(frozen=True)
class ListedSweep:
    """A sweep that was run below an output root."""

    name: str
    digest: str  # the first digits: sweeps of one name and different runs are different sweeps
    results: int  # in the store, of those that it needs; shared ones count in each sweep
    drivers: int  # of this name, running and visible from here
    failed: int  # tasks of this name that failed and were not started again since
    changed: str  # when it last recorded other runs, ISO 8601, UTC


def listed_sweeps(root: Path) -> list[ListedSweep]:
    """Returns the sweeps below an output root, the one that changed last first.

    Raises:
        UserError: a record is damaged.
    """
    store = Store(root, reading=True)
    published = store.published()
    found = []
    for use in recorded_uses(store):
        name, slash, digest = use.user.rpartition("/")
        if not slash or not name.startswith(user_of("")):
            continue
        name = name.removeprefix(user_of(""))
        folder = SweepFolder(root, name)
        found.append(
            ListedSweep(
                name,
                digest,
                len(use.keys & published),
                len(folder.running()),
                len(folder.failures()),
                use.updated,
            )
        )
    return sorted(found, key=lambda sweep: sweep.changed, reverse=True)


def show_sweeps(root: Path, as_json: bool) -> None:
    """Prints the sweeps below an output root."""
    sweeps = listed_sweeps(root)
    if as_json:
        print(json.dumps([asdict(sweep) for sweep in sweeps], indent=2))
        return
    if not sweeps:
        terminal().print(f"No sweep was run below {root}: start one with `ear sweep run FILE`.", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("sweep", no_wrap=True)
    for column in ("results", "failed", "drivers", "changed"):
        table.add_column(column, justify="right", no_wrap=True)
    names = [sweep.name for sweep in sweeps]
    for sweep in sweeps:
        shared = names.count(sweep.name) > 1
        table.add_row(
            f"{sweep.name} ({sweep.digest})" if shared else sweep.name,
            f"{sweep.results:,}",
            str(sweep.failed) if sweep.failed else Text("none", "dim"),
            str(sweep.drivers) if sweep.drivers else Text("none", "dim"),
            age(sweep.changed),
        )
    terminal().print(table)
