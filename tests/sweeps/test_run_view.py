"""The view of a sweep's runs on MLflow's page."""

import json

from ear.config import load_config
from sweeps.tracking.links import pages_address, run_link, runs_link
from sweeps.tracking.mlflow_values import flatten
from sweeps.tracking.run_view import parameter_names, run_view


def test_axes_are_the_columns_that_mlflow_has() -> None:
    config = load_config("digits").model_dump(mode="json")
    known = {name for name, _ in flatten(config)}
    last = len(config["training"]["stages"]) - 1
    axes = ["training.stages.-1.train_temperature", "sampling.cfg", "model"]
    names = [name for axis in axes for name in parameter_names(axis, config)]
    assert names[:2] == [f"training.stages.{last}.train_temperature", "sampling.cfg"]
    assert set(names) <= known
    assert "model.width" in names
    assert list(parameter_names("scoring.denoiser.width", config)) == ["scoring.denoiser.width"]  # of another rule
    view = json.loads(run_view(axes[:2], config, ["recall"]))
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`recall`", False)
    assert view["selectedColumns"] == [
        f"params.`training.stages.{last}.train_temperature`",
        "params.`sampling.cfg`",
        "params.`seed`",
        *(f"metrics.`{name}`" for name in ("recall", "fid", "is", "precision")),
    ]


def test_addresses_name_the_experiment_the_view_and_the_run() -> None:
    assert pages_address("sqlite:///x") == "http://127.0.0.1:5000"
    assert pages_address("https://host/mlflow/") == "https://host/mlflow"
    assert pages_address("https://me:secret@host:80/mlflow?token=x") == "https://host:80/mlflow"  # pages are passed on
    assert runs_link("http://a", "7").startswith("http://a/#/experiments/7/runs?workflowType=machine_learning&")
    assert "viewStateShareKey=ear" in runs_link("http://a", "7")
    assert "searchFilter=tags.%60ear.key%60%3D%27abc%27" in run_link("http://a", "7", "abc")
