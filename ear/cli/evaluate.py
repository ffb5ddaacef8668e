"""ear evaluate"""

import json

from ear.cli.options import DEFAULT_ROOT, Checkpoint, Json, Overrides, Root


def evaluate(
    checkpoint: Checkpoint,
    overrides: Overrides = [],  # noqa: B006 (typer copies it)
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Measure FID, IS, precision and recall of a checkpoint, with and without class labels.

    What the store holds already is not measured again.

    Example:  ear evaluate runs/store/KEY --set sampling.cfg=1.5 --set evaluation.images=4000
    """
    from dataclasses import asdict

    from ear.cli.checkpoint import checkpoint_file, override
    from ear.cli.progress import progress_bar
    from ear.data import load_dataset
    from ear.evaluation import evaluate as evaluate_checkpoint
    from ear.execution import set_up
    from ear.store import Store, checkpoint_keys
    from ear.training.checkpoint import load_header

    path = checkpoint_file(checkpoint)
    config = override(load_header(path).config, overrides, path)
    set_up(config.execution)
    dataset, store = load_dataset(config.data), Store(root)
    keys = checkpoint_keys(config, dataset, path)
    with progress_bar() as progress:
        task = progress.add_task(
            "sampling", total=config.evaluation.images + config.evaluation.null_images, note="preparing the extractor"
        )
        evaluation = evaluate_checkpoint(
            path, config, keys, dataset, store, lambda done: progress.update(task, completed=done, note="")
        )
    if as_json:
        print(json.dumps(asdict(evaluation)))
        return
    for title, suffix, images in (
        ("class labels", "", evaluation.images),
        ("no label", "_null", evaluation.null_images),
    ):
        fid, score, precision, recall = (
            evaluation.metrics[name + suffix] for name in ("fid", "is", "precision", "recall")
        )
        print(
            f"{title:>12}:  FID {fid:.3f}   IS {score:.3f}   precision {precision:.3f}   recall {recall:.3f}"
            f"   ({images} images)"
        )
    print(
        f"against {evaluation.reference_images} images of {evaluation.reference}, extractor {evaluation.extractor} "
        f"({evaluation.extractor_accuracy:.1%} on held-out images)"
    )
    print(f"Samples: {store.path(keys.evaluation) / 'samples.png'}")
