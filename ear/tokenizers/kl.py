"""Latents of a variational autoencoder as tokens: KL-16 (in LDM's layout, as trained for MAR) or any of diffusers'.

Dimensions: B images, C latent channels, h x w latents, L tokens of D = C p^2 values, p the side of a patch in latents.
"""

import math
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ear.config.hashing import array_digest, digest
from ear.config.schema import KLTokenizerConfig
from ear.errors import UserError
from ear.tokenizers.autoencoder import load_autoencoder
from ear.tokenizers.base import Tokenizer
from ear.tokenizers.patch import patchify, unpatchify

LOG_VARIANCE_RANGE = (-30.0, 20.0)  # LDM's clamp


class KLTokenizer(Tokenizer):
    """Tokens are patches of scaled latents: token = scale * latent.

    The autoencoder's weights are read when images are first encoded or decoded. Training on cached latents does not
    need them, and checkpoints do not contain them.
    """

    def __init__(self, config: KLTokenizerConfig, image_shape: tuple[int, int, int]) -> None:
        """`image_shape` is (channels, height, width).

        Raises:
            UserError: tokens do not divide the image.
        """
        super().__init__()
        _, height, width = image_shape
        pixels = config.stride * config.patch_size
        if height % pixels or width % pixels:
            raise UserError(
                f"tokenizer: {config.patch_size} latents of {config.stride} pixels do not divide the image's "
                f"{height}x{width}: change data.size, tokenizer.stride or tokenizer.patch_size."
            )
        self.config = config
        self.latent_shape = (config.latent_channels, height // config.stride, width // config.stride)
        self.tokens = (height // pixels) * (width // pixels)
        self.token_dim = config.latent_channels * config.patch_size**2
        self.register_buffer("_place", torch.zeros(()), persistent=False)  # has the device and dtype to compute with

    _place: Tensor

    @cached_property
    def _loaded(self) -> tuple[nn.Module, str]:
        """The autoencoder, and the hash of its weights before `.to()` may round them."""
        if self.config.checkpoint is None:
            raise UserError(
                "tokenizer.checkpoint is not set: download the KL-16 autoencoder of the MAR project (kl16.ckpt), or "
                "one in diffusers' format, and set its path with --set tokenizer.checkpoint=PATH."
            )
        with torch.inference_mode(False):  # inference tensors could not be moved or differentiated through later
            autoencoder = load_autoencoder(Path(self.config.checkpoint), self.config)
        return autoencoder.eval().requires_grad_(False), _weights_digest(autoencoder)

    @property
    def autoencoder(self) -> nn.Module:
        """diffusers' AutoencoderKL, frozen.

        Raises:
            UserError: the file is missing, or is not an autoencoder of the configured shape.
        """
        return self._loaded[0]

    def require_decoder(self) -> None:
        _ = self.autoencoder  # loads it

    def _autoencoder(self) -> Any:
        # It is not a registered submodule, so that `.to()` never loads it and checkpoints never contain it. So it is
        # moved here.
        with torch.inference_mode(False):
            return nn.Module.to(self.autoencoder, self._place.device, self._place.dtype)  # diffusers' own `to` warns

    def moments(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] to posterior means and log-variances [B, 2C, h, w], unclamped."""
        posterior = self._autoencoder().encode(images.to(self._place.dtype)).latent_dist
        return cast(Tensor, posterior.parameters)

    def tokens_from_moments(self, moments: Tensor, noise: Tensor | None) -> Tensor:
        """Tokens [B, L, D] of posterior samples mean + std * noise [B, C, h, w], or of the means if noise is None."""
        mean, log_variance = moments.to(self._place.dtype).chunk(2, dim=1)
        latents = mean
        if noise is not None:
            latents = mean + torch.exp(0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)) * noise
        return patchify(self.config.scale * latents, self.config.patch_size)

    def encode(self, images: Tensor) -> Tensor:
        return self.tokens_from_moments(self.moments(images), None)

    def decode(self, tokens: Tensor) -> Tensor:
        latents = unpatchify(tokens, self.config.patch_size, self.latent_shape) / self.config.scale
        return cast(Tensor, self._autoencoder().decode(latents.to(self._place.dtype)).sample)

    def content_hash(self) -> str:
        """SHA-256 of the autoencoder's weights and names, independent of the layout of the file."""
        return self._loaded[1]

    def saved_state(self) -> dict[str, Tensor]:
        """Empty: the weights stay in their own file, and checkpoints have their hash."""
        return {}

    def load_saved_state(self, state: dict[str, Tensor]) -> None:
        assert not state


def _weights_digest(autoencoder: nn.Module) -> str:
    weights = autoencoder.state_dict().items()
    return digest({name: array_digest(weight.float().numpy()) for name, weight in weights})


def measured_scale(moments: Iterable[Tensor]) -> float:
    """The scale that gives latents unit variance: 1 / std over all values of posterior samples.

    var = E[mean^2] + E[exp(log-variance)] - E[mean]^2 (total variance), in float64.

    Args:
        moments: batches of [b, 2C, h, w].

    Raises:
        UserError: the latents have no variance, because all images are alike.
    """
    count, total, squares = 0, 0.0, 0.0
    for batch in moments:
        mean, log_variance = batch.double().chunk(2, dim=1)
        count += mean.numel()
        total += mean.sum().item()
        squares += (mean.square() + log_variance.clamp(*LOG_VARIANCE_RANGE).exp()).sum().item()
    variance = squares / count - (total / count) ** 2
    if not variance > 0:
        raise UserError("No scale gives these latents unit variance, since all are equal: check the images.")
    return 1 / math.sqrt(variance)
