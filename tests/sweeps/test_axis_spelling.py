"""One sweep whose YAML spells an axis in two ways, `stages.-1` and `stages.1`: no report mixes configurations."""

from pathlib import Path

import pytest
from simulated import plan_of, publish_evaluation, publish_training
from tracked import points

from analysis.results import SweepResults, load_results
from ear.errors import UserError
from ear.store import Store
from sweeps.spec.plan import Plan
from sweeps.tracking.mlflow_client import open_client
from sweeps.tracking.mlflow_runs import MlflowRuns

pytestmark = pytest.mark.usefixtures("database")

AXIS = "training.stages.{}.train_temperature"
GRID = "name: spelled\nspace: {{{axis}: [0.9, 0.95, 1.0]}}\nseeds: [0, 1]\n"


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The same sweep twice; all of its results are in the store."""
    monkeypatch.setattr("ear.run.from_tensors", lambda _: points(50))
    monkeypatch.setattr("ear.run.load_part", lambda *_: {})
    plans = [plan_of(tmp_path, GRID.format(axis=AXIS.format(stage))) for stage in (-1, 1)]
    store = Store(tmp_path)
    for node in plans[0].tree.nodes.values():
        publish_training(store, node)
    for run in plans[0].runs:
        publish_evaluation(store, run)
        for name in ("samples.png", "samples_null.png"):
            (store.path(run.keys.evaluation) / name).write_bytes(b"")
    return plans


def axis_values(results: SweepResults) -> list[float]:
    (axis,) = results.axes
    return list(results.frame[axis])


def test_a_report_has_the_values_under_the_axis_last_spelling_or_refuses(plans: list[Plan], tmp_path: Path) -> None:
    first, second = plans
    assert first.identity.digest == second.identity.digest
    client = open_client(tmp_path)
    written = MlflowRuns(first.identity, Store(tmp_path), tmp_path, client)
    for run in first.runs:
        written.finish(run, {}, 1)
    values = axis_values(load_results("spelled", tmp_path))
    assert values == [0.9, 0.9, 0.95, 0.95, 1.0, 1.0]

    records = MlflowRuns(second.identity, Store(tmp_path), tmp_path, client)
    for run in second.runs:
        with pytest.raises(UserError, match=r"stages\.1\.train_temperature, but of .*stages\.-1.*Run the sweep again"):
            load_results("spelled", tmp_path)
        records.finish(run, {}, 2)
    results = load_results("spelled", tmp_path)
    assert results.axes == [AXIS.format(1)]
    assert axis_values(results) == values
