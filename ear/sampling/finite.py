"""Images that are not finite, found before they become pixels: a NaN is a black one, and its FID looks like any other.

Weights are finite wherever they are loaded (`ear.weights.faults`): a training that diverges is a result, whose
checkpoint keeps the finite weights of the step before. So images that are not finite are an overflow.
"""

from torch import Tensor

from ear.data import to_uint8
from ear.errors import UserError
from ear.tokenizers import KLTokenizer, Tokenizer


class OverflowingSamplesError(UserError):
    """Finite weights give samples that are not."""


def decoded_images(tokenizer: Tokenizer, tokens: Tensor) -> Tensor:
    """Finite tokens [B, L, D] -> uint8 images [B, channels, H, W] on the CPU.

    Raises:
        UserError: the tokenizer makes images of them that are not finite.
    """
    images = tokenizer.decode(tokens)
    if not images.isfinite().all():
        raise OverflowingSamplesError(
            f"{_called(tokenizer)} makes images that are NaN or infinite of finite tokens: these are far from any that "
            "it was trained on, or tokenizer.scale is not the one that they were made with."
        )
    return to_uint8(images).cpu()


def _called(tokenizer: Tokenizer) -> str:
    if isinstance(tokenizer, KLTokenizer):
        return f"tokenizer.checkpoint: the autoencoder {tokenizer.config.checkpoint}"
    return "The tokenizer"
