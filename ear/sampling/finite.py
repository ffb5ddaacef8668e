"""Values that are not finite, found before they become pixels: a NaN is a black one, and its FID looks like any other.

A training that diverges is a result, whose checkpoint keeps the finite weights of the step before. So weights that are
not finite are damaged, or another program's; images that are not finite, of finite weights, are an overflow.
"""

from collections.abc import Mapping

from torch import Tensor

from ear.data import to_uint8
from ear.errors import UserError
from ear.tokenizers import KLTokenizer, Tokenizer

MOST_NAMED = 3


class OverflowingSamplesError(UserError):
    """Finite weights give samples that are not."""


def require_finite_weights(weights: Mapping[str, Tensor], whose: str, remedy: str) -> None:
    """
    Raises:
        UserError: some are not, naming them.
    """
    faulty = [name for name, weight in weights.items() if weight.is_floating_point() and not weight.isfinite().all()]
    if faulty:
        named = ", ".join(faulty[:MOST_NAMED])
        more = f" and {len(faulty) - MOST_NAMED} more" if len(faulty) > MOST_NAMED else ""
        raise UserError(f"{whose} has weights that are NaN or infinite ({named}{more}): {remedy}.")


def require_finite_autoencoder(tokenizer: Tokenizer) -> None:
    """Does nothing for a tokenizer whose weights are in the checkpoint.

    Raises:
        UserError: some of its weights are not finite.
    """
    if isinstance(tokenizer, KLTokenizer):
        require_finite_weights(
            tokenizer.autoencoder.state_dict(), _called(tokenizer), "the file is damaged; fetch it again"
        )


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
