"""What can be known on a login node to go wrong with a sweep's job: said before it queues, not hours later."""

from pathlib import Path

from ear.store import Store
from slurm.profile import load_profile
from sweeps.places import trials_that_fit
from sweeps.plan import Plan
from sweeps.runner import open_source
from sweeps.runs import keys_without_data
from sweeps.session import SweepFolder


def check_submission(plan: Plan, profile_name: str, root: Path) -> None:
    """The data may lie where only the nodes see it, so nothing is asked of it.

    Raises:
        UserError: no trial fits the profile's nodes, two axes lead to the same run, the store is of a newer version or
            can't be written, or another search was begun under the sweep's name.
    """
    profile = load_profile(profile_name)
    cpus = profile.cpus_per_node if not profile.exclusive else plan.sweep.resources.cpus  # all, however many
    trials_that_fit(plan.sweep, cpus, profile.gpus, f"a node of the profile {profile_name}")
    plan.tree_by(keys_without_data)
    store = Store(root)
    if SweepFolder(root, plan.sweep.name).is_known():
        open_source(plan, root, store)
