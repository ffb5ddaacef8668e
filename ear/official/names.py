"""The official names and shapes of this program's parameters, and state dicts in both directions."""

from collections.abc import Mapping

from torch import Tensor

from ear.errors import UserError
from ear.weights.faults import WeightFaults

# This program's names -> official names. Shapes are equal except for leading 1s in three official parameters.
TRUNK_NAMES = {
    "trunk.token_embedding": "z_proj",
    "trunk.class_embedding.weight": "class_emb.weight",
    "trunk.null_class": "fake_latent",
    "trunk.mask_token": "mask_token",
    "trunk.position_embedding": "decoder_pos_embed_learned",
    "trunk.norm": "decoder_norm",
}
BLOCK_NAMES = {
    "attention_norm": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.output": "attn.proj",
    "mlp_norm": "norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
GENERATOR_NAMES = {
    "rule.generator.noise_embedding": "scoreloss.net.noise_embed",
    "rule.generator.condition_embedding": "scoreloss.net.input_proj",
    "rule.generator.output_modulation": "scoreloss.net.final_layer.adaLN_modulation.1",
    "rule.generator.output": "scoreloss.net.final_layer.linear",
}
GENERATOR_BLOCK_NAMES = {
    "norm": "in_ln",
    "modulation": "adaLN_modulation.1",
    "expand": "mlp.0",
    "contract": "mlp.2",
}
OFFICIAL_LEADING_ONES = {"fake_latent": (1,), "mask_token": (1, 1), "decoder_pos_embed_learned": (1,)}


def translate(official: Mapping[str, Tensor], ours: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Translate an official state dict to this program's names and shapes.

    Args:
        ours: a state dict with the wanted names and shapes.
        source: names the file in messages.

    Raises:
        UserError: weights are missing, unexpected or of another shape; the message gives their official names.
    """
    names = {name: official_name(name) for name in ours}
    faults = WeightFaults(
        missing=[theirs for theirs in names.values() if theirs not in official],
        unexpected=sorted(set(official) - set(names.values())),
        misshapen=[
            (theirs, official[theirs].shape, ours[name].shape)
            for name, theirs in names.items()
            if theirs in official and squeezed_shape(official[theirs]) != squeezed_shape(ours[name])
        ],
    )
    if faults:
        raise UserError(f"{source} does not have the weights of the model in its args: {faults}.")
    return {name: official[theirs].reshape(ours[name].shape) for name, theirs in names.items()}


def official_state(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state dict with this program's names to official names and shapes."""
    return {
        official_name(name): tensor.reshape(
            OFFICIAL_LEADING_ONES.get(official_name(name), ()) + tuple(tensor.shape)
        ).clone()
        for name, tensor in ours.items()
    }


def squeezed_shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor without leading 1s."""
    shape = tuple(tensor.shape)
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def official_name(name: str) -> str:
    """The official name of a parameter with this program's name `name`."""
    module, _, leaf = name.rpartition(".")
    outside_blocks = TRUNK_NAMES | GENERATOR_NAMES
    if name in outside_blocks:
        return outside_blocks[name]
    if module in outside_blocks:
        return f"{outside_blocks[module]}.{leaf}"
    for prefix, theirs, inner in (
        ("trunk.blocks.", "decoder_blocks.", BLOCK_NAMES),
        ("rule.generator.blocks.", "scoreloss.net.res_blocks.", GENERATOR_BLOCK_NAMES),
    ):
        if module.startswith(prefix):
            index, _, rest = module.removeprefix(prefix).partition(".")
            return f"{theirs}{index}.{inner[rest]}.{leaf}"
    raise AssertionError(name)
