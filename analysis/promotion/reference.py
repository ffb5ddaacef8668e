"""SWEEP:best, where `ear` asks for a checkpoint; registered in the entry point group `ear.checkpoints`."""

from pathlib import Path

from ear.config import RunConfig
from ear.errors import import_extra


def best_checkpoint(sweep: str, root: Path) -> tuple[str, RunConfig]:
    """Returns the training of a sweep's best configuration with its first seed, and this configuration.

    It is the configuration that `ear promote SWEEP` chooses.

    Raises:
        UserError: there is no such sweep, or nothing can be chosen.
    """
    import_extra("pandas", "analysis")
    from analysis.promotion.choice import choose
    from analysis.results import load_results
    from ear.store import Store
    from ear.store.recorded_config import recorded_config

    results = load_results(sweep, root)
    choice = choose(results, results.objective, results.constraints, root)
    row = choice.trainings[0]
    # Not `checkpoint`: without its last stage in the store, that would be the one before.
    return row["stages"][-1], recorded_config(Store(root, reading=True), row["key"])
