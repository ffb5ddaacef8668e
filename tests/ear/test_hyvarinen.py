"""The diffusion loss and its sampler: closed forms for Gaussian data, laws, a mixture learned."""

import math
from collections.abc import Callable

import pytest
import torch
from diffusion_parts import make_rule, process, seeded
from torch import Tensor, nn

from ear.config.schema import DenoiserConfig, HyvarinenConfig, SamplingConfig
from ear.errors import UserError
from ear.scoring.diffusion import (
    GaussianDiffusion,
)
from ear.scoring.hyvarinen import HyvarinenRule

# Gaussian data, whose best denoiser is known


def noise_variance(diffusion: GaussianDiffusion, scale: float) -> Tensor:
    """Var(noise | x_t) for tokens ~ normal(., scale^2): what no denoiser can know, [S]."""
    signal_variance = (diffusion.signal * scale) ** 2
    return signal_variance / (signal_variance + diffusion.deviation**2)


def best_log_variance(diffusion: GaussianDiffusion, scale: float) -> Tensor:
    """log Var(x_{t-1} | x_t) for the same tokens, by the law of total variance, [S]."""
    return torch.log(diffusion.least_log_variance.exp() + diffusion.removal**2 * noise_variance(diffusion, scale))


def best_v(diffusion: GaussianDiffusion, scale: float) -> Tensor:
    least, greatest = diffusion.least_log_variance, diffusion.greatest_log_variance
    return 2 * (best_log_variance(diffusion, scale) - least) / (greatest - least) - 1


class GaussianDenoiser(nn.Module):
    """Best for tokens ~ normal(z, scale^2), in the network's place. It knows the trained schedule, as a network would.

    `v`: a constant for all steps; without it the best for the trained schedule, not respaced.
    """

    def __init__(self, trained: int, scale: float, *, shift: float = 0.0, v: float | None = None, v_shift: float = 0):
        super().__init__()
        self.diffusion = process(trained, trained)
        self.scale, self.shift = scale, shift
        self.v = (best_v(self.diffusion, scale) if v is None else torch.full((trained,), v)) + v_shift

    def embed_time(self, steps: Tensor) -> Tensor:
        return steps.unsqueeze(-1)

    def embed_condition(self, z: Tensor) -> Tensor:
        return z

    def forward(self, noisy: Tensor, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        signal, deviation = self.diffusion.signal[time].to(noisy.dtype), self.diffusion.deviation[time].to(noisy.dtype)
        centred = noisy - signal * (condition + self.shift)
        noise = deviation * centred / ((signal * self.scale) ** 2 + deviation**2)
        return noise, self.v[time].to(noisy.dtype).expand_as(noise)


def gaussian_rule(trained: int, denoiser: nn.Module, repeats: int = 1) -> HyvarinenRule:
    config = HyvarinenConfig(diffusion_steps=trained, repeats=repeats, denoiser=DenoiserConfig(width=1, depth=1))
    rule = HyvarinenRule(config, condition_dim=2, token_dim=2)
    rule.denoiser = denoiser  # type: ignore[assignment]
    return rule


def moments_of_affine(sample: Callable[[Tensor], Tensor], steps: int) -> tuple[float, float]:
    """Exact mean and deviation of a sampler that is affine in its [N, S + 1, 1] noise: no draws, but unit vectors."""
    outputs = sample(torch.cat([torch.zeros(1, steps + 1), torch.eye(steps + 1)]).double().unsqueeze(-1)).squeeze(-1)
    return outputs[0].item(), (outputs[1:] - outputs[0]).norm().item()


@pytest.mark.parametrize(("trained", "kept"), [(1000, 1000), (1000, 100), (1000, 10), (1000, 2), (50, 50), (50, 7)])
@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (1.5, 0.5), (-0.7, 2.0)])
def test_sampler_returns_the_gaussian(trained: int, kept: int, mean: float, scale: float) -> None:
    """Best noise and variance walk back exactly, at any spacing, but for step 0, which returns the token's mean."""
    diffusion = process(trained, kept)
    v = best_v(diffusion, scale)

    def predict(noisy: Tensor, step: int) -> tuple[Tensor, Tensor]:
        signal, deviation = diffusion.signal[step], diffusion.deviation[step]
        noise = deviation * (noisy - signal * mean) / ((signal * scale) ** 2 + deviation**2)
        return noise, v[step].expand_as(noisy)

    sampled_mean, sampled_deviation = moments_of_affine(lambda noise: diffusion.sample(noise, predict), kept)
    signal, deviation = diffusion.signal[0].item(), diffusion.deviation[0].item()
    left_out = (scale * deviation) ** 2 / ((signal * scale) ** 2 + deviation**2)
    # What is left: sampling starts at normal(0, 1) and not where the data end up, at `signal[-1]` of their mean.
    tolerance = 5 * diffusion.signal[-1].item()
    assert sampled_mean == pytest.approx(mean, abs=tolerance)
    assert sampled_deviation == pytest.approx(math.sqrt(scale**2 - left_out), abs=tolerance)


def test_guidance_moves_the_mean_of_a_gaussian() -> None:
    """At equal variances the guided noise is the best for the mean null + cfg (class - null)."""
    rule = gaussian_rule(1000, GaussianDenoiser(1000, 1.0, v=1.0))

    def sample(noise: Tensor, cfg: float | Tensor) -> Tensor:
        z, z_null = torch.full((2, len(noise), 1), 0.5, dtype=torch.float64) * torch.tensor([1, -1]).view(2, 1, 1)
        return rule.sample(z, noise, z_null=z_null, cfg=cfg)

    for cfg in (1.0, 2.0, torch.tensor(3.0, dtype=torch.float64)):
        mean, deviation = moments_of_affine(lambda noise, cfg=cfg: sample(noise, cfg), 25)
        assert mean == pytest.approx(-0.5 + float(cfg), abs=1e-3)
        assert deviation == pytest.approx(1.0, abs=1e-3)


def test_temperature_scales_the_noise_of_the_steps() -> None:
    """Squared deviation of the sampled Gaussian: the start's share stays, the steps' share is scaled by its square."""
    rule = gaussian_rule(50, GaussianDenoiser(50, 1.0, v=1.0))

    def deviation(temperature: float, used: slice) -> float:
        def sample(noise: Tensor) -> Tensor:
            kept = torch.zeros_like(noise)
            kept[:, used] = noise[:, used]
            return rule.sample(torch.zeros(len(noise), 1, dtype=torch.float64), kept, infer_temperature=temperature)

        return moments_of_affine(sample, 5)[1]

    start, steps = slice(0, 1), slice(1, None)
    assert deviation(0.7, start) == pytest.approx(deviation(1.0, start))
    assert deviation(0.7, steps) == pytest.approx(0.7 * deviation(1.0, steps))
    assert deviation(0.0, steps) == 0.0


def gaussian_losses(rule: HyvarinenRule, rows: int, scale: float) -> Tensor:
    """Losses of tokens ~ normal(z, scale^2) at steps from 1 on: step 0's decoder isn't made for Gaussian tokens."""
    z = torch.randn(rows, 2, generator=seeded(6), dtype=torch.float64)
    target = z + scale * torch.randn(rows, 2, generator=seeded(7), dtype=torch.float64)
    noise = rule.training_noise(rows, seeded(8)).double()
    steps = rule.diffusion_steps
    noise[..., 0] = (1 + noise[..., 0] * (steps - 1)) / steps
    return rule.loss(z, target, noise)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_loss_of_the_best_denoiser(scale: float) -> None:
    """Var(noise | x_t) + log2(V / V_least) / 2, averaged over steps: the divergence's quadratic part cancels at V."""
    losses = gaussian_losses(gaussian_rule(50, GaussianDenoiser(50, scale), repeats=4), 20_000, scale)
    diffusion = process(50, 50)
    bits = (best_log_variance(diffusion, scale) - diffusion.least_log_variance) / (2 * math.log(2))
    expected = (noise_variance(diffusion, scale) + bits)[1:].mean().item()
    error = losses.std().item() / math.sqrt(len(losses))
    assert error < 0.01 * expected
    assert losses.mean().item() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize(
    "other",
    [
        GaussianDenoiser(50, 0.5, shift=0.1),
        GaussianDenoiser(50, 0.4),
        GaussianDenoiser(50, 0.6),
        GaussianDenoiser(50, 0.5, v_shift=1.0),
        GaussianDenoiser(50, 0.5, v_shift=-1.0),
    ],
    ids=["mean", "narrow", "wide", "variance up", "variance down"],
)
def test_proper(other: GaussianDenoiser) -> None:
    """The true distribution's denoiser beats every other in expectation, on common random numbers."""
    best = gaussian_losses(gaussian_rule(50, GaussianDenoiser(50, 0.5)), 20_000, 0.5)
    worse = gaussian_losses(gaussian_rule(50, other), 20_000, 0.5)
    difference = worse - best
    assert difference.mean() > 4 * difference.std() / math.sqrt(len(difference))


def test_only_the_denoiser_is_saved() -> None:
    rule = make_rule()
    sample_of(rule, 3)
    assert {name.split(".")[0] for name in rule.state_dict()} == {"denoiser"}


# The rule


def loss_of(rule: HyvarinenRule, rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    z, target = torch.randn(rows, 4, generator=seeded(12)), torch.randn(rows, 3, generator=seeded(13))
    return rule.loss(z.to(dtype), target.to(dtype), rule.training_noise(rows, seeded(14)).to(dtype))


def sample_of(rule: HyvarinenRule, rows: int, steps: int = 8, **settings: float) -> Tensor:
    z = torch.randn(rows, 4, generator=seeded(15))
    noise = rule.sampling_noise(rows, seeded(16), SamplingConfig(denoising_steps=steps))
    return rule.sample(z, noise, **settings)


def test_the_bound_trains_the_variance_only() -> None:
    """The output bias's gradient: for the noise that of the squared error alone, for v that of the whole loss."""
    rule = make_rule().double()
    bias = rule.denoiser.output.bias
    loss_of(rule, 6, torch.float64).mean().backward()
    assert bias.grad is not None

    noise = rule.training_noise(6, seeded(14)).double()
    z, target = torch.randn(6, 4, generator=seeded(12)).double(), torch.randn(6, 3, generator=seeded(13)).double()
    step = (noise[..., 0] * 20).long()
    noisy = process(20, 20).add_noise(target, noise[..., 1:], step)
    predicted, _ = rule.denoiser(noisy, rule.denoiser.embed_time(step), rule.denoiser.embed_condition(z))
    squared_error_gradient = 2 * (predicted - noise[..., 1:]).mean(dim=(0, 1)) / 3
    torch.testing.assert_close(bias.grad[:3], squared_error_gradient)

    for entry in range(3, 6):
        losses = []
        for change in (1e-5, -1e-5):
            with torch.no_grad():
                bias[entry] += change
                losses.append(loss_of(rule, 6, torch.float64).mean().item())
                bias[entry] -= change
        assert bias.grad[entry].item() == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6)


def test_noise_shapes_and_ranges() -> None:
    rule = make_rule(repeats=4)
    noise = rule.training_noise(10_000, seeded(17))
    assert noise.shape == (4, 10_000, 4)
    assert 0 <= noise[..., 0].min() < 1e-3
    assert 1 - 1e-3 < noise[..., 0].max() < 1
    normal = noise[..., 1:]
    assert normal.mean().item() == pytest.approx(0, abs=5 / math.sqrt(normal.numel()))
    assert normal.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / normal.numel()))
    assert rule.sampling_noise(7, seeded(18), SamplingConfig(denoising_steps=20)).shape == (7, 21, 3)


def test_greatest_level_is_within_the_schedule() -> None:
    """The greatest float32 below 1 picks the last step whatever their number."""
    below_one = torch.tensor(1.0).nextafter(torch.tensor(0.0))
    for steps in [2, 3, 20, 999, 1000, 1024, 4000, 100_003]:
        assert (below_one * steps).long().item() == steps - 1


@pytest.mark.parametrize("steps", [1, 21])
def test_steps_that_were_not_trained_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match=rf"sampling.denoising_steps: {steps}, .* between 2 and 20"):
        make_rule().sampling_noise(1, seeded(0), SamplingConfig(denoising_steps=steps))


def test_train_temperature_is_refused() -> None:
    rule = make_rule()
    with pytest.raises(AssertionError):
        rule.loss(torch.zeros(1, 4), torch.zeros(1, 3), rule.training_noise(1, seeded(0)), train_temperature=0.9)


def test_loss_is_the_mean_over_noise_levels() -> None:
    rule = make_rule()
    z, target = torch.randn(5, 4, generator=seeded(28)), torch.randn(5, 3, generator=seeded(29))
    noise = rule.training_noise(5, seeded(19))
    both = torch.stack([rule.loss(z, target, level.unsqueeze(0)) for level in noise])
    torch.testing.assert_close(rule.loss(z, target, noise), both.mean(dim=0))


def test_rows_do_not_see_each_other() -> None:
    rule = make_rule()
    z, z_null = torch.randn(2, 9, 4, generator=seeded(26))
    target = torch.randn(9, 3, generator=seeded(27))
    levels, noise = (
        rule.training_noise(9, seeded(20)),
        rule.sampling_noise(9, seeded(21), SamplingConfig(denoising_steps=8)),
    )
    losses = rule.loss(z, target, levels)
    samples = rule.sample(z, noise, z_null=z_null, cfg=2.0)
    for part in (slice(0, 4), slice(4, 9)):
        torch.testing.assert_close(rule.loss(z[part], target[part], levels[:, part]), losses[part])
        alone = rule.sample(z[part], noise[part], z_null=z_null[part], cfg=2.0)
        torch.testing.assert_close(alone, samples[part], rtol=1e-4, atol=1e-4)


def test_guidance_of_one_is_none() -> None:
    rule = make_rule()
    z, z_null = torch.randn(2, 6, 4, generator=seeded(22))
    noise = rule.sampling_noise(6, seeded(23), SamplingConfig(denoising_steps=8))
    plain = rule.sample(z, noise)
    for cfg in (1.0, torch.tensor(1.0)):
        torch.testing.assert_close(rule.sample(z, noise, z_null=z_null, cfg=cfg), plain, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(rule.sample(z, noise, z_null=z_null, cfg=2.0), plain, atol=0.1)
    torch.testing.assert_close(
        rule.sample(z, noise, z_null=z_null, cfg=torch.tensor(2.0)), rule.sample(z, noise, z_null=z_null, cfg=2.0)
    )


def test_temperature_zero_depends_on_the_start_only() -> None:
    rule = make_rule()
    z = torch.randn(5, 4, generator=seeded(30))
    noise, other = torch.randn(2, 5, 9, 3, generator=seeded(31))
    other[:, 0] = noise[:, 0]
    assert torch.equal(rule.sample(z, noise, infer_temperature=0.0), rule.sample(z, other, infer_temperature=0.0))
    assert not torch.equal(rule.sample(z, noise), rule.sample(z, other))


def test_the_last_step_adds_no_noise() -> None:
    rule = make_rule()
    z, noise = torch.randn(5, 4, generator=seeded(32)), torch.randn(5, 9, 3, generator=seeded(33))
    other = noise.clone()
    other[:, -1] = 100
    assert torch.equal(rule.sample(z, noise), rule.sample(z, other))
    other[:, -2] = 100
    assert not torch.equal(rule.sample(z, noise), rule.sample(z, other))


def test_equal_noise_gives_equal_results() -> None:
    assert torch.equal(loss_of(make_rule(), 5), loss_of(make_rule(), 5))
    assert torch.equal(sample_of(make_rule(), 5), sample_of(make_rule(), 5))


def test_training_after_sampling_in_inference_mode() -> None:
    """The tables that sampling made and kept serve backward passes, too."""
    rule, fresh = make_rule(), make_rule()
    with torch.inference_mode():
        sample_of(rule, 2, steps=20)
    for each in (rule, fresh):
        loss_of(each, 2).sum().backward()
    gradients = [[parameter.grad for parameter in each.parameters()] for each in (rule, fresh)]
    assert len(gradients[0]) > 0
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_bfloat16_products_give_float32_results() -> None:
    rule = make_rule()
    with torch.autocast("cpu", torch.bfloat16):
        loss, tokens = loss_of(rule, 6), sample_of(rule, 6)
    assert loss.dtype == tokens.dtype == torch.float32
    assert not torch.equal(loss, loss_of(rule, 6))  # the products were in bfloat16
    torch.testing.assert_close(loss, loss_of(rule, 6), rtol=0.05, atol=0)


def test_learns_a_mixture() -> None:
    """Two modes at +-(1, 1) of deviation 0.3; from another condition a single one at (1, -1), of deviation 0.1."""
    config = HyvarinenConfig(diffusion_steps=100, denoiser=DenoiserConfig(width=64, depth=2))
    rule = HyvarinenRule(config, condition_dim=2, token_dim=2)
    rule.initialise(seeded(24))
    optimizer = torch.optim.AdamW(rule.parameters(), lr=1e-2, betas=(0.9, 0.95))
    generator, rows, updates = seeded(25), 128, 700
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, updates)
    for _ in range(updates):
        kinds = torch.arange(rows) % 2
        noise = torch.randn(rows, 2, generator=generator)
        signs = torch.randint(0, 2, (rows, 1), generator=generator) * 2.0 - 1
        mixture, single = signs + 0.3 * noise, torch.tensor([1.0, -1.0]) + 0.1 * noise
        target = torch.where(kinds.unsqueeze(1) == 0, mixture, single)
        z = nn.functional.one_hot(kinds, 2).float()
        loss = rule.loss(z, target, rule.training_noise(rows, generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    draws = 2000
    noise = rule.sampling_noise(draws, generator, SamplingConfig(denoising_steps=100))
    mixture, single = (rule.sample(torch.eye(2)[kind].expand(draws, 2), noise) for kind in (0, 1))
    positive = mixture.sum(dim=1) > 0
    assert 0.45 < positive.float().mean() < 0.55
    expected = [
        (mixture[positive], (1.0, 1.0), 0.3),
        (mixture[~positive], (-1.0, -1.0), 0.3),
        (single, (1.0, -1.0), 0.1),
    ]
    # Quantiles, for a token that leaves the noise levels' range can't come back and lands far out: see the docstring of
    # `previous_mean`. After so short a training a few may.
    assert (mixture.abs().amax(dim=1) > 3).float().mean() < 0.01
    for tokens, centre, deviation in expected:
        low, median, high = tokens.quantile(torch.tensor([0.1587, 0.5, 0.8413]), dim=0)
        torch.testing.assert_close(median, torch.tensor(centre), rtol=0, atol=0.5 * deviation)
        torch.testing.assert_close((high - low) / 2, torch.full((2,), deviation), rtol=0.25, atol=0)
