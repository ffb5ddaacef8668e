"""ear evaluate"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.launch import DryRun, Follow, Slurm, launched
from ear.cli.options import CHECKPOINT_HELP, DEFAULT_ROOT, Json, Overrides, Root

if TYPE_CHECKING:
    from ear.config import RunConfig
    from ear.evaluation.result import Evaluation


def evaluate(
    context: typer.Context,
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help=CHECKPOINT_HELP)],
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    keep_images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the generated images to this empty folder, as PNG files."),
    ] = None,
    reconstruction: Annotated[
        bool, typer.Option("--reconstruction", help="Measure only the tokenizer; CHECKPOINT is then a configuration.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
    slurm: Slurm = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> None:
    """Measure FID, IS, precision and recall of a checkpoint, with and without class labels.

    With the settings of CHECKPOINT: those of an evaluation if its key is given, and of the best configuration for
    SWEEP:best. An evaluation that is already in the store is not repeated. Under torchrun, or as a SLURM job, the
    processes share the sampling.

    \b
    Examples:
      ear evaluate 284beb59 --set sampling.cfg=1.5 --set evaluation.images=4000
      ear evaluate runs/store/KEY --set evaluation.statistics=VIRTUAL_imagenet256_labeled.npz
      ear evaluate runs/store/KEY --set evaluation.images=50000 --slurm training
      ear evaluate temperatures:best --set evaluation.seed=1
      ear evaluate fashion_mnist --reconstruction
    """
    from ear.config.loading import yaml_files
    from ear.config.unknown import require_known

    require_known(overrides)  # before torch is imported, which takes seconds
    if slurm is not None:
        check(checkpoint, overrides, reconstruction, root)
    inputs = yaml_files(checkpoint) if reconstruction else ()
    if launched(
        context, "evaluate", Path(checkpoint).stem[:12].replace(":", "-"), slurm, dry_run, follow, inputs=inputs
    ):
        return
    if reconstruction:
        evaluate_tokenizer(checkpoint, overrides, root, as_json)
    else:
        # Imports torch, which takes longer than saying what is wrong with a configuration.
        from ear.cli.checkpoint import find_model, override

        found = find_model(Path(checkpoint), root)
        config = override(found.config, overrides, found.checkpoint)
        evaluate_checkpoint(found.checkpoint, config, keep_images, root, as_json)


def check(name: str, overrides: list[str], reconstruction: bool, root: Path) -> None:
    """Check the arguments before a job is queued, so that it does not fail as soon as it starts.

    Raises:
        UserError: there is no such checkpoint or configuration, or an override is invalid.
    """
    from ear.cli.checkpoint import find_model, override
    from ear.config import load_config
    from ear.evaluation.reference import require_enough_images
    from ear.evaluation.statistics_file import read_statistics_file

    if reconstruction:
        config = load_config(name, overrides)
    else:
        found = find_model(Path(name), root)
        config = override(found.config, overrides, found.checkpoint)
        require_enough_images(config)
    statistics = config.evaluation.statistics
    if statistics is not None and Path(statistics).exists():  # otherwise it may exist only on the job's machine
        read_statistics_file(Path(statistics))


def evaluate_checkpoint(path: Path, config: "RunConfig", keep_images: Path | None, root: Path, as_json: bool) -> None:
    """Evaluate a checkpoint with the settings of `config`, or find this evaluation in the store; print the metrics.

    Raises:
        UserError: the checkpoint is damaged, or there are too few images.
    """
    from contextlib import ExitStack
    from dataclasses import asdict

    from ear.data import load_dataset
    from ear.evaluation.evaluate import evaluate as evaluate_file
    from ear.evaluation.reference import require_enough_images
    from ear.process.distributed import joined_processes
    from ear.process.execution import set_up
    from ear.store import Store
    from ear.store.checkpoint_identity import checkpoint_keys
    from ear.store.uses import record_use
    from ear.terminal.progress import progress_bar

    require_enough_images(config)  # before the real images are read
    set_up(config.execution)
    dataset, store = load_dataset(config.data), Store(root)
    with ExitStack() as stack:
        processes = stack.enter_context(joined_processes(config.execution.device))
        keys = checkpoint_keys(config, dataset, path, store, processes)
        # Computed before the progress bar starts, because hashing the real images may show a bar of its own. Every
        # process does it: one reads the images, and the others wait outside of collectives, which would time out.
        used = [keys.evaluation, keys.training]
        if processes.is_main:
            record_use(store, f"evaluate {keys.training[:12]} {keys.evaluation[:8]}", used)
        progress = stack.enter_context(progress_bar(disable=not processes.is_main))
        images = config.evaluation.images + config.evaluation.null_images
        task = progress.add_task("sampling", total=images // processes.count, note="preparing the extractor")
        evaluation = evaluate_file(
            path,
            config,
            keys,
            dataset,
            store,
            processes=processes,
            on_images=lambda done: progress.update(task, completed=round(done), note=""),
            keep_images=keep_images,
        )
    if not processes.is_main:
        return
    if as_json:
        print(json.dumps(asdict(evaluation)))
        return
    show(evaluation)
    print(f"Samples: {store.path(keys.evaluation) / 'samples.png'}")


def show(evaluation: "Evaluation") -> None:
    """Print the metrics, the reference and the feature extractor."""
    for title, suffix, images in (
        ("class labels", "", evaluation.images),
        ("no label", "_null", evaluation.null_images),
    ):
        values = "   ".join(
            f"{shown} {evaluation.metrics[name + suffix]:.3f}"
            for name, shown in (("fid", "FID"), ("is", "IS"), ("precision", "precision"), ("recall", "recall"))
            if name + suffix in evaluation.metrics
        )
        print(f"{title:>12}:  {values}   ({images} images)")
    real = f"{evaluation.reference_images} images of " if evaluation.reference_images else ""
    accuracy = f" ({evaluation.extractor_accuracy:.1%} on held-out images)" if evaluation.extractor_accuracy else ""
    print(f"against {real}{evaluation.reference}, extractor {evaluation.extractor}{accuracy}")


def evaluate_tokenizer(name: str, overrides: list[str], root: Path, as_json: bool) -> None:
    """Measure a tokenizer's reconstruction FID and PSNR, or find them in the store, and print them."""
    from dataclasses import asdict

    from ear.config import load_config

    config = load_config(name, overrides)
    # Not before: importing torch takes longer than saying what is wrong with a configuration.
    from ear.data import load_dataset
    from ear.evaluation.reconstruction import reconstruct
    from ear.process.execution import set_up
    from ear.store import Store, reference_keys
    from ear.terminal.progress import progress_bar

    set_up(config.execution)
    dataset = load_dataset(config.data)
    keys = reference_keys(config, dataset)
    with progress_bar() as progress:
        task = progress.add_task("reconstructing", total=config.evaluation.images, note="preparing the extractor")
        found = reconstruct(
            config,
            *keys,
            dataset,
            Store(root),
            lambda done: progress.update(task, completed=done, note=""),
        )
        progress.update(task, total=found.images)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(
        f"Reconstruction FID {found.fid:.3f}, PSNR {found.peak_signal_to_noise:.1f} dB, of {found.images} images "
        f"against {found.reference}, extractor {found.extractor}" + (f" ({found.warning})" if found.warning else "")
    )
