"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a parameter, e.g. scoring.alpha=1.25. Repeatable."),
]
Root = Annotated[Path, typer.Option("--root", envvar="EAR_ROOT", metavar="DIR", help="Output root.")]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON.")]
Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint file, or the folder of a training in the store.")
]
DEFAULT_ROOT = Path("runs")
