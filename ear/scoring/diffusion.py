"""Gaussian diffusion in discrete steps: the noise schedule, the loss of a denoiser, the walk back from noise to data.

    q(x_t | x_0)       = normal(sqrt(a_t) x_0, 1 - a_t)      a_t: "alpha bar", the share of the signal's power left
    p(x_{t-1} | x_t)   = normal(mean from the predicted noise, learned variance)

Ho et al. 2020 (DDPM); cosine schedule, learned variance and respacing from Nichol & Dhariwal 2021. MAR trains with
these (Li et al. 2024), through OpenAI's code. A step t counts from 0, which already carries a little noise.

No network here: what a denoiser puts out comes in, the predicted noise and a value v an entry, which places the log
variance between its two bounds (-1 and 1).

Dimensions: T steps of the trained schedule, S steps kept of them, M noise levels, N rows, D values a token.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_BETA = 0.999  # of the cosine schedule: its last step would otherwise destroy the signal entirely
COSINE_OFFSET = 0.008  # so that the first steps aren't without noise
HALF_BIN = 1 / 255  # of a pixel value in [-1, 1]
LEAST_PROBABILITY = 1e-12

Predictor = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""From noisy tokens [N, D] and the index of a kept step: the noise in them and v, both [N, D]."""


def cosine_alpha_bars(steps: int) -> NDArray[np.float64]:
    """a_t of t = 0 ... steps - 1 (Nichol & Dhariwal 2021, eq. 17)."""
    times = np.arange(steps + 1) / steps
    curve = np.cos((times + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    betas = np.minimum(1 - curve[1:] / curve[:-1], MAX_BETA)
    return np.cumprod(1 - betas)


def respaced_steps(trained: int, kept: int) -> list[int]:
    """The steps to keep, evenly spaced from 0 to trained - 1: OpenAI's `space_timesteps` with one section.

    The stride is added up rather than multiplied, as there, since rounding a half depends on it.
    """
    assert 2 <= kept <= trained, "one step can't be both the first and the last"
    stride = (trained - 1) / (kept - 1)
    steps, position = [], 0.0
    for _ in range(kept):
        steps.append(round(position))
        position += stride
    return steps


@dataclass(frozen=True)
class GaussianDiffusion:
    """The process over the kept steps, as tables [S] to be indexed with a step's place among them, 0 ... S - 1."""

    steps: Tensor
    """Int64, places in the trained schedule: what the network is told."""
    signal: Tensor
    """sqrt(a), the factor of x_0 in x_t."""
    deviation: Tensor
    """sqrt(1 - a), the factor of the noise in x_t."""
    growth: Tensor
    """Factor of x_t in the mean of x_{t-1}."""
    removal: Tensor
    """Factor of the noise that is taken away from it."""
    least_log_variance: Tensor
    """Of x_{t-1} given x_t if x_0 were known; step 0, where that is no variance at all, takes step 1's."""
    greatest_log_variance: Tensor
    """log beta, right for x_0 of unit variance."""

    @classmethod
    def cosine(cls, trained: int, kept: int, *, device: torch.device, dtype: torch.dtype) -> "GaussianDiffusion":
        """`kept` steps of the cosine schedule of `trained` steps: the same noise levels, further apart."""
        steps = respaced_steps(trained, kept)
        alpha_bar = cosine_alpha_bars(trained)[steps]
        previous = np.append(1.0, alpha_bar[:-1])
        alpha = alpha_bar / previous
        beta = 1 - alpha
        variance = beta * (1 - previous) / (1 - alpha_bar)
        variance[0] = variance[1]

        def table(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(device, dtype)

        return cls(
            steps=torch.tensor(steps, device=device),
            signal=table(np.sqrt(alpha_bar)),
            deviation=table(np.sqrt(1 - alpha_bar)),
            growth=table(1 / np.sqrt(alpha)),
            removal=table(beta / np.sqrt((1 - alpha_bar) * alpha)),
            least_log_variance=table(np.log(variance)),
            greatest_log_variance=table(np.log(beta)),
        )

    def add_noise(self, tokens: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
        """x_t from x_0 and standard normal noise (Ho et al., eq. 4), [..., D]; `step` is one or [...]."""
        return _at(self.signal, step) * tokens + _at(self.deviation, step) * noise

    def previous_mean(self, noisy: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
        """Mean of x_{t-1} given x_t and the noise in it (Ho et al., eq. 11).

        Sampling's first step magnifies the error of the predicted noise by `removal`: about 30 when every step of the
        cosine schedule is kept, 316 when 100 of 1000 are. A denoiser that was trained briefly errs by too much for the
        latter: tokens then land hundreds of deviations out, where no later step finds them.
        """
        return _at(self.growth, step) * noisy - _at(self.removal, step) * noise

    def previous_log_variance(self, v: Tensor, step: Tensor | int) -> Tensor:
        """Of x_{t-1} given x_t (Nichol & Dhariwal, eq. 15, whose v is this one moved to [0, 1])."""
        least = _at(self.least_log_variance, step)
        return least + (v + 1) / 2 * (_at(self.greatest_log_variance, step) - least)

    def variational_bound(self, noise_error: Tensor, v: Tensor, tokens: Tensor, step: Tensor) -> Tensor:
        """The term of this step in the bound on -log2 p(x_0), mean over D: bits a dimension, [M, N].

        The divergence of the model's x_{t-1} from the one that knows x_0; at step 0 the negative log-likelihood of x_0
        itself. The true mean uses the true noise, so the two means differ by `removal` times the error in the noise.

        Args:
            noise_error: predicted minus true noise, [M, N, D]. v: [M, N, D].
            tokens: [N, D]. step: [M, N].
        """
        log_variance = self.previous_log_variance(v, step)
        true_minus_mean = _at(self.removal, step) * noise_error
        divergence = gaussian_divergence(true_minus_mean, _at(self.least_log_variance, step), log_variance)
        likelihood = discretised_log_likelihood(tokens, true_minus_mean, log_variance / 2)
        nats = torch.where((step == 0).unsqueeze(-1), -likelihood, divergence)
        return nats.mean(dim=-1) / math.log(2)

    def sample(self, noise: Tensor, predict: Predictor, *, infer_temperature: float | Tensor = 1.0) -> Tensor:
        """x_0 by ancestral sampling (Ho et al., algorithm 2), [N, D].

        Args:
            noise: [N, S + 1, D] standard normal: where to start, then what each step adds. The last step, to x_0, adds
                none, so the last entry is not used.
            infer_temperature: multiplies what the steps add, not the start.
        """
        tokens = noise[:, 0]
        for count, step in enumerate(reversed(range(len(self.steps))), start=1):
            predicted, v = predict(tokens, step)
            tokens = self.previous_mean(tokens, predicted, step)
            if step > 0:
                deviation = torch.exp(self.previous_log_variance(v, step) / 2)
                tokens = tokens + infer_temperature * deviation * noise[:, count]
        return tokens


def _at(table: Tensor, step: Tensor | int) -> Tensor:
    return table[step].unsqueeze(-1)


def gaussian_divergence(difference: Tensor, true_log_variance: Tensor, log_variance: Tensor) -> Tensor:
    """KL(true | model) in nats of two normals whose means differ by `difference`."""
    log_ratio = true_log_variance - log_variance
    return 0.5 * (log_ratio.expm1() - log_ratio + difference.square() * torch.exp(-log_variance))


def discretised_log_likelihood(tokens: Tensor, centred: Tensor, log_deviation: Tensor) -> Tensor:
    """log of a normal's probability of the bin of width 2/255 around each value, in nats; the outermost bins are open.

    OpenAI's decoder of 8-bit pixels in [-1, 1]. Tokens are neither, so the outer bins catch much of them; it is kept
    since MAR trains with it. It trains the variance at step 0 alone, which sampling never uses.

    Args:
        tokens: which values lie in the outer bins. centred: tokens minus mean.
    """
    inverse_deviation = torch.exp(-log_deviation)
    below_upper = _normal_cdf(inverse_deviation * (centred + HALF_BIN))
    below_lower = _normal_cdf(inverse_deviation * (centred - HALF_BIN))
    inner = torch.where(tokens > 0.999, 1 - below_lower, below_upper - below_lower)
    probability = torch.where(tokens < -0.999, below_upper, inner)
    return probability.clamp(min=LEAST_PROBABILITY).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """The approximation that GELU made known (error below 3e-4), as in OpenAI's code."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
