"""The interface of a scoring rule: a training objective together with the head that samples from what it trained."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ear.config.schema import SamplingConfig


class ScoringRule(nn.Module, ABC):
    """A proper scoring rule in negative orientation: lower is better, best in expectation at the true distribution.

    A rule owns its head's parameters. It sees rows: one row is one masked position of one image, already gathered, so
    a rule never handles masks. Its noise comes from outside, so its values can be repeated.

    Dimensions: N rows, W condition width (the trunk's), D values a token.
    """

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draws the head's initial weights."""

    @abstractmethod
    def training_noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """What `loss` needs of randomness for N rows, [M, N, ...], drawn on the generator's device."""

    @abstractmethod
    def loss(self, z: Tensor, target: Tensor, noise: Tensor, *, train_temperature: float = 1.0) -> Tensor:
        """Loss of each row, [N] float32, from conditions z [N, W] and true tokens [N, D].

        `train_temperature` is in (0, 1]; at 1 the rule is proper.
        """

    @abstractmethod
    def sampling_noise(self, rows: int, generator: torch.Generator, settings: SamplingConfig) -> Tensor:
        """What `sample` needs of randomness for N rows, [N, ...], drawn on the generator's device."""

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
        """Tokens [N, D] float32, one for each row of z [N, W].

        `z_null` [N, W] is the same position's condition without the class; classifier-free guidance acts wherever the
        rule says in its docstring. Without `z_null` there is none, whatever `cfg`.
        """
