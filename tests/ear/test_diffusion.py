"""The noise schedule, its posterior and the variational bound, against formulas and diffusers."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusion_parts import process, seeded
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ear.scoring.diffusion import (
    cosine_alpha_bars,
    discretised_log_likelihood,
    gaussian_divergence,
    respaced_steps,
)

# Schedule


@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_cosine_schedule_follows_its_formula(steps: int) -> None:
    """Until the clipping of beta, a_t is cos^2 at (t + 1) / T over cos^2 at 0; the last beta is clipped to 0.999."""
    alpha_bars = cosine_alpha_bars(steps)
    curve = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    assert alpha_bars[:-1] == pytest.approx([value / curve[0] for value in curve[1:-1]], rel=1e-9)
    assert 1 - alpha_bars[-1] / alpha_bars[-2] == pytest.approx(0.999)


def test_respacing_by_hand() -> None:
    assert respaced_steps(1000, 2) == [0, 999]
    assert respaced_steps(10, 4) == [0, 3, 6, 9]
    assert respaced_steps(10, 3) == [0, 4, 9]  # 4.5 rounds to the even
    assert respaced_steps(1000, 100)[:4] == [0, 10, 20, 30]  # strides of 999 / 99


@pytest.mark.parametrize(("trained", "kept"), [(1000, 1000), (1000, 999), (1000, 100), (1000, 37), (50, 2)])
def test_respaced_noise_levels_are_trained_ones(trained: int, kept: int) -> None:
    full, respaced = process(trained, trained), process(trained, kept)
    assert (respaced.steps.diff() > 0).all()
    assert (respaced.steps[0], respaced.steps[-1], len(respaced.steps)) == (0, trained - 1, kept)
    torch.testing.assert_close(respaced.signal, full.signal[respaced.steps], rtol=0, atol=0)
    torch.testing.assert_close(respaced.deviation, full.deviation[respaced.steps], rtol=0, atol=0)


def test_respacing_to_all_steps_changes_nothing() -> None:
    assert torch.equal(process(30, 30).steps, torch.arange(30))
    alpha_bars = cosine_alpha_bars(30)
    betas = 1 - alpha_bars / np.append(1, alpha_bars[:-1])
    assert process(30, 30).greatest_log_variance.tolist() == pytest.approx(np.log(betas).tolist())


def test_schedule_is_that_of_diffusers() -> None:
    betas = DDPMScheduler(beta_schedule="squaredcos_cap_v2").betas
    torch.testing.assert_close(process(1000, 1000).greatest_log_variance.exp().float(), betas, rtol=1e-4, atol=1e-7)


# One step


@pytest.mark.parametrize(("trained", "kept"), [(20, 20), (1000, 10)])
def test_posterior_is_that_of_bayes(trained: int, kept: int) -> None:
    """q(x_{t-1} | x_t, x_0): the product of normal(s x_0, d^2) and the likelihood of x_t = sqrt(alpha) x_{t-1} + ..."""
    diffusion = process(trained, kept)
    clean, noise = torch.randn(2, 100, 1, generator=seeded(1), dtype=torch.float64)
    for step in range(1, kept):
        noisy = diffusion.add_noise(clean, noise, step)
        alpha = (diffusion.signal[step] / diffusion.signal[step - 1]) ** 2
        prior_variance = diffusion.deviation[step - 1] ** 2
        precision = 1 / prior_variance + alpha / (1 - alpha)
        mean = (diffusion.signal[step - 1] * clean / prior_variance + alpha.sqrt() * noisy / (1 - alpha)) / precision
        torch.testing.assert_close(diffusion.previous_mean(noisy, noise, step), mean)
        torch.testing.assert_close(diffusion.least_log_variance[step], -precision.log())
        torch.testing.assert_close(diffusion.greatest_log_variance[step], (1 - alpha).log())
    assert diffusion.least_log_variance[0] == diffusion.least_log_variance[1]  # log 0 otherwise


def test_last_step_returns_the_token() -> None:
    diffusion = process(20, 5)
    clean, noise = torch.randn(2, 10, 3, generator=seeded(2), dtype=torch.float64)
    torch.testing.assert_close(diffusion.previous_mean(diffusion.add_noise(clean, noise, 0), noise, 0), clean)


@pytest.mark.parametrize("kept", [1000, 100, 7])
def test_steps_agree_with_diffusers(kept: int) -> None:
    """Mean, interpolated variance and added noise of `DDPMScheduler.step`; its tables are float32."""
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", variance_type="learned_range", clip_sample=False, timestep_spacing="linspace"
    )
    scheduler.set_timesteps(kept)
    diffusion = process(1000, kept)
    assert torch.equal(scheduler.timesteps.flip(0), diffusion.steps)
    noisy, predicted, v = torch.randn(3, 6, 3, generator=seeded(3), dtype=torch.float64)
    for step in [0, 1, kept // 2, kept - 2]:
        # randn_tensor draws from the generator what the next line repeats.
        output = torch.cat([predicted, v], dim=1)
        theirs = scheduler.step(output, int(diffusion.steps[step]), noisy, generator=seeded(step)).prev_sample
        added = torch.randn(6, 3, generator=seeded(step), dtype=torch.float64) if step > 0 else torch.zeros(6, 3)
        deviation = torch.exp(diffusion.previous_log_variance(v, step) / 2)
        ours = diffusion.previous_mean(noisy, predicted, step) + deviation * added
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# Variational bound


def test_bound_is_zero_where_the_model_knows_the_token() -> None:
    diffusion = process(20, 20)
    step = torch.arange(1, 20).view(1, -1)
    zeros, v = torch.zeros(1, 19, 3, dtype=torch.float64), -torch.ones(1, 19, 3, dtype=torch.float64)
    bound = diffusion.variational_bound(zeros, v, zeros[0], step)
    torch.testing.assert_close(bound, torch.zeros_like(bound))


def test_bound_is_the_divergence_in_bits() -> None:
    """Against torch.distributions, with the model's mean from its prediction of the token (Ho et al., eq. 7)."""
    diffusion = process(20, 20)
    step = torch.arange(1, 20)
    clean, noise, predicted, v = torch.randn(4, 19, 3, generator=seeded(4), dtype=torch.float64)
    noisy = diffusion.add_noise(clean, noise, step)

    def previous(noise_in_it: Tensor, log_variance: Tensor) -> Normal:
        token = (noisy - diffusion.deviation[step, None] * noise_in_it) / diffusion.signal[step, None]
        alpha_bar, before = diffusion.signal[step, None] ** 2, diffusion.signal[step - 1, None] ** 2
        alpha = alpha_bar / before
        mean = before.sqrt() * (1 - alpha) * token + alpha.sqrt() * (1 - before) * noisy
        return Normal(mean / (1 - alpha_bar), torch.exp(log_variance / 2))

    true = previous(noise, diffusion.least_log_variance[step, None])
    model = previous(predicted, diffusion.previous_log_variance(v, step))
    expected = kl_divergence(true, model).mean(dim=-1) / math.log(2)
    torch.testing.assert_close(diffusion.variational_bound(predicted - noise, v, clean, step), expected)


def test_decoder_is_the_probability_of_a_bin() -> None:
    """Against scipy's normal; the approximate distribution function is right to 3e-4, so are probabilities to 6e-4."""
    tokens = torch.tensor([-1.0, -0.9995, -0.5, 0.0, 0.3, 0.9995, 1.7], dtype=torch.float64)
    mean, deviation = 0.2, 0.4
    upper, lower = (stats.norm.cdf((tokens.numpy() + half - mean) / deviation) for half in (1 / 255, -1 / 255))
    expected = np.where(tokens < -0.999, upper, np.where(tokens > 0.999, 1 - lower, upper - lower))
    log_deviation = torch.full_like(tokens, math.log(deviation))
    assert discretised_log_likelihood(tokens, tokens - mean, log_deviation).exp().numpy() == pytest.approx(
        expected, abs=6e-4
    )


def test_decoder_bins_fill_the_line() -> None:
    tokens = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_deviation = torch.full_like(tokens, math.log(0.4))
    assert discretised_log_likelihood(tokens, tokens - 0.2, log_deviation).exp().sum().item() == pytest.approx(1)


def test_step_zero_takes_the_decoder() -> None:
    diffusion = process(20, 20)
    tokens, error, v = 0.5 * torch.randn(3, 5, 2, generator=seeded(5), dtype=torch.float64)
    bound = diffusion.variational_bound(error, v, tokens, torch.zeros(5, dtype=torch.int64))
    likelihood = discretised_log_likelihood(
        tokens, diffusion.removal[0] * error, diffusion.previous_log_variance(v, 0) / 2
    )
    torch.testing.assert_close(bound, -likelihood.mean(dim=-1) / math.log(2))


def test_divergence_and_decoder_gradients_against_finite_differences() -> None:
    difference, log_variance = torch.randn(2, 4, 3, generator=seeded(11), dtype=torch.float64)
    least = torch.tensor(-1.0, dtype=torch.float64)
    log_variance.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gaussian_divergence(difference, least, x), (log_variance,))
    assert torch.autograd.gradcheck(
        lambda x: discretised_log_likelihood(2 * difference, difference, x), (log_variance,)
    )
