"""ear convert"""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Root


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="An official EAR checkpoint (.pth), or a checkpoint or key of this program."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", help="A folder for a checkpoint of this program, a .pth file for an official one."),
    ],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Convert an official EAR checkpoint to the format of this program, or back. No code in the file is executed.

    \b
    Examples:
      ear convert ear_base.pth --output ear_base
      ear sample ear_base --set tokenizer.checkpoint=kl16.ckpt --classes 207,360 --num 8 --out dogs.png
      ear convert 284beb59 --output mine.pth
    """
    from ear.cli.checkpoint import checkpoint_file
    from ear.convert import from_official, is_ours, to_official
    from ear.store.key_prefix import is_key_prefix

    if is_ours(source) or (not source.exists() and is_key_prefix(source.name)):
        to_official(checkpoint_file(source, root), output)
        print(f"Checkpoint: {output}")
    else:
        print(f"Checkpoint: {from_official(source, output)}")
        print(f"Next:  ear sample {shlex.quote(str(output))} --set tokenizer.checkpoint=KL16.ckpt --out samples.png")
