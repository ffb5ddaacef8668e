"""The `ear promote` command."""

from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Json, Root


def promote(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's name, as in its YAML.")],
    metric: Annotated[
        str | None, typer.Option(metavar="METRIC", help="What to choose by. Default: the sweep's own metric.")
    ] = None,
    constraint: Annotated[
        list[str],
        typer.Option(metavar="BOUND", help="A bound on a metric's mean, e.g. 'recall>=0.5'. Repeatable."),
    ] = [],  # noqa: B006 (typer copies it)
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG", help="Write this configuration, with what carries over from the winner; it says what."
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(min=20, metavar="N", help="Images to measure again with. Default: twice as many as the sweep."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=1000, metavar="K", help="Train K fresh seeds, and measure these."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The YAML to write. Default: SWEEP-final.yaml.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Choose the best configuration of a sweep, measure it again, and write it as a configuration to train.

    The best mean and all that a paired t-test over the seeds can't tell from it tie; the cheapest of them is chosen, by
    FLOPs of training, then of sampling. Of a search, the best that was confirmed. Its trainings are measured again with
    a fresh evaluation seed and more images, so that the winner's luck shows. What is in the store is not computed
    again.

    \b
    Examples:
      ear promote temperatures -o final.yaml
      ear promote guidance --constraint 'recall>=0.5' --scale imagenet256_large
      ear promote alpha --seeds 3
    """
    import json
    from dataclasses import asdict

    from ear.errors import import_extra

    import_extra("pandas", "analysis")
    from analysis.promotion.bounds import parse_constraints, require_metric
    from analysis.promotion.promote import Request, carried_words
    from analysis.promotion.promote import promote as promote_sweep

    request = Request(
        sweep,
        None if metric is None else require_metric(metric, "--metric"),
        parse_constraints(constraint),
        scale,
        images,
        seeds,
        out or Path(f"{sweep}-final.yaml"),
        force,
    )
    found = promote_sweep(request, root, lambda words: typer.echo(words, err=True))
    if as_json:
        print(json.dumps({**asdict(found.promotion), "record": str(found.record)}, indent=2))
        return
    print(*found.lines, *carried_words(found.promotion), sep="\n")
    at_root = "" if root == DEFAULT_ROOT else f" --root {root}"
    print(f"\nConfiguration: {request.out}", f"Record: {found.record}", sep="\n")
    print(f"Next:  ear train {request.out} --evaluate{at_root}")
    print(f"       ear sample {sweep}:best{at_root}")
