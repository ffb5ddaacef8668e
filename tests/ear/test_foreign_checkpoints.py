"""Checkpoints of other people's making: what is read of them, safely, and what is said of the rest."""

import argparse
import collections
import datetime
import enum
import fractions
import functools
import pathlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_convert import TINY, official_file
from test_kl_tokenizer import as_ldm, small_autoencoder, tokenizer_of

from ear.convert import from_official
from ear.errors import UserError
from ear.official import load_official
from ear.training.checkpoint import load_header
from ear.weights.torch_files import read_torch_file


def official(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The tiny official checkpoint, changed."""
    checkpoint = official_file(TINY)
    change(checkpoint)
    torch.save(checkpoint, path)
    return path


def same_weights(path: Path) -> bool:
    found, plain = load_official(path), load_official(TINY)
    wanted = plain.model.state_dict()
    return found.config == plain.config and all(
        torch.equal(value, wanted[name]) for name, value in found.model.state_dict().items()
    )


class Callback:
    """A class of somebody's own program."""

    def __init__(self) -> None:
        self.best = 3


class Slots:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3


class Side(enum.Enum):
    LEFT = "left"


class Settings(dict[str, Any]):
    """Lightning's AttributeDict is such a dictionary."""


def executes() -> None:
    raise AssertionError("code of the file was executed")


class Executes:
    def __reduce__(self) -> tuple[Any, ...]:
        return executes, ()


# Args and names of weights


@pytest.mark.parametrize(
    "args",
    [
        lambda args: vars(args),
        lambda args: argparse.Namespace(**vars(args), output_dir=Path("runs"), root=pathlib.PureWindowsPath("c:/x")),
        lambda args: vars(args) | {"data_path": Path("/data"), "img_size": np.int64(args.img_size)},
        lambda args: argparse.Namespace(**{**vars(args), "cfg": np.float64(args.cfg), "alpha": np.float32(args.alpha)}),
        lambda args: argparse.Namespace(**vars(args), distributed=np.bool_(True), gpu=torch.device("cuda")),
    ],
)
def test_args_are_a_dictionary_or_a_namespace_with_paths_and_numpy_numbers(
    tmp_path: Path, args: Callable[[argparse.Namespace], object]
) -> None:
    path = official(tmp_path / "x.pth", lambda checkpoint: checkpoint.update(args=args(checkpoint["args"])))
    assert same_weights(path)
    load_header(from_official(path, tmp_path / "ours"))  # and its configuration is one that can be written


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])  # Python 3.13 writes the second
@pytest.mark.parametrize("kind", ["PosixPath", "WindowsPath"])
def test_paths_of_other_systems_and_versions_of_python(tmp_path: Path, module: str, kind: str) -> None:
    path = tmp_path / "x.pth"
    pickled = f"\x80\x02}}X\x01\x00\x00\x00ac{module}\n{kind}\nX\x01\x00\x00\x00b\x85R\x73.".encode("latin-1")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", "3\n")
    assert str(read_torch_file(path)["a"]) == "b"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_stripped(tmp_path: Path, prefix: str) -> None:
    def wrap(checkpoint: dict[str, Any]) -> None:
        for part in ("model", "model_ema"):
            checkpoint[part] = {f"{prefix}{name}": value for name, value in checkpoint[part].items()}

    assert same_weights(official(tmp_path / "x.pth", wrap))
    weights = as_ldm(small_autoencoder())
    torch.save({"model": weights}, tmp_path / "plain.ckpt")
    torch.save({"model": {f"{prefix}{name}": value for name, value in weights.items()}}, tmp_path / "wrapped.ckpt")
    hashes = {tokenizer_of(tmp_path / name).content_hash() for name in ("plain.ckpt", "wrapped.ckpt")}
    assert len(hashes) == 1


def test_blocks_compiled_one_by_one(tmp_path: Path) -> None:
    def compiled(checkpoint: dict[str, Any]) -> None:
        for part in ("model", "model_ema"):
            checkpoint[part] = {
                re.sub(r"^(decoder_blocks\.\d+)\.", r"\1._orig_mod.", name): value
                for name, value in checkpoint[part].items()
            }

    assert same_weights(official(tmp_path / "x.pth", compiled))


# Classes that are not read


def test_a_refused_class_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.zeros(2), "other": fractions.Fraction(1, 3)}, path)
    with pytest.raises(UserError, match=r"fractions\.Fraction") as raised:
        read_torch_file(path)
    assert "weights_only" not in str(raised.value)
    assert "damaged" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    torch.save(fractions.Fraction(1, 3), path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"fractions\.Fraction"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "stranger",
    [
        Callback(),
        Callback,
        Executes(),
        functools.partial(executes),
        Settings(a=1, b=Callback()),
        collections.defaultdict(list, a=[1]),
        np.arange(3),
        np.random.default_rng(0),
        {Side.LEFT: datetime.datetime(2026, 1, 1)},
        Slots(),
        eval,
    ],
)
def test_classes_beside_the_parts_asked_for_are_left_alone(tmp_path: Path, stranger: object) -> None:
    """Nothing of them is imported or executed."""
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(2)}, "other": [stranger, {"inside": (stranger,)}]}, path)
    (found,) = read_torch_file(path, parts=["model", "state_dict"]).items()
    assert found[0] == "state_dict"
    assert torch.equal(found[1]["weight"], torch.ones(2))
    with pytest.raises(UserError, match="where weights or plain values are needed"):
        read_torch_file(path)  # as a whole
    with pytest.raises(UserError, match="where weights or plain values are needed"):
        read_torch_file(path, parts=["other"])


def test_official_and_lightning_checkpoints_with_classes_in_them(tmp_path: Path) -> None:
    others = {"callbacks": Executes(), "hyper_parameters": Settings(a=1, b=Callback()), "epoch": 3}
    assert same_weights(official(tmp_path / "x.pth", lambda checkpoint: checkpoint.update(others)))
    weights = as_ldm(small_autoencoder())
    lightning = {"pytorch-lightning_version": "2.4.0", "state_dict": weights, "optimizer_states": [Callback()]}
    torch.save({"model": weights}, tmp_path / "plain.ckpt")
    torch.save({**others, **lightning}, tmp_path / "lightning.ckpt")
    hashes = {tokenizer_of(tmp_path / name).content_hash() for name in ("plain.ckpt", "lightning.ckpt")}
    assert len(hashes) == 1


def test_classes_among_the_weights_and_args_are_named(tmp_path: Path) -> None:
    path = official(tmp_path / "x.pth", lambda checkpoint: checkpoint["model"].update(odd=Callback()))
    with pytest.raises(UserError, match=r"test_foreign_checkpoints\.Callback"):
        load_official(path)
    path = official(tmp_path / "y.pth", lambda checkpoint: checkpoint.update(args=Callback()))
    with pytest.raises(UserError, match=r"test_foreign_checkpoints\.Callback"):
        load_official(path)
    torch.save({"state_dict": {"encoder.conv_in.weight": Callback()}}, tmp_path / "vae.ckpt")
    with pytest.raises(UserError, match=r"test_foreign_checkpoints\.Callback"):
        tokenizer_of(tmp_path / "vae.ckpt").content_hash()


def test_code_in_a_file_is_named_and_not_executed(tmp_path: Path) -> None:
    torch.save({"model": {}, "x": Executes()}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"test_foreign_checkpoints\.executes"):
        read_torch_file(tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "y.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00exit\x85R.")
        archive.writestr("x/version", "3\n")
    with pytest.raises(UserError, match=r"posix\.system"):
        read_torch_file(tmp_path / "y.pth", parts=["model"])


# What is saved in a checkpoint's place

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1\nsize 12345\n"
)
IN_ITS_PLACE = [
    (b"", "is empty"),
    (b"\n <!DOCTYPE html>\n<html><head><title>Google Drive - Virus scan warning</title>", r"is a web page \(HTML\)"),
    (b"<html lang=en>", r"is a web page \(HTML\)"),
    (POINTER, r"is a Git LFS pointer.*git lfs pull"),
    (b'{"error":"Repository not found"}', "is a text file"),
    (b"Entry not found", "is a text file that begins with 'Entry not found'"),
    ("Non trouvé: ".encode() + "€".encode() * 999, "is a text file that begins with 'Non trouvé"),
    (b"\x1f\x8b\x08" + bytes(40), "is a gzip archive: unpack it"),
]


@pytest.mark.parametrize(("content", "message"), IN_ITS_PLACE)
def test_what_was_saved_in_a_checkpoint_s_place_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    for name, read in (
        ("x.pth", load_official),
        ("vae.ckpt", lambda path: tokenizer_of(path).content_hash()),
        ("vae.safetensors", lambda path: tokenizer_of(path).content_hash()),
        ("checkpoint.safetensors", load_header),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{name} {message}"):
            read(path)


def test_a_pointer_in_an_autoencoder_s_folder_is_named(tmp_path: Path) -> None:
    small_autoencoder().save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"model\.safetensors is a Git LFS pointer"):
        tokenizer_of(tmp_path).content_hash()
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"encoder.conv_in.weight": Callback()}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=r"model\.bin has test_foreign_checkpoints\.Callback"):
        tokenizer_of(tmp_path).content_hash()


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"])
def test_files_that_are_not_loaded_do_not_matter(name: str, tmp_path: Path) -> None:
    """As `git lfs pull --include` leaves them."""
    small_autoencoder().save_pretrained(tmp_path)
    whole = tokenizer_of(tmp_path).content_hash()
    (tmp_path / name).write_bytes(POINTER)
    assert tokenizer_of(tmp_path).content_hash() == whole


def test_archives_folders_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "kl-f16.zip", "w") as archive:
        archive.writestr("model.ckpt", b"")
    with pytest.raises(UserError, match=r"is a zip archive that contains model\.ckpt: unpack it"):
        read_torch_file(tmp_path / "kl-f16.zip")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "x.pt")
    with pytest.raises(UserError, match="is a TorchScript program"):
        read_torch_file(tmp_path / "x.pt")
    with pytest.raises(UserError, match="is a folder"):
        read_torch_file(tmp_path)
    with pytest.raises(UserError, match="is a folder"):
        load_header(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="is a safetensors file"):
        read_torch_file(tmp_path / "x.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "four.pth", pickle_protocol=4)
    with pytest.raises(UserError, match="pickle protocol 4"):
        read_torch_file(tmp_path / "four.pth")


def test_an_autoencoder_s_layout_is_read_off_its_content(tmp_path: Path) -> None:
    weights = {name: value.contiguous() for name, value in as_ldm(small_autoencoder()).items()}
    torch.save(weights, tmp_path / "vae.safetensors")
    save_file(weights, tmp_path / "vae.ckpt")
    hashes = {tokenizer_of(tmp_path / name).content_hash() for name in ("vae.safetensors", "vae.ckpt")}
    assert len(hashes) == 1
    small_autoencoder().save_pretrained(tmp_path / "folder")
    with pytest.raises(UserError, match=r"diffusers' names.*give its folder"):
        tokenizer_of(tmp_path / "folder" / "diffusion_pytorch_model.safetensors").content_hash()


def test_an_official_checkpoint_points_to_its_conversion() -> None:
    with pytest.raises(
        UserError, match=r"official_tiny\.pth is a file of torch\.save.*ear convert .*official_tiny\.pth"
    ):
        load_header(TINY)


# Values that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["model", "model_ema"])
def test_an_official_weight_that_is_not_finite_is_refused(tmp_path: Path, part: str, value: float) -> None:
    def damage(checkpoint: dict[str, Any]) -> None:
        checkpoint[part]["decoder_blocks.1.mlp.fc1.weight"][3, 4] = value

    path = official(tmp_path / "x.pth", damage)
    with pytest.raises(UserError, match=rf"x\.pth.*{part}.*decoder_blocks\.1\.mlp\.fc1\.weight.*1 of"):
        from_official(path, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("layout", ["ldm", "folder"])
def test_an_autoencoder_s_weight_that_is_not_finite_is_refused(tmp_path: Path, layout: str) -> None:
    autoencoder, path = small_autoencoder(), tmp_path / "vae"
    with torch.no_grad():
        autoencoder.decoder.conv_out.bias[1] = float("nan")
    if layout == "folder":
        autoencoder.save_pretrained(path)
    else:
        torch.save(as_ldm(autoencoder), path)
    with pytest.raises(UserError, match=rf"tokenizer\.checkpoint: {path}.*decoder\.conv_out\.bias.*1 of 3"):
        tokenizer_of(path).content_hash()


def test_lists_of_weights_are_no_mapping(tmp_path: Path) -> None:
    for weights in ([torch.zeros(1)], {"a": 1.0}, None, collections.Counter(a=1)):
        path = official(tmp_path / "x.pth", lambda checkpoint, weights=weights: checkpoint.update(model_ema=weights))
        with pytest.raises(UserError, match=r"x\.pth is not a checkpoint of the official EAR project"):
            load_official(path)


def test_a_file_that_can_t_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions stop nobody who is root, so that the system's answer is given here."""
    for name in ("x.pth", "vae.ckpt", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes(TINY.read_bytes())

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    for name, read in (("x.pth", load_official), ("checkpoint.safetensors", load_header)):
        with pytest.raises(UserError, match=rf"{name} can't be read \(Permission denied\)"):
            read(tmp_path / name)
    with pytest.raises(UserError, match=r"vae\.ckpt can't be read \(Permission denied\)"):
        tokenizer_of(tmp_path / "vae.ckpt").content_hash()


@pytest.mark.parametrize(("name", "value"), [("cfg", 0.5), ("cfg_schedule", "none"), ("num_iter", "many")])
def test_an_arg_of_an_impossible_value_is_named(tmp_path: Path, name: str, value: object) -> None:
    path = official(tmp_path / "x.pth", lambda checkpoint: vars(checkpoint["args"]).update({name: value}))
    field = {"num_iter": "steps"}.get(name, name)
    with pytest.raises(
        UserError, match=rf"x\.pth: its args have an invalid value for SamplingConfig\.{field}: .* \(given: {value!r}\)"
    ):
        load_official(path)
