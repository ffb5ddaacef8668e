"""Samples images from a checkpoint, with its EMA weights, tokenizer and configuration."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ear.config.schema import RunConfig, SamplingConfig
from ear.data.base import evenly_spaced
from ear.errors import UserError
from ear.model import ImageModel, empty_model
from ear.process.execution import autocast, to_device
from ear.sampling.checked_decoding import OverflowingSamplesError, decoded_images
from ear.sampling.generate import generate, image_randomness
from ear.tokenizers import KLTokenizer, Tokenizer, build_tokenizer
from ear.training.checkpoint import load_header, load_part, load_weights
from ear.weights.faults import require_finite


@dataclass(frozen=True)
class Sampler:
    """Generates images from a trained model. Equal image numbers and seeds give equal noise, for any batching."""

    model: ImageModel
    tokenizer: Tokenizer
    config: RunConfig
    device: torch.device
    checkpoint: Path  # of the weights

    @classmethod
    def load(cls, checkpoint: Path, config: RunConfig | None = None) -> "Sampler":
        """Load a sampler on the CPU.

        Args:
            config: default is the checkpoint's configuration; it may differ in values that the weights do not depend
                on.

        Raises:
            UserError: the checkpoint is missing, damaged or of another program, or the autoencoder is damaged or not
                the one of the training.
        """
        header = load_header(checkpoint)
        config = config or header.config
        tokenizer = build_tokenizer(config)
        saved = load_part(checkpoint, "tokenizer")
        require_finite(saved, f"{checkpoint}, tokenizer,")
        tokenizer.load_saved_state(saved)
        tokenizer.require_decoder()
        if isinstance(tokenizer, KLTokenizer) and header.tokenizer_hash not in ("", tokenizer.content_hash()):
            raise UserError(
                f"{checkpoint} was trained on latents of another autoencoder than {tokenizer.config.checkpoint}: "
                "give the one that encoded them with --set tokenizer.checkpoint=PATH."
            )
        model = empty_model(config, tokenizer.tokens, tokenizer.token_dim, config.data.classes)
        load_weights(model, checkpoint, "ema")
        if config.execution.compile:
            model.compile_parts()
        return cls(model.eval(), tokenizer.eval(), config, torch.device("cpu"), checkpoint)

    @property
    def classes(self) -> int:
        """Number of classes, without the null class."""
        return self.config.data.classes

    def to(self, device: torch.device) -> "Sampler":
        """A sampler on `device`."""
        return replace(self, model=self.model.to(device), tokenizer=self.tokenizer.to(device), device=device)

    def batches(
        self,
        labels: Tensor | None,
        images: Sequence[int],
        settings: SamplingConfig,
        *,
        seed: int,
        batch_size: int = 500,
        on_step: Callable[[float], object] = lambda _: None,
    ) -> Iterator[Tensor]:
        """Generate the images with these numbers in batches: uint8 [b, channels, H, W] on the CPU.

        Args:
            labels: [N] classes, one for each image number, or None for the null class.
            on_step: called after each autoregressive step with the equivalent number of images.

        Raises:
            OverflowingSamplesError: tokens or images are not finite.
        """
        steps = min(settings.steps, self.tokenizer.tokens)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            orders, noise = image_randomness(self.model, self.tokenizer.tokens, seed, batch, settings)
            with autocast(self.config.execution, self.device):
                tokens = generate(
                    self.model,
                    None if labels is None else to_device(labels[start : start + batch_size], self.device),
                    to_device(orders, self.device),
                    to_device(noise, self.device),
                    settings,
                    self.tokenizer.token_dim,
                    static_shapes=self.config.execution.compile,
                    on_step=lambda: on_step(len(batch) / steps),  # noqa: B023 (called within this turn)
                )
            if not tokens.isfinite().all():
                raise OverflowingSamplesError(
                    f"{self.checkpoint}: sampling overflows, though all weights are finite: the training became "
                    f"unstable without diverging, or the model can't be sampled with this sampling.cfg "
                    f"({settings.cfg:g}) or execution.precision ({self.config.execution.precision})."
                )
            with torch.inference_mode():
                decoded = decoded_images(self.tokenizer, tokens)
            yield decoded  # outside inference mode, which would otherwise stay active in the caller

    def sample(
        self,
        labels: Tensor | None,
        images: Sequence[int],
        settings: SamplingConfig,
        *,
        seed: int,
        batch_size: int = 500,
        on_step: Callable[[float], object] = lambda _: None,
    ) -> Tensor:
        """Generate all images at once: uint8 [N, channels, H, W]. Arguments are those of `batches`."""
        return torch.cat(
            list(self.batches(labels, images, settings, seed=seed, batch_size=batch_size, on_step=on_step))
        )


def balanced_labels(images: int, classes: int) -> Tensor:
    """Labels [images] int64, 0, 1, ..., classes - 1, 0, 1, ...: as balanced over classes as possible.

    With fewer images than classes, labels are evenly spaced, since the first classes are not representative
    (ImageNet's are fish and birds).
    """
    if images < classes:
        return evenly_spaced(classes, images)
    return torch.arange(images) % classes
