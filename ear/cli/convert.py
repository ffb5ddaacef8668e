"""ear convert"""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="An official EAR checkpoint (.pth), or one of this program.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", help="A folder for a checkpoint of this program, a .pth file for an official one."),
    ],
) -> None:
    """Convert an official EAR checkpoint to the format of this program, or back. No code in the file is executed.

    \b
    Examples:
      ear convert ear_base.pth --output ear_base
      ear sample ear_base --set tokenizer.checkpoint=kl16.ckpt --classes 207,360 --num 8 --out dogs.png
      ear convert runs/store/KEY --output mine.pth
    """
    from ear.cli.checkpoint import checkpoint_file
    from ear.convert import from_official, is_ours, to_official

    if is_ours(source):
        to_official(checkpoint_file(source), output)
        print(f"Checkpoint: {output}")
    else:
        print(f"Checkpoint: {from_official(source, output)}")
        print(f"Next:  ear sample {shlex.quote(str(output))} --set tokenizer.checkpoint=KL16.ckpt --out samples.png")
