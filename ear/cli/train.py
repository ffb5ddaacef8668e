"""ear train"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ear.cli.evaluate import evaluate_checkpoint
from ear.cli.launch import DryRun, Follow, Slurm, launched
from ear.cli.options import DEFAULT_ROOT, Json, Overrides, Root

if TYPE_CHECKING:
    from ear.config import RunConfig
    from ear.run import Run, TrainingOutcome


MOST_NAME = 40  # characters of a result's name in the names of jobs and users
FROM_HELP = (
    "Instead of CONFIG, the configuration of a result: SWEEP:best, the first 8 or more digits of a key in the store, "
    "the folder of a training or a checkpoint file. Only the configuration is taken, with the result's seed, not the "
    "weights; so without --set nothing is trained again."
)


def train(
    context: typer.Context,
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A shipped name (digits) or a YAML file.")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", metavar="RESULT", help=FROM_HELP, show_default=False)] = None,
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    then_evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Then evaluate the result with the configuration's settings.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
    slurm: Slurm = None,
    dry_run: DryRun = False,
    follow: Follow = False,
) -> None:
    """Train one configuration. Stages that are already in the store are not trained again.

    Ctrl-C saves the training; the same command resumes it. Under torchrun, or as a SLURM job, all processes train
    together.

    \b
    Examples:
      ear train digits --set scoring.alpha=1.25 --set seed=1
      ear train fashion_mnist --evaluate
      torchrun --nproc-per-node 8 -m ear train imagenet256_base --set data.latents=CACHE
      ear train imagenet256_large --set data.latents=CACHE --slurm training
      ear train --from temperatures:best --set seed=7 --evaluate
    """
    resolved, name, inputs = configuration(config, source, overrides, root)
    if launched(context, "train", name, slurm, dry_run, follow, inputs=inputs):
        return
    # Not before: importing torch takes longer than saying what is wrong with a configuration.
    from contextlib import ExitStack
    from threading import Event

    from ear.cli.progress import TrainingBar
    from ear.process.distributed import joined_processes
    from ear.process.interrupt import on_interrupt
    from ear.run import Run
    from ear.store import Store
    from ear.store.uses import record_use

    stop = Event()
    # One process group for training and evaluation: torchrun's processes can't form a second one.
    with joined_processes(resolved.execution.device) as processes:
        with ExitStack() as stack:
            stack.enter_context(on_interrupt(stop.set))
            bars = [stack.enter_context(TrainingBar(resolved.total_steps))] if processes.is_main else []
            run = Run(resolved, Store(root), bars, processes)
            known = run.training_outcome() is not None
            if processes.is_main:
                record_use(run.store, f"train {name} {run.keys.training[:8]}", run.keys.stages)
            outcome = run.train(stop.is_set)
        if outcome is None:
            raise KeyboardInterrupt
        if processes.is_main:
            report(run, outcome, known, as_json)
        if then_evaluate and outcome.diverged_at is None:
            evaluate_checkpoint(outcome.checkpoint, resolved, None, root, as_json)


def configuration(
    config: str | None, source: str | None, overrides: list[str], root: Path
) -> tuple["RunConfig", str, tuple[Path, ...]]:
    """Return the configuration to train, a name for it, and the YAML files that it is read from.

    Raises:
        UserError: not exactly one of CONFIG and --from is given, it can't be found, or an override is invalid.
    """
    from ear.config import RunConfig, load_config
    from ear.config.loading import apply_overrides, validate, yaml_files
    from ear.errors import UserError

    if (config is None) == (source is None):
        raise UserError("Give either CONFIG or --from RESULT: `ear train --help` describes both.")
    if config is not None:
        return load_config(config, overrides), Path(config).stem, yaml_files(config)
    from ear.cli.checkpoint import find_model  # imports torch

    found = find_model(Path(str(source)), root)
    values = found.config.model_dump(mode="json")
    apply_overrides(values, overrides)
    name = Path(str(source)).stem.replace(":", "-")[:MOST_NAME]
    return validate(RunConfig, values, source=f"--from {source}"), name, ()


def report(run: "Run", outcome: "TrainingOutcome", known: bool, as_json: bool) -> None:
    """Print how the training ended and which commands come next."""
    if as_json:
        print(json.dumps({**vars(outcome), "checkpoint": str(outcome.checkpoint), "reused": known}))
        return
    if outcome.diverged_at is not None:
        print(f"Diverged at step {outcome.diverged_at}: the loss or gradient was not finite. Recorded as a result.")
        return
    history = run.history()
    verb = "Already in the store" if known else "Trained"
    print(f"{verb}: {outcome.step} steps in {outcome.seconds:.1f} s, loss {history[-1].loss:.4f}.")
    print(f"Checkpoint: {outcome.checkpoint}")
    print(f"Next:  ear evaluate {outcome.checkpoint.parent}")
    print(f"       ear sample {outcome.checkpoint.parent} --out samples.png")
    if sampled_otherwise(run, outcome.checkpoint):
        print(
            "These use the sampling settings that the checkpoint was first trained for. With --evaluate, this command"
        )
        print("measures with those of its configuration, and `ear sample` draws with them for the evaluation's key.")


def sampled_otherwise(run: "Run", checkpoint: Path) -> bool:
    """Whether a checkpoint's own sampling settings differ from those of this run, which shares its training."""
    from ear.training.checkpoint import load_header

    return load_header(checkpoint).config.sampling != run.config.sampling
