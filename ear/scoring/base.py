"""The interface of a scoring rule: a training objective and the head that it trains, which samples tokens."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ear.config.schema import SamplingConfig


class ScoringRule(nn.Module, ABC):
    """A proper scoring rule, negatively oriented: lower is better, and the true distribution is best in expectation.

    A rule owns the parameters of its head. Its inputs are rows: one row is one masked position of one image, already
    gathered, so a rule never handles masks. Noise is an argument, so values are reproducible.

    Dimensions: N rows, W condition width (the trunk's), D values per token.
    """

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the head's initial weights."""

    @abstractmethod
    def training_noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw the noise [M, N, ...] that `loss` needs for N rows, on the generator's device."""

    @abstractmethod
    def loss(self, z: Tensor, target: Tensor, noise: Tensor, *, train_temperature: float = 1.0) -> Tensor:
        """Loss [N] float32 of each row, from conditions z [N, W] and true tokens [N, D].

        `train_temperature` is in (0, 1]; at 1 the rule is proper.
        """

    @abstractmethod
    def sampling_noise(self, rows: int, generator: torch.Generator, settings: SamplingConfig) -> Tensor:
        """Draw the noise [N, ...] that `sample` needs for N rows, on the generator's device."""

    @abstractmethod
    def sample(
        self,
        z: Tensor,
        noise: Tensor,
        *,
        z_null: Tensor | None = None,
        cfg: float = 1.0,
        infer_temperature: float = 1.0,
    ) -> Tensor:
        """Sample tokens [N, D] float32, one for each row of z [N, W].

        Args:
            noise: from `sampling_noise`.
            z_null: [N, W], the conditions without the class, for classifier-free guidance. The rule's docstring says
                where guidance acts. Without `z_null` there is no guidance.
            cfg: guidance scale.
            infer_temperature: inference temperature; 1 samples from the trained distribution.
        """
