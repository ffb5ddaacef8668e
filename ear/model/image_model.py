"""Trunk and scoring rule as one module.

Dimensions: B images, L tokens, n masked tokens an image, D values a token, W width.
"""

from torch import Tensor, nn

from ear.config.schema import RunConfig
from ear.model.masking import gather_positions, mask_from_orders
from ear.model.trunk import MaskedAutoregressiveTransformer
from ear.random import stream_generator
from ear.scoring import ScoringRule, build_rule


class ImageModel(nn.Module):
    """The distribution of an image's tokens given its class, one masked set after another."""

    def __init__(self, trunk: MaskedAutoregressiveTransformer, rule: ScoringRule) -> None:
        super().__init__()
        self.trunk = trunk
        self.rule = rule

    def loss(
        self,
        tokens: Tensor,
        labels: Tensor,
        *,
        orders: Tensor,
        masked: int,
        dropped: Tensor,
        noise: Tensor,
        train_temperature: float,
    ) -> Tensor:
        """The scoring rule's mean loss over the masked positions, a scalar.

        Everything random comes from outside, so a loss can be repeated and split.

        Args:
            tokens: [B, L, D]. labels: [B].
            orders: [B, L], a permutation of positions an image; the first `masked` of each are predicted.
            dropped: [B] bool, True where the class is hidden.
            noise: the rule's own, from `rule.training_noise(B * masked, ...)`.
            train_temperature: weight of the energy score's diversity term.
        """
        mask_BL = mask_from_orders(orders, masked)
        # Every image has as many masked positions, so an index of fixed shape gathers them: the head never sees the
        # others, and nothing waits for the device to count a mask.
        positions_Bn = orders[:, :masked]
        z_BnW = self.trunk(tokens, mask_BL, self.trunk.embed_classes(labels, dropped), positions_Bn)
        target_BnD = gather_positions(tokens, positions_Bn)
        return self.rule.loss(
            z_BnW.flatten(0, 1), target_BnD.flatten(0, 1), noise, temperature=train_temperature
        ).mean()


def build_model(config: RunConfig, tokens: int, token_dim: int, classes: int) -> ImageModel:
    """The model that the configuration describes, its weights drawn from the run's seed."""
    trunk = MaskedAutoregressiveTransformer(config.model, tokens, token_dim, classes)
    rule = build_rule(config.scoring, condition_dim=config.model.width, token_dim=token_dim)
    generator = stream_generator(config.seed, "initial weights")
    trunk.initialise(generator)
    rule.initialise(generator)
    return ImageModel(trunk, rule)
