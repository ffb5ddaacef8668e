"""The denoising network: written out, counted, initialised, differentiated."""

import math

import pytest
import torch
from diffusion_parts import make_rule, seeded
from torch import Tensor

from ear.config.schema import DenoiserConfig, HyvarinenConfig
from ear.scoring.denoiser import Denoiser, sinusoids
from ear.scoring.hyvarinen import HyvarinenRule

# The network


def test_sinusoids() -> None:
    """Cosines first; frequencies 1, 10000^(-1/2) at four channels."""
    expected = [[1, 1, 0, 0], [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03)]]
    torch.testing.assert_close(sinusoids(torch.tensor([0.0, 3.0]), 4), torch.tensor(expected))
    assert sinusoids(torch.zeros(5)).shape == (5, 256)


def test_network_written_out() -> None:
    """Li et al.'s network from its description, in plain functions of the weights."""
    denoiser = make_rule(depth=1).denoiser.double()
    weights = {name: parameter.detach() for name, parameter in denoiser.named_parameters()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def silu(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def normalise(x: Tensor) -> Tensor:
        return (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True, correction=0) + 1e-6).sqrt()

    noisy, z = torch.randn(5, 3, generator=seeded(34)).double(), torch.randn(5, 4, generator=seeded(35)).double()
    steps = torch.arange(5)
    y = linear("time_mix", silu(linear("time_expand", sinusoids(steps.double())))) + linear("condition_embedding", z)
    x = linear("token_embedding", noisy)
    shift, scale, gate = linear("blocks.0.modulation", silu(y)).chunk(3, dim=1)
    h = (normalise(x) * weights["blocks.0.norm.weight"] + weights["blocks.0.norm.bias"]) * (1 + scale) + shift
    x = x + gate * linear("blocks.0.contract", silu(linear("blocks.0.expand", h)))
    shift, scale = linear("output_modulation", silu(y)).chunk(2, dim=1)
    expected = linear("output", normalise(x) * (1 + scale) + shift)
    outputs = denoiser(noisy, denoiser.embed_time(steps), denoiser.embed_condition(z))
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected)


def test_parameters_of_mar_base() -> None:
    """Time, condition and token embeddings, six blocks (norm, modulation, two layers), output: 35.7 million."""
    w, d, z = 1024, 16, 768
    embeddings = (256 * w + w) + (w * w + w) + (z * w + w) + (d * w + w)
    block = 2 * w + (w * 3 * w + 3 * w) + 2 * (w * w + w)
    output = (w * 2 * w + 2 * w) + (w * 2 * d + 2 * d)
    with torch.device("meta"):
        rule = HyvarinenRule(HyvarinenConfig(denoiser=DenoiserConfig(width=w, depth=6)), z, d)
    count = sum(parameter.numel() for parameter in rule.parameters())
    assert count == embeddings + 6 * block + output == 35_749_920


def test_fresh_head() -> None:
    """Outputs 0, so its loss is the noise's power plus the bound at v = 0; draws come from the generator alone."""
    rule = HyvarinenRule(HyvarinenConfig(denoiser=DenoiserConfig(width=512, depth=1)), 4, 3)
    rule.initialise(seeded(1))
    denoiser = rule.denoiser
    z, tokens = torch.randn(2, 4, generator=seeded(2)), torch.randn(2, 3, generator=seeded(3))
    outputs = denoiser(tokens, denoiser.embed_time(torch.tensor([3, 9])), denoiser.embed_condition(z))
    assert all(torch.equal(output, torch.zeros(2, 3)) for output in outputs)
    for linear in (denoiser.time_expand, denoiser.time_mix):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.02)
    limit = math.sqrt(6 / (4 + 512))  # Xavier
    assert denoiser.condition_embedding.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
    again = HyvarinenRule(HyvarinenConfig(denoiser=DenoiserConfig(width=512, depth=1)), 4, 3)
    again.initialise(seeded(1))
    for one, other in zip(rule.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_denoiser_gradient_against_finite_differences() -> None:
    denoiser: Denoiser = make_rule(width=6).denoiser.double()
    time = denoiser.embed_time(torch.tensor([1, 7])).detach()
    noisy, z = torch.randn(2, 3, generator=seeded(9)).double(), torch.randn(2, 4, generator=seeded(10)).double()

    def outputs(noisy: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return denoiser(noisy, time, denoiser.embed_condition(z))

    assert torch.autograd.gradcheck(outputs, (noisy.requires_grad_(), z.requires_grad_()))
