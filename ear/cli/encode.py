"""ear encode"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.launch import DryRun, Follow, Slurm, launched
from ear.cli.options import Overrides

if TYPE_CHECKING:
    from ear.config import RunConfig
    from ear.config.schema import ImageFolderData
    from ear.data.image_folder import ImageList

LABELS_SHOWN = 12


def encode(
    context: typer.Context,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A shipped name (imagenet256_base) or a YAML file.")],
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    verify: Annotated[bool, typer.Option("--verify", help="Only check every byte of a finished cache.")] = False,
    measure_scale: Annotated[
        bool, typer.Option("--measure-scale", help="Also print the scale that gives the latents unit variance.")
    ] = False,
    max_skipped: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum fraction of images that may fail to decode.")
    ] = 0.001,
    slurm: Slurm = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> None:
    """Encode an image folder (one subfolder per class) into a cache of latents for `ear train`.

    Crops each image, encodes it and its mirror image, and stores their posterior moments in half precision. Images
    that are already in the cache are not encoded again, so the same command resumes a killed run. Under torchrun, or
    as a SLURM job, the processes share the work.

    \b
    Examples:
      ear encode imagenet256_base --set data.path=TRAIN --set data.latents=CACHE --set tokenizer.checkpoint=kl16.ckpt
      ear encode imagenet256_base --set data.latents=CACHE --verify
      ear encode imagenet256_base --set data.path=TRAIN --set data.latents=CACHE ... --slurm training
    """
    from ear.config import load_config
    from ear.config.loading import yaml_files
    from ear.config.schema import ImageFolderData
    from ear.errors import UserError

    resolved = load_config(config, overrides)
    if not isinstance(resolved.data, ImageFolderData):
        raise UserError(f"{config}: only image_folder data needs encoding; {resolved.data.name} is used without it.")
    if resolved.data.latents is None:
        raise UserError("data.latents is not set: set the cache folder with --set data.latents=FOLDER.")
    folder = Path(resolved.data.latents)
    if not verify:
        check_folders(resolved.data, folder)
    inputs = yaml_files(config)
    if launched(context, "encode", Path(config).stem, slurm, dry_run, follow, cache=folder, inputs=inputs):
        return
    if verify or encode_images(resolved, resolved.data, folder, max_skipped):
        inspect_cache(folder, verify, measure_scale)


def check_folders(data: "ImageFolderData", cache: Path) -> None:
    """Check that an image folder is set and that the cache lies outside it.

    Raises:
        UserError: `data.path` is not set, or the cache folder would count as one of its classes.
    """
    from ear.errors import UserError

    if data.path is None:
        raise UserError("data.path is not set: set the image folder with --set data.path=FOLDER.")
    images = Path(data.path).resolve()
    if cache.resolve().is_relative_to(images):
        raise UserError(
            f"data.latents ({cache}) is inside the image folder {data.path}, where every folder is a class: choose "
            "another folder with --set data.latents=FOLDER. You can move a cache that was started there."
        )


def encode_images(config: "RunConfig", data: "ImageFolderData", folder: Path, max_skipped: float) -> bool:
    """Encode the images that the cache lacks. Returns whether this is the main process, which prints.

    Raises:
        KeyboardInterrupt: a process was interrupted before the end.
        UserError: the image folder does not have `data.classes` classes.
    """
    from threading import Event

    from ear.data.encode import encode_folder
    from ear.data.image_folder import list_images
    from ear.errors import UserError
    from ear.process.distributed import joined_processes
    from ear.process.execution import set_up, worker_processes
    from ear.process.interrupt import on_interrupt
    from ear.terminal.progress import progress_bar
    from ear.tokenizers import KLTokenizer, build_tokenizer

    assert data.path is not None
    images = list_images(Path(data.path))
    if len(images.classes) != data.classes:
        raise UserError(
            f"data.classes is {data.classes}, but {data.path} has {len(images.classes)} class folders: "
            f"--set data.classes={len(images.classes)} if the folder is right."
        )
    tokenizer = build_tokenizer(config)
    assert isinstance(tokenizer, KLTokenizer)
    stop = Event()
    with joined_processes(config.execution.device) as processes, on_interrupt(stop.set):
        if processes.is_main:
            announce(images)
        device = set_up(config.execution)
        tokenizer_hash = tokenizer.content_hash()
        tokenizer.to(device)
        with progress_bar(disable=not processes.is_main) as progress:
            task = progress.add_task("encoding", total=None, note="")
            finished = encode_folder(
                images,
                folder,
                tokenizer.moments,
                tokenizer_hash=tokenizer_hash,
                size=data.size,
                exif_orientation=data.exif_orientation,
                batch_size=max(1, config.execution.batch_size // 2),  # each image comes with its mirror image
                workers=worker_processes(config.execution),
                device=device,
                rank=processes.rank,
                world=processes.count,
                max_skipped=max_skipped,
                on_images=lambda done, total: progress.update(task, completed=done, total=total),
                stop=stop.is_set,
            )
        if processes.any(not finished):
            raise KeyboardInterrupt
        return processes.is_main


def announce(images: "ImageList") -> None:
    """Print which label is which class, and warn about files that will not be encoded."""
    import warnings

    print(f"{len(images):,} images under {images.folder}. {label_line(images.classes)}", flush=True)
    for sentence in images.left_out:
        warnings.warn(sentence, stacklevel=2)


def label_line(classes: Sequence[str]) -> str:
    """Return a sentence that says which label is which class; of many classes, only the first ones and the last."""
    shown = [f"{label} is {name!r}" for label, name in enumerate(classes)]
    if len(shown) > LABELS_SHOWN:
        shown = [*shown[: LABELS_SHOWN - 1], "...", shown[-1]]
    return f"Labels, in alphabetical order of the class names: {', '.join(shown)}."


def inspect_cache(folder: Path, verify: bool, measure_scale: bool) -> None:
    """Print a cache's size and content; optionally verify every shard and measure the scale to unit variance.

    Raises:
        UserError: there is no finished cache, a shard is damaged, or there are no images to measure the scale of.
    """
    import warnings

    import torch

    from ear.data.latents import LatentCache
    from ear.errors import UserError
    from ear.terminal.progress import progress_bar
    from ear.tokenizers.kl import measured_scale

    cache = LatentCache.open(folder)
    gigabytes = sum(shard.bytes for shard in cache.index.shards) / 1e9
    print(f"{cache.images:,} images of {cache.classes:,} classes in {folder}, {gigabytes:.3g} GB.")
    if cache.index.skipped:
        print(f"{cache.index.skipped} files could not be decoded and were skipped, see {folder / 'skipped.txt'}")
    for sentence in cache.remarks().sentences():
        warnings.warn(f"{folder}: {sentence}", stacklevel=2)
    if verify:
        with progress_bar() as progress:
            task = progress.add_task("verifying", total=len(cache.index.shards), note="")
            faults = cache.verify(lambda: progress.advance(task))
        if faults:
            raise UserError("\n".join(faults))
        print("Every shard is complete and unchanged.")
        print(label_line(cache.class_names))
    if measure_scale:
        if not cache.images:
            raise UserError(
                f"{folder} has no images to measure the scale of: none could be decoded (skipped.txt says why)."
            )
        batches = torch.split(torch.arange(cache.images), 1024)
        moments = (cache.moments(batch, torch.zeros(len(batch), dtype=torch.bool)) for batch in batches)
        print(f"Scale to unit variance: {measured_scale(moments):.4f}  (--set tokenizer.scale=...)")
    print(f"Next:  ear train CONFIG --set data.latents={folder} --set data.images={cache.images}")
