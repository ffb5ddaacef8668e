"""Iterative generation: predict the next tokens in each image's order, insert them, repeat.

Dimensions: B images, L tokens, n tokens predicted in a step, D values per token, W width.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ear.config.schema import SamplingConfig
from ear.model import ImageModel, cosine_schedule, mask_from_orders, random_orders
from ear.model.masking import gather_positions
from ear.random import stream_generator
from ear.sampling.guidance import guidance_scales


def image_randomness(
    model: ImageModel, tokens: int, seed: int, images: Sequence[int], settings: SamplingConfig
) -> tuple[Tensor, Tensor]:
    """Draw the generation order [B, L] and the rule's noise [B, L, ...] for the images with these numbers.

    Image i always gets the same ones, for any batching, guidance, infer_temperature or number of steps, so comparisons
    across those settings share their noise.
    """
    generators = [stream_generator(seed, "image", number) for number in images]
    orders = [random_orders(1, tokens, generator)[0] for generator in generators]
    noise = [model.rule.sampling_noise(tokens, generator, settings) for generator in generators]
    return torch.stack(orders), torch.stack(noise)


@torch.inference_mode()
def generate(
    model: ImageModel,
    labels: Tensor | None,
    orders: Tensor,
    noise: Tensor,
    config: SamplingConfig,
    token_dim: int,
    *,
    static_shapes: bool = False,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Generate the tokens [B, L, D] of B images.

    Args:
        labels: [B] classes, or None for the null class.
        orders: [B, L] int64, a permutation of positions per image, generated from the last entry to the first.
        noise: [B, L, ...], the rule's noise by position (each position is predicted once).
        static_shapes: predict as many positions in every step as in the largest one and discard the surplus, so that
            one compiled graph serves all steps.
        on_step: called after each autoregressive step.
    """
    images, length = orders.shape
    masked = cosine_schedule(length, min(config.steps, length))
    scales = guidance_scales(masked, config.cfg, config.cfg_schedule)
    condition = model.trunk.embed_null(images) if labels is None else model.trunk.embed_classes(labels)
    guided = config.cfg != 1 and labels is not None
    if guided:
        condition = torch.cat([condition, model.trunk.embed_null(images)])
    copies = 2 if guided else 1
    tokens_BLD = torch.zeros(images, length, token_dim, device=orders.device)
    noise_rows = noise.flatten(2)
    most = max(before - after for before, after in pairwise(masked))
    # The number of tokens in each step is known on the host, so nothing here waits for the device.
    for (before, after), cfg in zip(pairwise(masked), scales, strict=True):
        first = max(0, before - most) if static_shapes else after
        positions_Bn = orders[:, first : first + most if static_shapes else before]
        mask_BL = mask_from_orders(orders, before)
        z = model.trunk(
            tokens_BLD.repeat(copies, 1, 1), mask_BL.repeat(copies, 1), condition, positions_Bn.repeat(copies, 1)
        ).flatten(0, 1)
        z, z_null = z.chunk(2) if guided else (z, None)
        step_noise = gather_positions(noise_rows, positions_Bn).reshape(-1, *noise.shape[2:])
        new = model.rule.sample(z, step_noise, z_null=z_null, cfg=cfg, infer_temperature=config.infer_temperature)
        new = new.view(*positions_Bn.shape, token_dim)
        if first + new.shape[1] > before:  # static shapes, in the last steps: keep tokens that already exist
            new = torch.cat(
                [new[:, : before - first], gather_positions(tokens_BLD, positions_Bn[:, before - first :])], 1
            )
        # With static shapes, positions of later steps may be filled too: they stay masked until their own step.
        tokens_BLD.scatter_(1, positions_Bn.unsqueeze(2).expand(-1, -1, token_dim), new)
        on_step()
    return tokens_BLD
