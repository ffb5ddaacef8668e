"""Checks a sweep on a login node, to report errors before the job queues instead of hours later."""

import warnings
from pathlib import Path

from ear.store import Store
from slurm.profile import Profile, load_profile
from sweeps.driver.resources import trials_that_fit
from sweeps.spec.plan import Plan


def check_submission(plan: Plan, profile_name: str, root: Path) -> None:
    """Checks that a sweep can run under a profile. Writes nothing, and reads neither data nor checkpoints, which may
    be on the nodes only.

    Raises:
        UserError: no trial fits the profile's nodes, two points of the grid are the same run, the store has a newer
            version, or the study of the sweep's name belongs to another search.
    """
    check_resources(plan, load_profile(profile_name), profile_name)
    plan.refuse_twins()
    if (root / "store").exists():
        Store(root)
    if plan.sweep.search is not None:
        check_study(plan, root / plan.sweep.name)


def check_resources(plan: Plan, profile: Profile, name: str) -> None:
    """Checks that a trial fits a node of the profile.

    Raises:
        UserError: no trial fits.
    """
    if profile.exclusive:
        return  # the job gets the whole node, whose size is unknown here
    wanted, gpus = plan.sweep.resources.gpus, profile.gpus
    if wanted and not gpus:
        # On some clusters SLURM does not track the GPUs.
        warnings.warn(f"The profile {name} requests no GPUs, but a trial needs {wanted:g}.", stacklevel=2)
        gpus = max(1, round(wanted))
    trials_that_fit(plan.sweep, profile.cpus_per_node, gpus, f"a node of the profile {name}")


def check_study(plan: Plan, folder: Path) -> None:
    """Checks that the study in the sweep's folder, if any, belongs to this search.

    Raises:
        UserError: it belongs to another search.
    """
    from sweeps.search.search import search_identity  # these import Optuna
    from sweeps.search.study import JOURNAL, refuse_another
    from sweeps.search.study_summary import load_study

    study = load_study(plan.sweep.name, folder)
    if study is not None and (known := study.user_attrs.get("identity")) is not None:
        refuse_another(known, search_identity(plan.sweep, plan.configurations), folder / JOURNAL, plan.sweep.name)
