"""Gaussian diffusion in discrete steps: the noise schedule, the variational bound and ancestral sampling.

    q(x_t | x_0)       = normal(sqrt(a_t) x_0, 1 - a_t)      a_t: "alpha bar", the remaining fraction of signal power
    p(x_{t-1} | x_t)   = normal(mean from the predicted noise, learned variance)

See Ho et al. 2020 (DDPM); cosine schedule, learned variance and respacing are from Nichol & Dhariwal 2021. MAR uses
these (Li et al. 2024), with OpenAI's code. Steps t count from 0, which already has a little noise.

There is no network here: inputs are a denoiser's outputs, the predicted noise and, per entry, a value v that places the
log variance between its two bounds (at v = -1 and 1).

Dimensions: T steps of the trained schedule, S kept steps, M noise levels, N rows, D values per token.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_BETA = 0.999  # of the cosine schedule; otherwise its last step would remove the signal entirely
COSINE_OFFSET = 0.008  # gives the first steps some noise
HALF_BIN = 1 / 255  # of a pixel value in [-1, 1]
LEAST_PROBABILITY = 1e-12

Predictor = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Noisy tokens [N, D] and the index of a kept step -> the predicted noise and v, both [N, D]."""


def cosine_alpha_bars(steps: int) -> NDArray[np.float64]:
    """a_t for t = 0 ... steps - 1 (Nichol & Dhariwal 2021, eq. 17)."""
    times = np.arange(steps + 1) / steps
    curve = np.cos((times + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    betas = np.minimum(1 - curve[1:] / curve[:-1], MAX_BETA)
    return np.cumprod(1 - betas)


def respaced_steps(trained: int, kept: int) -> list[int]:
    """`kept` of `trained` steps, evenly spaced from 0 to trained - 1, as OpenAI's `space_timesteps` with one section.

    As there, the stride is summed, not multiplied, since the rounding of halves depends on it.
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
    """The diffusion process over the kept steps, as tables [S] indexed by the kept steps 0 ... S - 1."""

    steps: Tensor
    """Int64, the kept steps' indices in the trained schedule, which the network gets as input."""
    signal: Tensor
    """sqrt(a), the factor of x_0 in x_t."""
    deviation: Tensor
    """sqrt(1 - a), the factor of the noise in x_t."""
    growth: Tensor
    """Factor of x_t in the mean of x_{t-1}."""
    removal: Tensor
    """Factor of the predicted noise, which is subtracted, in the mean of x_{t-1}."""
    least_log_variance: Tensor
    """Log variance of x_{t-1} given x_t and x_0. At step 0 this variance is zero, so step 1's value is used."""
    greatest_log_variance: Tensor
    """log beta, the log variance for x_0 of unit variance."""

    @classmethod
    def cosine(cls, trained: int, kept: int, *, device: torch.device, dtype: torch.dtype) -> "GaussianDiffusion":
        """The process over `kept` steps of the cosine schedule of `trained` steps."""
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
        """x_t [..., D] from x_0 and standard normal noise (Ho et al., eq. 4); `step` is one number or [...]."""
        return _at(self.signal, step) * tokens + _at(self.deviation, step) * noise

    def previous_mean(self, noisy: Tensor, noise: Tensor, step: Tensor | int) -> Tensor:
        """Mean of x_{t-1} given x_t and the noise in it (Ho et al., eq. 11).

        The first step of sampling magnifies the error of the predicted noise by `removal`: about 30 if every step of
        the cosine schedule is kept, 316 if 100 of 1000 are. After a short training the error is too large for the
        latter: tokens end up hundreds of standard deviations away, from where no later step brings them back.
        """
        return _at(self.growth, step) * noisy - _at(self.removal, step) * noise

    def previous_log_variance(self, v: Tensor, step: Tensor | int) -> Tensor:
        """Log variance of x_{t-1} given x_t (Nichol & Dhariwal, eq. 15, whose v is this one mapped to [0, 1])."""
        least = _at(self.least_log_variance, step)
        return least + (v + 1) / 2 * (_at(self.greatest_log_variance, step) - least)

    def variational_bound(self, noise_error: Tensor, v: Tensor, tokens: Tensor, step: Tensor) -> Tensor:
        """The term of a step in the variational bound on -log2 p(x_0), in bits per dimension (mean over D), [M, N].

        It is the divergence of the model's x_{t-1} from the posterior given x_0; at step 0 the negative log-likelihood
        of x_0. The true mean uses the true noise, so the means differ by `removal` times the error in the noise.

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
        """Sample x_0 [N, D] by ancestral sampling (Ho et al., algorithm 2).

        Args:
            noise: [N, S + 1, D] standard normal: the starting point, then the noise of each step. The last step, to
                x_0, adds no noise, so the last entry is not used.
            infer_temperature: multiplies the noise of the steps, not the starting point.
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
    """KL(true | model) in nats, of two normal distributions whose means differ by `difference`."""
    log_ratio = true_log_variance - log_variance
    return 0.5 * (log_ratio.expm1() - log_ratio + difference.square() * torch.exp(-log_variance))


def discretised_log_likelihood(tokens: Tensor, centred: Tensor, log_deviation: Tensor) -> Tensor:
    """Log probability, in nats, of the bin of width 2/255 around each value under a normal; the outer bins are open.

    This is OpenAI's decoder for 8-bit pixels in [-1, 1]. Tokens are neither, so the outer bins catch many of them, but
    MAR trains with it. It trains only the variance at step 0, which sampling never uses.

    Args:
        tokens: decide which values lie in the outer bins. centred: tokens minus mean.
    """
    inverse_deviation = torch.exp(-log_deviation)
    below_upper = _normal_cdf(inverse_deviation * (centred + HALF_BIN))
    below_lower = _normal_cdf(inverse_deviation * (centred - HALF_BIN))
    inner = torch.where(tokens > 0.999, 1 - below_lower, below_upper - below_lower)
    probability = torch.where(tokens < -0.999, below_upper, inner)
    return probability.clamp(min=LEAST_PROBABILITY).log()


def _normal_cdf(x: Tensor) -> Tensor:
    """The standard normal CDF by the approximation known from GELU (error below 3e-4), as in OpenAI's code."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
