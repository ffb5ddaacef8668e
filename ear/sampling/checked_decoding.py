"""Detects non-finite images before they become pixels: NaN would become black, and its FID would look like any other.

Loaded weights are always finite (`ear.weights.faults`), even those of a diverged training, whose checkpoint has the
weights of the step before. So non-finite images mean that sampling overflowed.
"""

from torch import Tensor

from ear.data import to_uint8
from ear.errors import UserError
from ear.tokenizers import KLTokenizer, Tokenizer


class OverflowingSamplesError(UserError):
    """Sampling with finite weights gave non-finite values."""


def decoded_images(tokenizer: Tokenizer, tokens: Tensor) -> Tensor:
    """Decode finite tokens [B, L, D] to uint8 images [B, channels, H, W] on the CPU.

    Raises:
        OverflowingSamplesError: the decoded images are not finite.
    """
    images = tokenizer.decode(tokens)
    if not images.isfinite().all():
        raise OverflowingSamplesError(
            f"{_called(tokenizer)} decodes finite tokens to images that are NaN or infinite: the tokens are far from "
            "those it was trained on, or tokenizer.scale differs from the one in training."
        )
    return to_uint8(images).cpu()


def _called(tokenizer: Tokenizer) -> str:
    if isinstance(tokenizer, KLTokenizer):
        return f"tokenizer.checkpoint: the autoencoder {tokenizer.config.checkpoint}"
    return "The tokenizer"
