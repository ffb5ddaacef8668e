"""What `ear sweep plan` says of the power of a grid's seeds."""

from dataclasses import replace
from pathlib import Path

from simulated import plan_of, publish_evaluation, publish_training

from ear.store import Store
from sweeps.spec.plan import Plan
from sweeps.spec.power import detectable_difference
from sweeps.spec.sweep_record import RecordedRun, SweepRecord
from sweeps.views.seed_power import power_line

TRAININGS = "name: trainings\nseeds: [0, 1, 2]\nspace: {scoring.alpha: [1.0, 1.5]}\n"
GUIDANCE = "name: guidance\nseeds: [0, 1, 2]\nspace: {sampling.cfg: [1.0, 2.0]}\n"


def recorded(root: Path, text: str, spread: float) -> Plan:
    """A sweep with its results, whose second configuration is better by `spread` times 1, 2 and 3."""
    plan, store = plan_of(root, text), Store(root)
    for node in plan.tree.nodes.values():
        publish_training(store, node)
    for number, run in enumerate(plan.runs):
        keys = run.keys
        fid = 20.0 + 7 * run.seed - (number >= 3) * spread * (1 + run.seed)
        publish_evaluation(store, run, fid, needs=(keys.training, str(keys.reference), str(keys.extractor)))
    runs = [RecordedRun.of(run, {}) for run in plan.runs]
    replace(SweepRecord.begun(plan.identity, None), runs=runs).write(root)
    return plan


def test_it_comes_from_pairs_that_share_as_much_training(tmp_path: Path) -> None:
    """The differences are 1, 2, 3 times 1 or 0.1: standard deviations 1 for trainings, 0.1 for evaluations of one."""
    store = Store(tmp_path)
    assert power_line(plan_of(tmp_path, TRAININGS), store) == ""  # nothing is known yet
    guidance = recorded(tmp_path, GUIDANCE, 0.1)
    assert power_line(plan_of(tmp_path, TRAININGS), store) == ""
    trainings = recorded(tmp_path, TRAININGS, 1.0)
    for plan, spread in ((trainings, 1.0), (guidance, 0.1)):
        assert f"differ by {detectable_difference(3, spread):.2f} in fid" in power_line(plan, store)
    more = plan_of(tmp_path, TRAININGS.replace("[0, 1, 2]", "[0, 1, 2, 3, 4, 5, 6, 7]"))
    assert f"8 seeds tell two configurations apart that differ by {detectable_difference(8, 1.0):.2f}" in power_line(
        more, store
    )


def test_one_seed_tells_nothing_and_other_images_do_not_count(tmp_path: Path) -> None:
    recorded(tmp_path, TRAININGS, 1.0)
    store = Store(tmp_path)
    assert power_line(plan_of(tmp_path, TRAININGS.replace("[0, 1, 2]", "[0]")), store).startswith("Power: one seed")
    others = TRAININGS.replace("space", "set: {evaluation.images: 500}\nspace")
    assert power_line(plan_of(tmp_path, others), store) == ""
