"""Images from a checkpoint: its averaged weights, its tokenizer, its settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ear.config.schema import RunConfig, SamplingConfig
from ear.data import load_dataset, to_uint8
from ear.model import ImageModel, build_model
from ear.sampling.generate import generate, image_randomness
from ear.tokenizers import Tokenizer, build_tokenizer
from ear.training.checkpoint import load_header, load_part


@dataclass(frozen=True)
class Sampler:
    """Generates images of a trained model. The same image numbers and seed give the same noise in any batching."""

    model: ImageModel
    tokenizer: Tokenizer
    config: RunConfig
    classes: int
    device: torch.device

    @classmethod
    def load(cls, checkpoint: Path) -> "Sampler":
        """On the CPU.

        Raises:
            UserError: the checkpoint is missing, damaged or foreign.
        """
        config = load_header(checkpoint).config
        dataset = load_dataset(config.data)
        tokenizer = build_tokenizer(config.tokenizer, dataset)
        tokenizer.load_state_dict(load_part(checkpoint, "tokenizer"))
        model = build_model(config, tokenizer.tokens, tokenizer.token_dim, dataset.classes)
        model.load_state_dict(load_part(checkpoint, "ema"))
        return cls(model.eval(), tokenizer.eval(), config, dataset.classes, torch.device("cpu"))

    def to(self, device: torch.device) -> "Sampler":
        return replace(self, model=self.model.to(device), tokenizer=self.tokenizer.to(device), device=device)

    def sample(
        self,
        labels: Tensor | None,
        images: range,
        settings: SamplingConfig,
        *,
        seed: int,
        batch_size: int = 500,
        on_images: Callable[[int], object] = int,
    ) -> Tensor:
        """uint8 images [N, channels, H, W] of these image numbers.

        Args:
            labels: [N] classes, or None for the null class.
            on_images: called with the number of images done after each batch.
        """
        done = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            orders, noise = image_randomness(self.model, self.tokenizer.tokens, seed, batch)
            tokens = generate(
                self.model,
                None if labels is None else labels[start : start + batch_size].to(self.device),
                orders.to(self.device),
                noise.to(self.device),
                settings,
                self.tokenizer.token_dim,
            )
            done.append(to_uint8(self.tokenizer.decode(tokens)).cpu())
            on_images(start + len(batch))
        return torch.cat(done)


def balanced_labels(images: int, classes: int) -> Tensor:
    """0, 1, ..., classes - 1, 0, 1, ...: as many of each class as can be, [images] int64."""
    return torch.arange(images) % classes
