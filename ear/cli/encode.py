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
    verify: Annotated[bool, typer.Option("--verify", help="Only check a finished cache, every byte of it.")] = False,
    measure_scale: Annotated[
        bool, typer.Option("--measure-scale", help="Also print the scale that gives a finished cache unit variance.")
    ] = False,
    max_skipped: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images that may fail to decode.")
    ] = 0.001,
    slurm: Slurm = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> None:
    """Encode an image folder (one folder a class) into a cache of latents, which `ear train` reads.

    Every image is cropped, encoded together with its mirror, and kept as posterior moments in half precision. What is
    there already is not encoded again, so a killed run goes on by the same command. Started by torchrun, or as a SLURM
    job, its processes share the work.

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
        raise UserError(f"{config}: only image_folder data is encoded beforehand; {resolved.data.name} needs no cache.")
    if resolved.data.latents is None:
        raise UserError("data.latents is not set: name the cache's folder with --set data.latents=FOLDER.")
    folder = Path(resolved.data.latents)
    if not verify:
        check_places(resolved.data, folder)
    inputs = yaml_files(config)
    if launched(context, "encode", Path(config).stem, slurm, dry_run, follow, cache=folder, inputs=inputs):
        return
    if verify or encode_images(resolved, resolved.data, folder, max_skipped):
        inspect_cache(folder, verify, measure_scale)


def check_places(data: "ImageFolderData", cache: Path) -> None:
    """
    Raises:
        UserError: there is no image folder, or the cache would be one of its classes.
    """
    from ear.errors import UserError

    if data.path is None:
        raise UserError("data.path is not set: name the image folder with --set data.path=FOLDER.")
    images = Path(data.path).resolve()
    if cache.resolve().is_relative_to(images):
        raise UserError(
            f"data.latents ({cache}) lies in the image folder {data.path}, where a folder is a class: name "
            "another place with --set data.latents=FOLDER; a cache that was begun there can be moved."
        )


def encode_images(config: "RunConfig", data: "ImageFolderData", folder: Path, max_skipped: float) -> bool:
    """Encodes what is missing; returns whether this process is the one that speaks."""
    from threading import Event

    from ear.cli.progress import progress_bar
    from ear.data.encode import encode_folder
    from ear.data.image_folder import list_images
    from ear.errors import UserError
    from ear.process.distributed import joined_processes
    from ear.process.execution import set_up, worker_processes
    from ear.process.interrupt import on_interrupt
    from ear.tokenizers import KLTokenizer, build_tokenizer

    assert data.path is not None
    images = list_images(Path(data.path))
    if len(images.classes) != data.classes:
        raise UserError(
            f"data.classes is {data.classes}, but {data.path} holds {len(images.classes)} class folders: "
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
                batch_size=max(1, config.execution.batch_size // 2),  # each image goes with its mirror
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
    """Says what the folder's labels mean, and what of it is not encoded."""
    import warnings

    print(f"{len(images):,} images under {images.folder}. {label_line(images.classes)}", flush=True)
    for sentence in images.left_out:
        warnings.warn(sentence, stacklevel=2)


def label_line(classes: Sequence[str]) -> str:
    """Which label means which class, where there are many of the first and the last."""
    shown = [f"{label} is {name!r}" for label, name in enumerate(classes)]
    if len(shown) > LABELS_SHOWN:
        shown = [*shown[: LABELS_SHOWN - 1], "...", shown[-1]]
    return f"Labels, in the order of the names as text: {', '.join(shown)}."


def inspect_cache(folder: Path, verify: bool, measure_scale: bool) -> None:
    import warnings

    import torch

    from ear.cli.progress import progress_bar
    from ear.data.latents import LatentCache
    from ear.errors import UserError
    from ear.tokenizers.kl import measured_scale

    cache = LatentCache.open(folder)
    gigabytes = sum(shard.bytes for shard in cache.index.shards) / 1e9
    print(f"{cache.images:,} images of {cache.classes:,} classes in {folder}, {gigabytes:.3g} GB.")
    if cache.index.skipped:
        print(f"{cache.index.skipped} files did not decode and were left out: {folder / 'skipped.txt'}")
    for sentence in cache.remarks().sentences():
        warnings.warn(f"{folder}: {sentence}", stacklevel=2)
    if verify:
        with progress_bar() as progress:
            task = progress.add_task("verifying", total=len(cache.index.shards), note="")
            faults = cache.verify(lambda: progress.advance(task))
        if faults:
            raise UserError("\n".join(faults))
        print("Every shard is whole and has the content that was written.")
        print(label_line(cache.class_names))
    if measure_scale:
        if not cache.images:
            raise UserError(f"{folder} holds no images to measure the scale of: none decoded (skipped.txt says why).")
        batches = torch.split(torch.arange(cache.images), 1024)
        moments = (cache.moments(batch, torch.zeros(len(batch), dtype=torch.bool)) for batch in batches)
        print(f"Scale to unit variance: {measured_scale(moments):.4f}  (--set tokenizer.scale=...)")
    print(f"Next:  ear train CONFIG --set data.latents={folder} --set data.images={cache.images}")
