"""What `ear sweep status` counts."""

from pathlib import Path

import pytest
from simulated import plan_of, publish_training

from ear.store import Store
from sweeps.views.status_view import resumable, unfinished_stages


def test_only_stages_that_a_driver_would_resume_are_counted(tmp_path: Path) -> None:
    plan, store = plan_of(tmp_path, "name: s\nspace: {scoring.alpha: [1.0, 1.25, 1.5, 1.75]}\n"), Store(tmp_path)
    begun, pruned, trained, _ = plan.runs
    for run in (begun, pruned):
        store.workspace(run.keys.stages[0]).mkdir(parents=True)
    publish_training(store, plan.tree.nodes[trained.keys.stages[0]])
    assert unfinished_stages(plan.tree, store, {pruned.keys.evaluation: "pruned"}) == {begun.keys.stages[0]}
    assert unfinished_stages(plan.tree, store, {begun.keys.evaluation: "failed"}) >= {begun.keys.stages[0]}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (0, ""),
        (1, " 1 unfinished stage resumes from its checkpoint."),
        (2, " 2 unfinished stages resume from their checkpoints."),
    ],
)
def test_how_many_is_said(stages: int, said: str) -> None:
    assert resumable(stages) == said
