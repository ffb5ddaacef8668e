"""Trunk and scoring rule as one module.

Dimensions: B images, L tokens, n masked tokens per image, D values per token, W width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ear.config.schema import RunConfig
from ear.model.masking import gather_positions, mask_from_orders
from ear.model.trunk import MaskedAutoregressiveTransformer
from ear.random import stream_generator
from ear.scoring import ScoringRule, build_rule

SAME_NUMBERS: dict[str, str | int | bool | Callable[..., object]] = {
    "fallback_random": True,  # dropout masks come from torch's own generator, not from the compiler's
    "emulate_precision_casts": True,  # bfloat16 values between fused operations are rounded as without fusion
}
"""Options with which torch.compile changes only the order of rounding, so that it is not hashed into keys."""


class ImageModel(nn.Module):
    """The distribution of an image's tokens given its class: a trunk and the head of a scoring rule."""

    def __init__(self, trunk: MaskedAutoregressiveTransformer, rule: ScoringRule) -> None:
        super().__init__()
        self.trunk = trunk
        self.rule = rule

    def compile_parts(self) -> None:
        """Compile the blocks and the head in place, on their first call. Parameter names do not change.

        Blocks are compiled one by one, since equal blocks share one compilation. The head is compiled with dynamic
        shapes, since its number of rows changes from step to step.
        """
        for block in self.trunk.blocks:
            block.compile(options=SAME_NUMBERS)
        for network in self.rule.children():
            network.compile(dynamic=True, options=SAME_NUMBERS)

    def forward(
        self,
        tokens: Tensor,
        labels: Tensor,
        *,
        orders: Tensor,
        masked: Sequence[tuple[int, int]],
        dropped: Tensor,
        noise: Tensor,
        train_temperature: float,
    ) -> Tensor:
        """The sum over images of the scoring rule's mean loss over an image's masked positions, a scalar.

        All random draws are arguments, so a loss can be repeated and split.

        Args:
            tokens: [B, L, D]. labels: [B].
            orders: [B, L], a permutation of positions per image; the first n of each are predicted.
            masked: (images, n) for consecutive groups of images, B images in all.
            dropped: [B] bool, True where the class is replaced by the null class.
            noise: from `rule.training_noise` for the masked positions, group after group.
            train_temperature: weight of the energy score's diversity term.
        """
        # The numbers of masked positions are known on the host, so the positions can be gathered with static shapes:
        # the head processes only these, and nothing waits for the device to count a mask.
        counts_B1 = torch.cat([torch.full((images, 1), count, device=orders.device) for images, count in masked])
        mask_BL = mask_from_orders(orders, counts_B1)
        positions_Bn = orders[:, : max(count for _, count in masked)]
        z_BnW = self.trunk(tokens, mask_BL, self.trunk.embed_classes(labels, dropped), positions_Bn)
        target_BnD = gather_positions(tokens, positions_Bn)
        loss_N = self.rule.loss(
            _rows(z_BnW, masked), _rows(target_BnD, masked), noise, train_temperature=train_temperature
        )
        losses = torch.split(loss_N, [images * count for images, count in masked])
        return torch.stack([loss.sum() / count for loss, (_, count) in zip(losses, masked, strict=True)]).sum()


def _rows(values: Tensor, masked: Sequence[tuple[int, int]]) -> Tensor:
    """The first n values of each image, with its group's n, as rows: [B, max n, C] -> [N, C]."""
    if len(masked) == 1:
        return values.flatten(0, 1)
    groups = torch.split(values, [images for images, _ in masked])
    return torch.cat([group[:, :count].flatten(0, 1) for group, (_, count) in zip(groups, masked, strict=True)])


def build_model(config: RunConfig, tokens: int, token_dim: int, classes: int) -> ImageModel:
    """Build the configured model with random weights, drawn with the run's seed."""
    model = empty_model(config, tokens, token_dim, classes)
    generator = stream_generator(config.seed, "initial weights")
    model.trunk.initialise(generator)
    model.rule.initialise(generator)
    return model


def empty_model(config: RunConfig, tokens: int, token_dim: int, classes: int) -> ImageModel:
    """Build the configured model without meaningful weights, which must be loaded."""
    trunk = MaskedAutoregressiveTransformer(config.model, tokens, token_dim, classes)
    return ImageModel(trunk, build_rule(config.scoring, condition_dim=config.model.width, token_dim=token_dim))
