"""The names and descriptions of a sweep's runs in MLflow."""

from collections.abc import Mapping

from sweeps.spec.naming import shown
from sweeps.spec.runs import PlannedRun
from sweeps.spec.tags import CONFIRMATION_ROLE, ROLE

CONFIRMED_WITH = ("evaluation.seed", "evaluation.images")


def run_name(run: PlannedRun, tags: Mapping[str, str]) -> str:
    """Returns a run's name: the values of the axes and the seed, since MLflow shows the first 20 characters.

    A confirmation has a seed, more images and an evaluation seed of its own for all its runs; only the seed is said.
    """
    confirms = tags.get(ROLE) == CONFIRMATION_ROLE
    values = [
        shown(value)
        for name, value in run.parameters.items()
        if not (confirms and name.startswith("evaluation.") and name in CONFIRMED_WITH)
    ]
    return ", ".join([*values, *(["confirmation"] if confirms else []), f"seed {run.seed}"])


def description(run: PlannedRun) -> str:
    """Returns a run's description, as Markdown: its parameters by their full names, and how to draw its samples."""
    parameters = ", ".join(f"`{name}` = {shown(value)}" for name, value in run.parameters.items())
    return f"{parameters or 'The base'}; seed {run.seed}. Its samples: `ear sample {run.keys.evaluation[:12]}`"
