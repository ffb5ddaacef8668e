"""Our model holds against values of the official code: same weights, same masks, orders and noises, same outputs."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ear.config.schema import SamplingConfig
from ear.errors import UserError
from ear.model.masking import cosine_schedule, mask_from_orders
from ear.official import OfficialCheckpoint, load_official, official_name, translate
from ear.sampling import generate
from ear.scoring.energy_score import fair_energy_score
from ear.tokenizers.patch import patchify, unpatchify

REFERENCE = Path(__file__).parents[1] / "reference"
GENERATIONS = [(3.0, "linear", 0.7, 8), (1.0, "linear", 1.0, 16), (2.0, "constant", 0.8, 5)]


@pytest.fixture(scope="module")
def official() -> OfficialCheckpoint:
    return load_official(REFERENCE / "official_tiny.pth")


@pytest.fixture(scope="module")
def arrays() -> dict[str, Tensor]:
    with np.load(REFERENCE / "official_tiny.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def assert_agrees(ours: Tensor, theirs: Tensor) -> None:
    """To 1e-5 of the reference's standard deviation (of its value for a single number)."""
    scale = theirs.std().item() if theirs.numel() > 1 else theirs.abs().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * scale)


def test_patches(arrays: dict[str, Tensor]) -> None:
    assert torch.equal(patchify(arrays["latents"], 1), arrays["tokens"])
    assert torch.equal(unpatchify(arrays["tokens"], 1, (4, 4, 4)), arrays["latents"])


def test_mask(arrays: dict[str, Tensor]) -> None:
    assert torch.equal(mask_from_orders(arrays["orders"], 13), arrays["mask"].bool())


@torch.no_grad()
def test_trunk(official: OfficialCheckpoint, arrays: dict[str, Tensor]) -> None:
    trunk = official.model.trunk
    z = trunk(
        arrays["tokens"], arrays["mask"].bool(), trunk.embed_classes(arrays["labels"]), torch.arange(16).expand(3, -1)
    )
    assert_agrees(z, arrays["z"])


@torch.no_grad()
@pytest.mark.parametrize(
    ("noise", "temperature", "expected"),
    [("noise1", 1.0, "sample1"), ("noise2", 1.0, "sample2"), ("noise1", 0.7, "sample1_tau0.7")],
)
def test_generator(
    official: OfficialCheckpoint, arrays: dict[str, Tensor], noise: str, temperature: float, expected: str
) -> None:
    tokens = official.model.rule.sample(arrays["z"].flatten(0, 1), arrays[noise], infer_temperature=temperature)
    assert_agrees(tokens, arrays[expected])


@pytest.mark.parametrize("alpha", [1.0, 1.25, 1.5, 1.75, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 0.99, 0.9])
def test_loss(arrays: dict[str, Tensor], alpha: float, temperature: float) -> None:
    samples = torch.stack([arrays["sample1"], arrays["sample2"]])
    target = arrays["tokens"].flatten(0, 1)
    score = fair_energy_score(samples, target, alpha=alpha, train_temperature=temperature)
    loss = 2 * score[arrays["mask"].bool().flatten()].mean()
    assert_agrees(loss.reshape(1), arrays[f"loss_alpha{alpha}_tau{temperature}"])


@torch.no_grad()
def test_model_loss_is_the_official_loss(official: OfficialCheckpoint, arrays: dict[str, Tensor]) -> None:
    """The whole training path, with the noises handed to the masked positions that it computes."""
    positions = arrays["orders"][:, :13]
    noise = torch.stack(
        [
            arrays[name].view(3, 16, 8)[torch.arange(3)[:, None], positions].flatten(0, 1)
            for name in ("noise1", "noise2")
        ]
    )
    loss = official.model(
        arrays["tokens"],
        arrays["labels"],
        orders=arrays["orders"],
        masked=[(3, 13)],
        dropped=torch.zeros(3, dtype=torch.bool),
        noise=noise,
        train_temperature=1.0,
    )
    assert_agrees(loss.reshape(1) / 3, arrays["loss_alpha1.0_tau1.0"])


def noise_by_position(arrays: dict[str, Tensor], name: str, steps: int) -> Tensor:
    """The noises drawn step by step, image-major by ascending position, laid out as [images, positions, channels]."""
    orders = arrays["orders"]
    noise = torch.zeros(*orders.shape, 8)
    masked = cosine_schedule(orders.shape[1], steps)
    for step, (before, after) in enumerate(itertools.pairwise(masked)):
        positions = orders[:, after:before].sort(dim=1).values
        noise[torch.arange(len(orders))[:, None], positions] = arrays[f"{name}_noise{step:03d}"].view(
            len(orders), before - after, 8
        )
    return noise


@pytest.mark.parametrize(("cfg", "schedule", "temperature", "steps"), GENERATIONS)
@pytest.mark.parametrize("noisy", [True, False])
def test_whole_generation(
    official: OfficialCheckpoint,
    arrays: dict[str, Tensor],
    cfg: float,
    schedule: str,
    temperature: float,
    steps: int,
    noisy: bool,
) -> None:
    name = f"sample_cfg{cfg}_{schedule}_tau{temperature}_iter{steps}"
    noise = noise_by_position(arrays, name, steps) if noisy else torch.zeros(3, 16, 8)
    config = SamplingConfig.model_validate(
        {"steps": steps, "cfg": cfg, "cfg_schedule": schedule, "infer_temperature": temperature}
    )
    tokens = generate(official.model, arrays["labels"], arrays["orders"], noise, config, arrays["tokens"].shape[2])
    assert_agrees(unpatchify(tokens, 1, (4, 4, 4)), arrays[name if noisy else f"{name}_zeronoise"])


def test_sampling_settings_come_from_the_checkpoint(official: OfficialCheckpoint) -> None:
    assert official.sampling == SamplingConfig(steps=64, cfg=3.0, cfg_schedule="linear", infer_temperature=0.7)


def test_every_missing_or_unexpected_weight_is_named(official: OfficialCheckpoint) -> None:
    ours = official.model.state_dict()
    theirs = {official_name(name): tensor for name, tensor in ours.items()}
    theirs["decoder_blocks.7.norm1.weight"] = theirs.pop("decoder_norm.weight")
    theirs["z_proj.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as fault:
        translate(theirs, ours, "x.pth")
    for part in ("missing decoder_norm.weight", "unexpected decoder_blocks.7.norm1.weight", "z_proj.bias is (3,)"):
        assert part in str(fault.value)


def test_a_checkpoint_with_foreign_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"args": Fraction(1, 2), "model_ema": {}}, path)
    with pytest.raises(UserError, match=r"has fractions\.Fraction where weights or plain values are needed"):
        load_official(path)
