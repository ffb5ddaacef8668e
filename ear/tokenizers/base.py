"""What a tokenizer is: images to a sequence of continuous tokens and back."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Tokenizer(nn.Module, ABC):
    """Its buffers and parameters are saved with every checkpoint, so that a checkpoint decodes its own tokens.

    B images, L tokens an image, D values a token.
    """

    tokens: int  # L
    token_dim: int  # D

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images [B, channels, height, width] in [-1, 1] -> tokens [B, L, D] of about unit variance."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens [B, L, D] -> images [B, channels, height, width], in [-1, 1] up to the model's error."""

    def require_decoder(self) -> None:
        """Finds out whether tokens can be decoded, before the work that makes some.

        Raises:
            UserError: weights that lie in a file of their own are missing, damaged or of another shape.
        """

    def saved_state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it: everything, unless its weights stay in a file of their own."""
        return self.state_dict()

    def load_saved_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `saved_state`."""
        self.load_state_dict(state)
