"""What can be known on a login node to go wrong with a sweep's job: said before it queues, not hours later."""

import warnings
from pathlib import Path

from ear.store import Store
from slurm.profile import Profile, load_profile
from sweeps.driver.resources import trials_that_fit
from sweeps.spec.plan import Plan


def check_submission(plan: Plan, profile_name: str, root: Path) -> None:
    """Writes nothing. Data and checkpoints may lie where only the nodes see them, so nothing is asked of them.

    Raises:
        UserError: no trial fits the profile's nodes, two axes lead to the same run, the store is of a newer version, or
            another search was begun under the sweep's name.
    """
    check_resources(plan, load_profile(profile_name), profile_name)
    plan.refuse_twins()
    if (root / "store").exists():
        Store(root)
    if plan.sweep.search is not None:
        check_study(plan, root / plan.sweep.name)


def check_resources(plan: Plan, profile: Profile, name: str) -> None:
    """
    Raises:
        UserError: no trial fits a node.
    """
    if profile.exclusive:
        return  # a node has what it has
    wanted, gpus = plan.sweep.resources.gpus, profile.gpus
    if wanted and not gpus:
        # Some clusters have GPUs that SLURM does not count.
        warnings.warn(f"The profile {name} asks for no GPUs, but a trial is to have {wanted:g}.", stacklevel=2)
        gpus = max(1, round(wanted))
    trials_that_fit(plan.sweep, profile.cpus_per_node, gpus, f"a node of the profile {name}")


def check_study(plan: Plan, folder: Path) -> None:
    """
    Raises:
        UserError: it is another search's.
    """
    from sweeps.search.outcome import load_study  # imports Optuna
    from sweeps.search.search import search_identity
    from sweeps.search.study import JOURNAL, refuse_another

    study = load_study(plan.sweep.name, folder)
    if study is not None and (known := study.user_attrs.get("identity")) is not None:
        refuse_another(known, search_identity(plan.sweep, plan.configurations), folder / JOURNAL, plan.sweep.name)
