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
CHECKPOINT_HELP = (
    "A checkpoint file, the folder of a training in the store, the first 8 or more digits of the key of a training or "
    "of its evaluation, or SWEEP:best, the configuration that `ear promote SWEEP` chooses, with its first seed."
)
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=CHECKPOINT_HELP)]
DEFAULT_ROOT = Path("runs")
