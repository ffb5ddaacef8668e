"""ear sample"""

from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import Checkpoint, Overrides

CLASSES_BY_DEFAULT = 10
MOST_IMAGES = 100_000  # of one grid, whose pixels are all in memory


def sample(
    checkpoint: Checkpoint,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Classes to draw, by default ten spread over all. `null` draws without one."
        ),
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=MOST_IMAGES, help="Images of each class.")] = 10,
    out: Annotated[Path, typer.Option(help="PNG of the grid, one row a class.")] = Path("samples.png"),
    seed: Annotated[int, typer.Option(min=0, help="Seeds orders and noise.")] = 0,
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
) -> None:
    """Draw images from a checkpoint into a PNG grid.

    Example:  ear sample runs/store/KEY --classes 3,8 --num 16 --set sampling.cfg=1.5 --out grid.png
    """
    import torch

    from ear.cli.checkpoint import checkpoint_file, override
    from ear.cli.progress import progress_bar
    from ear.errors import import_extra
    from ear.process.execution import set_up
    from ear.sampling import Sampler, save_grid
    from ear.store.verify import require_as_published
    from ear.training.checkpoint import load_header

    import_extra("torchvision.utils", "evaluation")  # before the work whose result it writes
    require_png_place(out)
    path = checkpoint_file(checkpoint)
    config = override(load_header(path).config, overrides, path)
    labels = parse_classes(classes, config.data.classes)
    require_a_grid(labels, num)
    require_as_published(path)
    sampler = Sampler.load(path, config).to(set_up(config.execution))
    rows = len(labels) if labels else 1
    with progress_bar() as progress:
        task = progress.add_task("sampling", total=rows * num, note="")
        images = sampler.sample(
            torch.tensor(labels).repeat_interleave(num) if labels else None,
            range(rows * num),
            config.sampling,
            seed=seed,
            batch_size=config.execution.batch_size,
            on_step=lambda done: progress.advance(task, done),
        )
    save_grid(images, out, columns=num)
    print(f"{rows * num} images in {out}")


def require_png_place(out: Path) -> None:
    """
    Raises:
        UserError: no PNG file can be written there.
    """
    from ear.errors import UserError
    from ear.files.writing import require_file_place

    require_file_place(out, "--out")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the grid is a PNG file: give a name that ends in .png.")


def require_a_grid(labels: list[int] | None, num: int) -> None:
    """
    Raises:
        UserError: so many images are no picture to look at.
    """
    from ear.errors import UserError

    images = num * len(labels or [0])
    if images > MOST_IMAGES:
        raise UserError(
            f"--classes and --num: {images:,} images are more than the {MOST_IMAGES:,} of one grid: draw fewer, or let "
            "`ear evaluate --keep-images DIR` write them as files."
        )


def parse_classes(text: str | None, classes: int) -> list[int] | None:
    """`3,8` -> [3, 8]; None -> ten classes spread over all; `null` -> None, no class at all."""
    from ear.data.base import evenly_spaced
    from ear.errors import UserError, shortened

    if text is None:
        return evenly_spaced(classes, CLASSES_BY_DEFAULT).tolist()
    if text == "null":
        return None
    option = f"--classes {shortened(text)}"
    try:
        labels = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"{option}: give numbers with commas between them, such as 3,8, or null.") from None
    if wrong := [label for label in labels if not 0 <= label < classes]:
        raise UserError(f"{option}: the model has the classes 0 to {classes - 1}, not {shortened(str(wrong[0]))}.")
    return labels
