"""The interface of a tokenizer, which turns images into sequences of continuous tokens and back."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Tokenizer(nn.Module, ABC):
    """Turns images into tokens and back.

    Its buffers and parameters are saved in every checkpoint, so that a checkpoint can decode its own tokens.

    Dimensions: B images, L tokens per image, D values per token.
    """

    tokens: int  # L
    token_dim: int  # D

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Encode images [B, channels, height, width] in [-1, 1] to tokens [B, L, D] of about unit variance."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Decode tokens [B, L, D] to images [B, channels, height, width], in [-1, 1] up to the model's error."""

    def require_decoder(self) -> None:
        """Check that tokens can be decoded, before any are generated.

        Raises:
            UserError: weights in a separate file are missing, damaged or of another shape.
        """

    def saved_state(self) -> dict[str, Tensor]:
        """The tensors to save in a checkpoint: all, unless the weights stay in a separate file."""
        return self.state_dict()

    def load_saved_state(self, state: dict[str, Tensor]) -> None:
        """Load the tensors that `saved_state` returned."""
        self.load_state_dict(state)
