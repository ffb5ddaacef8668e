"""The random draws of a training step, keyed by seed, step and group of images, so that any split gives the same ones.

Dimensions: g images, L tokens, n masked tokens per image, M noise samples per row.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ear.config import RunConfig
from ear.model.masking import masked_count, random_orders, sample_mask_ratio
from ear.random import stream_generator, stream_seed
from ear.scoring import ScoringRule
from ear.training.token_data import TokenData


@dataclass(frozen=True)
class GroupDraws:
    """The draws of a group of images that share one mask ratio."""

    masked: int  # n
    orders: Tensor  # [g, L]
    dropped: Tensor  # [g] bool, True where the class is hidden
    noise: Tensor  # [M, g n, ...], image after image
    augmentation: tuple[Tensor, ...]  # from the data's `draw_augmentation`, [g, ...] each

    def __len__(self) -> int:
        return len(self.orders)

    def images(self, start: int, stop: int) -> "GroupDraws":
        """The draws of images `start` to `stop` of the group."""
        return replace(
            self,
            orders=self.orders[start:stop],
            dropped=self.dropped[start:stop],
            noise=self.noise[:, start * self.masked : stop * self.masked],
            augmentation=tuple(drawn[start:stop] for drawn in self.augmentation),
        )


def step_draws(
    config: RunConfig, rule: ScoringRule, data: TokenData, step: int, images: range, device: torch.device
) -> list[GroupDraws]:
    """The draws of a range of images in a step's batch, one entry per group.

    Mask ratios, orders and dropped labels are drawn on the CPU and are the same on every device; noise is drawn on the
    device.
    """
    batch = config.training.batch_size
    size = config.training.mask_group or batch
    groups = []
    for group in range(images.start // size, -(-images.stop // size)):
        first, end = group * size, min((group + 1) * size, batch)
        index = step * -(-batch // size) + group
        draws = _group_draws(config, rule, data, index, end - first, device)
        groups.append(draws.images(max(images.start, first) - first, min(images.stop, end) - first))
    return groups


def _group_draws(
    config: RunConfig, rule: ScoringRule, data: TokenData, index: int, images: int, device: torch.device
) -> GroupDraws:
    training, tokens = config.training, data.tokenizer.tokens
    generator = stream_generator(config.seed, "step", index)
    ratio = sample_mask_ratio(training.mask_ratio_min, training.mask_ratio_std, generator)
    masked = masked_count(tokens, ratio)
    orders = random_orders(images, tokens, generator)
    dropped = torch.rand(images, generator=generator) < training.label_drop
    on_device = generator
    if device.type != "cpu":
        on_device = torch.Generator(device).manual_seed(stream_seed(config.seed, "step on device", index))
    return GroupDraws(
        masked=masked,
        orders=orders,
        dropped=dropped,
        noise=rule.training_noise(images * masked, on_device),
        augmentation=data.draw_augmentation(images, generator, on_device),
    )
