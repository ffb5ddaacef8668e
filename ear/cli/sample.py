"""ear sample"""

from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Checkpoint, Overrides, Root

CLASSES_BY_DEFAULT = 10
MOST_IMAGES = 100_000  # in one grid, which is held in memory


def sample(
    checkpoint: Checkpoint,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Classes to sample; by default ten, evenly spaced. `null` samples without a label."
        ),
    ] = None,
    num: Annotated[int, typer.Option(min=1, max=MOST_IMAGES, help="Images per class.")] = 10,
    out: Annotated[Path, typer.Option(help="PNG file for the grid, one row per class.")] = Path("samples.png"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generation orders and the noise.")] = 0,
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    root: Root = DEFAULT_ROOT,
) -> None:
    """Sample images from a checkpoint into a PNG grid.

    With the sampling settings of CHECKPOINT: those of an evaluation if its key is given, and of the best configuration
    for SWEEP:best.

    \b
    Examples:
      ear sample 284beb59 --classes 3,8 --num 16 --set sampling.cfg=1.5 --out grid.png
      ear sample temperatures:best
    """
    from ear.config.unknown import require_known

    require_known(overrides)  # before torch is imported, which takes seconds

    import torch

    from ear.cli.checkpoint import find_model, override
    from ear.errors import import_extra
    from ear.process.execution import set_up
    from ear.sampling import Sampler, save_grid
    from ear.store.verify import require_as_published
    from ear.terminal.progress import progress_bar

    import_extra("torchvision.utils", "evaluation")  # fail before sampling, not when the grid is written
    require_png_place(out)
    found = find_model(checkpoint, root)
    path, config = found.checkpoint, override(found.config, overrides, found.checkpoint)
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
    """Check that a PNG file can be written to `out`.

    Raises:
        UserError: it can't be written, or its name does not end in .png.
    """
    from ear.errors import UserError
    from ear.files.writing import require_file_place

    require_file_place(out, "--out")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the grid is a PNG file; use a name that ends in .png.")


def require_a_grid(labels: list[int] | None, num: int) -> None:
    """Check that the grid has at most `MOST_IMAGES` images.

    Raises:
        UserError: it has more.
    """
    from ear.errors import UserError

    images = num * len(labels or [0])
    if images > MOST_IMAGES:
        raise UserError(
            f"--classes and --num: {images:,} images exceed the limit of {MOST_IMAGES:,} for one grid: sample fewer, "
            "or write them as files with `ear evaluate --keep-images DIR`."
        )


def parse_classes(text: str | None, classes: int) -> list[int] | None:
    """Parse `--classes`: `3,8` -> [3, 8]; None -> ten evenly spaced classes; `null` -> None, which means no label.

    Raises:
        UserError: the text is not a list of numbers, or names a class that the model does not have.
    """
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
        raise UserError(f"{option}: give comma-separated numbers such as 3,8, or null.") from None
    if wrong := [label for label in labels if not 0 <= label < classes]:
        raise UserError(f"{option}: the model has classes 0 to {classes - 1}, not {shortened(str(wrong[0]))}.")
    return labels
