"""`ear train` and `ear evaluate` over two nodes of a real Slurm, by gloo."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from encoding_parts import write_images
from jobs import (
    EAR,
    GANG,
    assert_completed,
    assert_nothing_left,
    attempts,
    ear,
    output,
    processes_of,
    slurm,
    submit,
    until,
    until_printed,
    write_profile,
)
from kl16 import write_rule_filled_kl16

from ear.training.checkpoint import load_part

TORCHRUN = str(Path(EAR).with_name("torchrun"))

pytestmark = pytest.mark.usefixtures("cluster")


def settings(steps: int) -> list[str]:
    values = [
        f"training.stages.0.steps={steps}",
        "training.stages.1.steps=10",
        "training.mask_group=16",
        "execution.log_every=10",
        "evaluation.images=200",
        "evaluation.null_images=100",
    ]
    return [part for value in values for part in ("--set", value)]


def trained(root: Path, steps: int) -> tuple[torch.Tensor, list[float]]:
    """All weights in one row, and the curve; of the training in this root, which must be there."""
    outcome = json.loads(ear("train", "digits", *settings(steps), "--root", root, "--json"))
    assert outcome["reused"]
    checkpoint = Path(outcome["checkpoint"])
    weights = torch.cat([tensor.flatten() for _, tensor in sorted(load_part(checkpoint, "model").items())])
    return weights, load_part(checkpoint, "history")["loss"].tolist()


def test_two_nodes_train_as_one_process_does_and_evaluate(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, GANG)
    record = submit("train", "digits", *settings(60), "--evaluate", "--slurm", profile, root=tmp_path / "two")
    assert_completed(record)
    assert "(200 images)" in output(record)
    assert_nothing_left(record, tmp_path / "two")
    ear("train", "digits", *settings(60), "--root", tmp_path / "one")
    (one, losses), (two, same_losses) = trained(tmp_path / "one", 60), trained(tmp_path / "two", 60)
    # Sums in another order are rounded otherwise, and each step of training enlarges that (docs/LOG.md).
    assert same_losses[:3] == pytest.approx(losses[:3], rel=1e-6)
    assert same_losses == pytest.approx(losses, rel=1e-4)
    assert (two - one).norm() < 5e-3 * one.norm()

    (key,) = (path.parent for path in (tmp_path / "two").glob("store/*/evaluation.json"))
    measured = json.loads((key / "evaluation.json").read_text())
    checkpoint = json.loads(ear("train", "digits", *settings(60), "--root", tmp_path / "two", "--json"))["checkpoint"]
    again = submit("evaluate", checkpoint, "--set", "evaluation.images=201", "--slurm", profile, root=tmp_path / "two")
    assert_completed(again)
    assert "(201 images)" in output(again)
    assert measured["images"] == 200


@pytest.mark.slow
@pytest.mark.parametrize("what", ["asked", "killed"])
def test_a_training_on_two_nodes_survives(what: str, tmp_path: Path) -> None:
    """Asked to make room, it saves and goes on later; where a process of it is killed, from its last checkpoint.

    To the last bit it comes to what two processes come to that nothing has disturbed.
    """
    steps, root = 1500, tmp_path / "two"
    often = ["--set", "execution.checkpoint_every=1"] if what == "killed" else []
    record = submit("train", "digits", *settings(steps), *often, "--slurm", write_profile(tmp_path, GANG), root=root)
    until_printed(record, f"/{steps + 10} loss")  # a step is done; "training" alone is in this test's path
    if what == "asked":
        slurm("scancel", "--signal=USR2", record.id)
    else:
        until(lambda: list(root.glob("store/.work/*/checkpoint.safetensors")), 60, "a checkpoint")
        processes_of(record, "-m ear train")[-1].kill()
    assert_completed(record, 600)
    assert attempts(record) == 2, output(record)
    assert_nothing_left(record, root)
    undisturbed = ["-m", "ear", "train", "digits", *settings(steps), "--root", str(tmp_path / "undisturbed")]
    subprocess.run([TORCHRUN, "--nproc-per-node", "2", *undisturbed], check=True, timeout=600)
    (weights, losses), (same_weights, same_losses) = trained(tmp_path / "undisturbed", steps), trained(root, steps)
    assert same_losses == losses
    assert torch.equal(same_weights, weights)


@pytest.mark.slow
def test_two_nodes_encode_an_image_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    write_rule_filled_kl16(tmp_path / "kl16.ckpt")
    values = {
        "data.path": tmp_path / "images",
        "data.latents": tmp_path / "latents",
        "data.size": 32,
        "data.classes": 3,
        "tokenizer.checkpoint": tmp_path / "kl16.ckpt",
    }
    given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    profile = write_profile(tmp_path, GANG)
    record = submit("encode", "imagenet256_base", *given, "--slurm", profile, root=tmp_path / "runs")
    assert_completed(record)
    assert "24 images of 3 classes" in output(record)
    assert "Every shard is complete and unchanged" in ear("encode", "imagenet256_base", *given, "--verify")
