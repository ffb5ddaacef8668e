"""Translates LDM's autoencoder checkpoints (Rombach et al. 2022) to the names of diffusers' AutoencoderKL.

Both have the same modules, but diffusers counts the decoder's levels from the other end and has linear layers for the
attention's 1x1 convolutions. Its own converter does not support attention in the encoder's levels, which KL-16 has.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

IN_BLOCKS = {"nin_shortcut": "conv_shortcut"}
IN_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
IN_MIDDLE = {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}
LEVEL = re.compile(r"(encoder\.down|decoder\.up)\.(\d+)\.(block|attn|downsample|upsample)\.(?:(\d+)\.)?(.+)")
MIDDLE = re.compile(r"(encoder|decoder)\.mid\.(block_1|attn_1|block_2)\.(.+)")


def autoencoder_config(ldm: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of diffusers' AutoencoderKL for these weights, derived from their shapes.

    Raises:
        KeyError: a weight that every such autoencoder has is missing.
    """
    levels = _count(ldm, r"encoder\.down\.(\d+)\.")
    attention = [f"encoder.down.{level}.attn.0.norm.weight" in ldm for level in range(levels)]
    decoder_attention = [f"decoder.up.{level}.attn.0.norm.weight" in ldm for level in reversed(range(levels))]
    return {
        "in_channels": ldm["encoder.conv_in.weight"].shape[1],
        "out_channels": ldm["decoder.conv_out.weight"].shape[0],
        "latent_channels": ldm["post_quant_conv.weight"].shape[1],
        "block_out_channels": [ldm[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)],
        "layers_per_block": _count(ldm, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": ["AttnDownEncoderBlock2D" if at else "DownEncoderBlock2D" for at in attention],
        "up_block_types": ["AttnUpDecoderBlock2D" if at else "UpDecoderBlock2D" for at in decoder_attention],
    }


def to_diffusers(ldm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate weights to diffusers' names and shapes. Names that are not part of an autoencoder do not change."""
    levels = _count(ldm, r"encoder\.down\.(\d+)\.")
    renamed = {}
    for name, tensor in ldm.items():
        theirs = diffusers_name(name, levels)
        is_linear = ".attentions." in theirs and tensor.shape[2:] == (1, 1)
        renamed[theirs] = tensor[:, :, 0, 0] if is_linear else tensor
    return renamed


def diffusers_name(name: str, levels: int) -> str:
    """diffusers' name of a weight; `levels` is the number of resolutions."""
    if match := LEVEL.fullmatch(name):
        side, level, kind, index, rest = match.groups()
        block = (
            f"encoder.down_blocks.{level}" if side == "encoder.down" else f"decoder.up_blocks.{levels - 1 - int(level)}"
        )
        if kind in ("downsample", "upsample"):
            return f"{block}.{kind}rs.0.{rest}"
        return f"{block}.{_inside(kind, rest, f'{index}.')}"
    if match := MIDDLE.fullmatch(name):
        side, module, rest = match.groups()
        kind, number = module.split("_")
        return f"{side}.mid_block.{_inside(kind, rest, f'{int(number) - 1}.')}"
    return name.replace(".norm_out.", ".conv_norm_out.")


def _inside(kind: str, rest: str, index: str) -> str:
    module, _, leaf = rest.rpartition(".")
    if kind == "attn":
        return f"attentions.{index}{IN_ATTENTION.get(module, module)}.{leaf}"
    return f"resnets.{index}{IN_BLOCKS.get(module, module)}.{leaf}"


def _count(names: Mapping[str, Tensor], pattern: str) -> int:
    """The largest number in names that match the pattern, plus one."""
    numbers = [int(match.group(1)) for name in names if (match := re.match(pattern, name))]
    if not numbers:
        raise KeyError(pattern.replace("\\", "").replace("(d+)", "N").rstrip("."))
    return 1 + max(numbers)
