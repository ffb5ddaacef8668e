"""The KL tokenizer: golden values of KL-16, both layouts, other shapes, and what a user can get wrong."""

import json
import shutil
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ear.config.schema import KLTokenizerConfig
from ear.errors import UserError
from ear.tokenizers import KLTokenizer
from ear.tokenizers.kl import measured_scale
from ear.tokenizers.ldm_layout import autoencoder_config, diffusers_name, to_diffusers
from ear.tokenizers.patch import patchify, unpatchify

GOLDEN = Path(__file__).parents[1] / "reference" / "kl16_golden.npz"
IMAGE_SHAPE = (3, 64, 64)


def small_autoencoder(channels: tuple[int, ...] = (32, 64), latents: int = 3, layers: int = 1) -> AutoencoderKL:
    torch.manual_seed(0)
    levels = len(channels)
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * (levels - 1) + ["AttnDownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D"] * levels,
        block_out_channels=channels,
        latent_channels=latents,
        layers_per_block=layers,
        norm_num_groups=32,
    ).eval()


def as_ldm(autoencoder: nn.Module) -> dict[str, Tensor]:
    """Weights under LDM's names: the names' inverse, found by trying all that LDM could have."""
    theirs = autoencoder.state_dict()
    levels = len(autoencoder.config.block_out_channels)
    modules = {
        "block": ["norm1", "conv1", "norm2", "conv2", "nin_shortcut"],
        "attn": ["norm", "q", "k", "v", "proj_out"],
    }
    names = [f"{side}.{module}" for side in ("encoder", "decoder") for module in ("conv_in", "norm_out", "conv_out")]
    names += ["quant_conv", "post_quant_conv"]
    for side in ("encoder.down", "decoder.up"):
        for level in range(levels):
            names += [f"{side}.{level}.{kind}sample.conv" for kind in ("down", "up")]
            names += [
                f"{side}.{level}.{kind}.{index}.{module}"
                for kind, inner in modules.items()
                for index in range(4)
                for module in inner
            ]
    for side in ("encoder", "decoder"):
        for part in ("block_1", "attn_1", "block_2"):
            names += [f"{side}.mid.{part}.{module}" for module in modules[part.split("_")[0]]]
    ldm = {}
    for name in (f"{module}.{leaf}" for module in names for leaf in ("weight", "bias")):
        value = theirs.get(diffusers_name(name, levels))
        if value is not None:
            is_kernel = ".attn" in name and name.endswith("weight") and ".norm." not in name
            ldm[name] = value[:, :, None, None] if is_kernel else value
    assert len(ldm) == len(theirs)
    return ldm


def tokenizer_of(path: Path, image_shape: tuple[int, int, int] = (3, 16, 16), **settings: object) -> KLTokenizer:
    values = {"latent_channels": 3, "stride": 2, "scale": 0.5, **settings}
    return KLTokenizer(KLTokenizerConfig.model_validate({"checkpoint": str(path), **values}), image_shape)


@torch.inference_mode()
def test_kl16_is_the_official_one(kl16_file: Path) -> None:
    """In float64, since these weights amplify rounding."""
    golden = {name: torch.from_numpy(array).double() for name, array in np.load(GOLDEN).items()}
    tokenizer = KLTokenizer(KLTokenizerConfig(checkpoint=str(kl16_file)), IMAGE_SHAPE).double()
    assert sum(weight.numel() for weight in tokenizer.autoencoder.parameters()) == 66_456_019
    torch.testing.assert_close(tokenizer.moments(golden["image"]), golden["moments"], rtol=0, atol=1e-6)
    decoded = tokenizer.decode(patchify(golden["latent"], 1))
    torch.testing.assert_close(decoded, golden["decoded"], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_kl16_is_the_same_from_all_layouts(kl16_file: Path, tmp_path: Path) -> None:
    """The same weights, and of a smaller image than the golden ones the same bits."""
    torch.save({"state_dict": torch.load(kl16_file, weights_only=True)["model"]}, tmp_path / "state_dict")
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    hashes, results = set(), []
    for path in (kl16_file, tmp_path / "state_dict", tmp_path / "folder"):
        tokenizer = KLTokenizer(KLTokenizerConfig(checkpoint=str(path)), (3, 32, 32))
        moments = tokenizer.moments(image)
        results.append((moments, tokenizer.decode(tokenizer.tokens_from_moments(moments, None))))
        hashes.add(tokenizer.content_hash())
        if path.name == "state_dict":
            cast(AutoencoderKL, tokenizer.autoencoder).save_pretrained(tmp_path / "folder")
    for path in tmp_path.iterdir():  # 266 MB each
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert len(hashes) == 1
    assert all(torch.equal(one, other) for result in results[1:] for one, other in zip(results[0], result, strict=True))


@pytest.mark.parametrize(("channels", "latents", "layers"), [((32,), 4, 1), ((32, 64, 64), 3, 2), ((64, 32), 2, 1)])
def test_both_layouts_are_the_same_autoencoder(
    tmp_path: Path, channels: tuple[int, ...], latents: int, layers: int
) -> None:
    autoencoder = small_autoencoder(channels, latents, layers)
    autoencoder.save_pretrained(tmp_path / "folder")
    whole = {f"first_stage_model.{name}": value for name, value in as_ldm(autoencoder).items()}
    torch.save({"state_dict": {**whole, "model.diffusion.weight": torch.zeros(1)}}, tmp_path / "ldm.ckpt")
    stride = 2 ** (len(channels) - 1)
    tokenizers = [
        tokenizer_of(tmp_path / name, latent_channels=latents, stride=stride) for name in ("folder", "ldm.ckpt")
    ]
    assert tokenizers[0].content_hash() == tokenizers[1].content_hash()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = autoencoder.encode(images).latent_dist
        for tokenizer in tokenizers:
            moments = tokenizer.moments(images)
            torch.testing.assert_close(moments, torch.cat([expected.mean, expected.logvar], dim=1))
            tokens = tokenizer.encode(images)
            assert tokens.shape == (2, tokenizer.tokens, tokenizer.token_dim)
            torch.testing.assert_close(tokenizer.decode(tokens), autoencoder.decode(expected.mean).sample)


def test_shapes_are_read_off_the_weights() -> None:
    config = autoencoder_config(as_ldm(small_autoencoder((32, 64, 64), 5, 2)))
    assert config["block_out_channels"] == [32, 64, 64]
    assert (config["latent_channels"], config["layers_per_block"]) == (5, 2)
    assert config["down_block_types"][-1] == "AttnDownEncoderBlock2D"
    assert set(config["up_block_types"]) == {"UpDecoderBlock2D"}
    small = small_autoencoder()
    assert to_diffusers(as_ldm(small)).keys() == small.state_dict().keys()


def test_tokens_need_no_weights() -> None:
    """L and D from the configuration; posterior samples with the posterior's mean and deviation."""
    config = KLTokenizerConfig(latent_channels=4, stride=8, patch_size=2, scale=0.5)
    tokenizer = KLTokenizer(config, (3, 64, 64))
    assert (tokenizer.tokens, tokenizer.token_dim) == (16, 16)
    moments = torch.cat([torch.full((1, 4, 8, 8), 3.0), torch.full((1, 4, 8, 8), 2 * np.log(0.7))], dim=1)
    noise = torch.randn(4000, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer.tokens_from_moments(moments, noise)
    assert tokens.shape == (4000, 16, 16)
    assert tokens.mean().item() == pytest.approx(0.5 * 3.0, abs=5 * 0.35 / noise.numel() ** 0.5)
    assert tokens.std().item() == pytest.approx(0.5 * 0.7, rel=5e-3)
    torch.testing.assert_close(tokenizer.tokens_from_moments(moments, None), torch.full((1, 16, 16), 1.5))
    extreme = torch.cat([torch.zeros(1, 4, 8, 8), torch.full((1, 4, 8, 8), 1e4)], dim=1)
    assert tokenizer.tokens_from_moments(extreme, noise[:1]).isfinite().all(), "log-variances are clamped"
    assert tokenizer.saved_state() == {}


def test_a_token_is_a_square_of_latents(tmp_path: Path) -> None:
    """Channel-major and in raster order, and decoding takes it apart again."""
    torch.save({"model": as_ldm(small_autoencoder())}, tmp_path / "vae.ckpt")
    tokenizer = tokenizer_of(tmp_path / "vae.ckpt", (3, 16, 24), patch_size=2)
    latents = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    tokens = tokenizer.tokens_from_moments(torch.cat([latents, torch.zeros_like(latents)], dim=1), None)
    assert tokens.shape == (2, tokenizer.tokens, tokenizer.token_dim) == (2, 24, 12)
    square = latents[1, :, 2:4, 6:8]  # second row, fourth column of 6
    torch.testing.assert_close(tokens[1, 6 + 3], 0.5 * square.flatten(), rtol=0, atol=0)
    torch.testing.assert_close(unpatchify(tokens, 2, tokenizer.latent_shape), 0.5 * latents, rtol=0, atol=0)
    with torch.inference_mode():
        expected = small_autoencoder().decode(latents).sample
        torch.testing.assert_close(tokenizer.decode(tokens), expected)


def test_the_hash_is_of_the_weights_as_stored(tmp_path: Path) -> None:
    """Caches of latents and checkpoints refer to it, so it must neither change with use nor with versions of ours."""
    autoencoder = small_autoencoder()
    for index, (_, weight) in enumerate(sorted(autoencoder.state_dict().items())):
        weight.fill_(1 + index / 1024)  # bfloat16 would round it
    path = tmp_path / "vae.ckpt"
    torch.save({"model": as_ldm(autoencoder)}, path)
    tokenizer = tokenizer_of(path).to(torch.bfloat16)
    tokenizer.encode(torch.zeros(1, 3, 16, 16))
    assert tokenizer.content_hash() == "892a563bf9d14e70ef212f096ceff5684440e038476da0f908d81432fdae3e31"
    weights = as_ldm(autoencoder)
    weights["encoder.mid.block_1.conv1.bias"] += 1 / 1024
    torch.save({"model": weights}, path)
    assert tokenizer_of(path).content_hash() != tokenizer.content_hash()


def test_weights_first_read_in_inference_mode_serve_outside_of_it(tmp_path: Path) -> None:
    path = tmp_path / "vae.ckpt"
    torch.save({"model": as_ldm(small_autoencoder())}, path)
    tokenizer = tokenizer_of(path)
    with torch.inference_mode():
        tokenizer.encode(torch.zeros(1, 3, 16, 16))
    images = torch.zeros(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    tokenizer.double().encode(images).sum().backward()
    assert images.grad is not None
    assert tokenizer.state_dict() == {}, "no checkpoint repeats the weights"


def test_measured_scale_is_one_over_the_deviation() -> None:
    """Means of deviation 3 around 5, posteriors of deviation 4: sqrt(9 + 16) = 5, whatever the batches."""
    mean = 5 + 3 * torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 2, 3, 3)
    moments = torch.cat([mean, torch.full_like(mean, 2 * np.log(4))], dim=1)
    assert measured_scale([moments]) == pytest.approx(0.2)
    assert measured_scale(moments.split(1)) == pytest.approx(0.2)


def test_latents_that_do_not_vary_have_no_scale() -> None:
    with pytest.raises(UserError, match="No scale gives these latents unit variance"):
        measured_scale([torch.tensor([1000.0, -30.0]).view(1, 2, 1, 1)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "does not exist"),
        ("truncated", "is damaged"),
        ("foreign", "not an autoencoder in LDM's layout: it has no encoder.down.N"),
        ("renamed", r"missing decoder\.conv_in\.bias; unexpected decoder\.conv_inn\.bias"),
        ("misshapen", r"encoder\.conv_out\.bias is \(7,\), not \(6,\)"),
        ("pickled object", r"has fractions\.Fraction where weights"),
        ("empty folder", "no autoencoder in diffusers' format"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, damage: str, message: str) -> None:
    path, weights = tmp_path / "vae.ckpt", as_ldm(small_autoencoder())
    if damage == "renamed":
        weights["decoder.conv_inn.bias"] = weights.pop("decoder.conv_in.bias")
    elif damage == "misshapen":
        weights["encoder.conv_out.bias"] = torch.zeros(7)
    elif damage == "foreign":
        weights = {"layer.weight": torch.zeros(3)}
    torch.save({"model": Fraction(1, 2) if damage == "pickled object" else weights}, path)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "empty folder":
        path.unlink()
        path.mkdir()
    with pytest.raises(UserError, match=message):
        tokenizer_of(path).content_hash()


def drop(weights: dict[str, Tensor]) -> None:
    del weights["decoder.conv_in.bias"]


def add(weights: dict[str, Tensor]) -> None:
    weights["decoder.conv_inn.bias"] = torch.zeros(1)


def reshape(weights: dict[str, Tensor]) -> None:
    weights["decoder.conv_in.bias"] = torch.zeros(9)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, r"missing decoder\.conv_in\.bias"),
        (add, r"unexpected decoder\.conv_inn\.bias"),
        (reshape, r"decoder\.conv_in\.bias is \(9,\), not \(64,\)"),
    ],
)
def test_a_folder_must_be_whole(tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], message: str) -> None:
    """diffusers itself warns, and goes on with random weights."""
    small_autoencoder().save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    damage(weights)
    save_file(weights, path)
    with pytest.raises(UserError, match=message):
        tokenizer_of(tmp_path).content_hash()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("encoder.mid.attn_1.q.weight", (64, 64, 3, 3), r"to_q\.weight is \(64, 64, 3, 3\), not \(64, 64\)"),
        ("encoder.down.0.block.0.conv2.weight", (33, 33, 3, 3), "not an autoencoder in LDM's layout .num_channels"),
        ("encoder.conv_in.weight", (), "not an autoencoder in LDM's layout"),
    ],
)
def test_shapes_of_no_autoencoder_are_refused(tmp_path: Path, name: str, shape: tuple[int, ...], message: str) -> None:
    path = tmp_path / "vae.ckpt"
    torch.save({**as_ldm(small_autoencoder()), name: torch.zeros(shape)}, path)
    with pytest.raises(UserError, match=message):
        tokenizer_of(path).content_hash()


def test_safetensors_and_older_formats_are_read(tmp_path: Path) -> None:
    """torch.save's before 1.6, and diffusers' names of attention before 0.13 (its SD autoencoders still have them)."""
    autoencoder = small_autoencoder()
    weights = as_ldm(autoencoder)
    torch.save({"model": weights}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, tmp_path / "vae.safetensors")
    autoencoder.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder" / "diffusion_pytorch_model.safetensors"
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, weight in load_file(path).items():
        for new_name, old_name in old_names.items():
            name = name.replace(f".{new_name}.", f".{old_name}.")
        old[name] = weight
    save_file(old, path)
    assert (
        len({tokenizer_of(tmp_path / name).content_hash() for name in ("old.ckpt", "vae.safetensors", "folder")}) == 1
    )


def test_an_autoencoder_without_quantising_convolutions(tmp_path: Path) -> None:
    """As of SD 3 and Flux."""
    autoencoder = AutoencoderKL(latent_channels=3, use_quant_conv=False, use_post_quant_conv=False)
    autoencoder.save_pretrained(tmp_path)
    images = torch.zeros(1, 3, 4, 4)
    with torch.inference_mode():
        latents = autoencoder.eval().encode(images).latent_dist.mean
        tokenizer = tokenizer_of(tmp_path, (3, 4, 4), stride=1)
        tokens = tokenizer.encode(images)
        torch.testing.assert_close(unpatchify(tokens, 1, (3, 4, 4)), 0.5 * latents)
        torch.testing.assert_close(tokenizer.decode(tokens), autoencoder.decode(latents).sample)


def test_a_configuration_that_does_not_fit_says_what_to_set(tmp_path: Path) -> None:
    path = tmp_path / "vae.ckpt"
    torch.save({"model": as_ldm(small_autoencoder())}, path)
    with pytest.raises(UserError, match=r"--set tokenizer\.latent_channels=3"):
        tokenizer_of(path, latent_channels=16).content_hash()
    with pytest.raises(UserError, match=r"--set tokenizer\.stride=2"):
        tokenizer_of(path, stride=4).content_hash()
    with pytest.raises(UserError, match="do not divide the image's 16x16"):
        tokenizer_of(path, patch_size=3)
    with pytest.raises(UserError, match=r"tokenizer\.checkpoint is not set"):
        KLTokenizer(KLTokenizerConfig(), IMAGE_SHAPE).content_hash()


def test_weights_used_for_training_the_autoencoder_are_ignored(tmp_path: Path) -> None:
    path, weights = tmp_path / "vae.ckpt", as_ldm(small_autoencoder())
    torch.save({"state_dict": {**weights, "loss.discriminator.main.0.weight": torch.zeros(3)}}, path)
    assert tokenizer_of(path).content_hash()


def beside_a_file(folder: Path, **stated: float | None) -> Path:
    torch.save(as_ldm(small_autoencoder()), folder / "vae.ckpt")
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", **stated}))
    return folder / "vae.ckpt"


def in_a_folder(folder: Path, **stated: float | None) -> Path:
    autoencoder = small_autoencoder()
    autoencoder.register_to_config(**stated)
    autoencoder.save_pretrained(folder)
    return folder


def in_metadata(folder: Path, **stated: float | None) -> Path:
    weights = {name: weight.contiguous() for name, weight in as_ldm(small_autoencoder()).items()}
    texts = {name: str(value) for name, value in stated.items() if value is not None}
    save_file(weights, folder / "vae.safetensors", metadata=texts)
    return folder / "vae.safetensors"


def in_a_latent_diffusion_model(folder: Path, **stated: float | None) -> Path:
    weights = {f"first_stage_model.{name}": weight for name, weight in as_ldm(small_autoencoder()).items()}
    torch.save({"state_dict": {**weights, "scale_factor": torch.tensor(stated["scaling_factor"])}}, folder / "ldm.ckpt")
    return folder / "ldm.ckpt"


@pytest.mark.parametrize("place", [beside_a_file, in_a_folder, in_metadata, in_a_latent_diffusion_model])
def test_a_scale_of_the_autoencoder_s_own_that_differs_is_a_warning(tmp_path: Path, place: Callable[..., Path]) -> None:
    path = place(tmp_path, scaling_factor=0.18215, shift_factor=None)
    with pytest.warns(UserWarning, match=rf"{path} states the scaling factor 0\.18215, but tokenizer\.scale is 0\.5"):
        tokenizer_of(path).content_hash()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tokenizer_of(path, scale=0.1822).content_hash()  # the same, rounded
        tokenizer_of(path).content_hash()  # once a process


@pytest.mark.parametrize("place", [beside_a_file, in_a_folder, in_metadata])
def test_a_shift_of_the_autoencoder_s_own_is_a_warning(tmp_path: Path, place: Callable[..., Path]) -> None:
    path = place(tmp_path, scaling_factor=0.5, shift_factor=0.1159)
    with pytest.warns(UserWarning, match=r"states shift_factor 0\.1159, which is not applied"):
        tokenizer_of(path).content_hash()


def test_an_autoencoder_of_grey_images_is_refused(tmp_path: Path) -> None:
    AutoencoderKL(in_channels=1, out_channels=1, latent_channels=3).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match="has 1 input channels and 1 output channels; an autoencoder for RGB images is needed"
    ):
        tokenizer_of(tmp_path, (3, 4, 4), stride=1).content_hash()
