"""Trunk and scoring rule as one module.

Dimensions: B images, L tokens, n masked tokens an image, D values a token, W width.
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
    "fallback_random": True,  # dropout's masks from torch's own generator, not from one of the compiler's
    "emulate_precision_casts": True,  # bfloat16 values between fused operations are rounded as without fusion
}
"""torch.compile's options under which it changes the order of rounding only, so that it needs no key of its own."""


class ImageModel(nn.Module):
    """The distribution of an image's tokens given its class, one masked set after another."""

    def __init__(self, trunk: MaskedAutoregressiveTransformer, rule: ScoringRule) -> None:
        super().__init__()
        self.trunk = trunk
        self.rule = rule

    def compile_parts(self) -> None:
        """Compiles the blocks and the head on their first call, in place: names of parameters stay.

        Block by block, since equal blocks share one compilation. The head's number of rows changes from step to step.
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
        """The scoring rule's loss of each image, its mean over the image's masked positions; their sum, a scalar.

        Everything random comes from outside, so a loss can be repeated and split.

        Args:
            tokens: [B, L, D]. labels: [B].
            orders: [B, L], a permutation of positions an image; the first n of each are predicted.
            masked: (images, n) for groups of images that follow each other; B images in all.
            dropped: [B] bool, True where the class is hidden.
            noise: the rule's own, from `rule.training_noise` for the masked positions, group after group.
            train_temperature: weight of the energy score's diversity term.
        """
        # Numbers of masked positions are known on the host, so indices of known shape gather them: the head never
        # sees the others, and nothing waits for the device to count a mask.
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
    """Of values [B, max n, C] each group's first n an image, as rows [N, C]."""
    if len(masked) == 1:
        return values.flatten(0, 1)
    groups = torch.split(values, [images for images, _ in masked])
    return torch.cat([group[:, :count].flatten(0, 1) for group, (_, count) in zip(groups, masked, strict=True)])


def build_model(config: RunConfig, tokens: int, token_dim: int, classes: int) -> ImageModel:
    """The model that the configuration describes, its weights drawn from the run's seed."""
    model = empty_model(config, tokens, token_dim, classes)
    generator = stream_generator(config.seed, "initial weights")
    model.trunk.initialise(generator)
    model.rule.initialise(generator)
    return model


def empty_model(config: RunConfig, tokens: int, token_dim: int, classes: int) -> ImageModel:
    """The same with weights yet to be loaded."""
    trunk = MaskedAutoregressiveTransformer(config.model, tokens, token_dim, classes)
    return ImageModel(trunk, build_rule(config.scoring, condition_dim=config.model.width, token_dim=token_dim))
