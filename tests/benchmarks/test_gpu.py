"""The GPU's benchmark runs, on a CPU and a tiny model, and its checks see nothing where nothing differs."""

import json
from pathlib import Path

import pytest
import torch
from gpu import SMOKE, benchmark
from gpu_equality import distance


def test_every_row_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(1)
    assert benchmark(SMOKE, tmp_path / "gpu.json", torch.device("cpu"))
    figures = json.loads((tmp_path / "gpu.json").read_text())
    training = [row for row in figures["rows"] if row["kind"] == "training"]
    sampling = [row for row in figures["rows"] if row["kind"] == "sampling"]
    assert (len(training), len(sampling)) == (len(SMOKE.training), len(SMOKE.sampling))
    assert all(0 < row["images_per_second"]["min"] <= row["images_per_second"]["max"] for row in training)
    assert all(0 < row["head_share"] < 1 for row in sampling)
    repeated = [check["difference"] for check in figures["equality"] if "bfloat16" not in check["name"]]
    assert repeated == [0.0] * len(repeated)


def test_distance_is_relative() -> None:
    assert distance([torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 0.0]), torch.tensor([])]) == float("inf")
    assert distance([torch.tensor([3.0]), torch.tensor([4.4])], [torch.tensor([3.0]), torch.tensor([4.0])]) == (
        pytest.approx(0.08)
    )
