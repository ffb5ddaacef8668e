"""The energy score: literal values, closed forms, propriety, gradients."""

import math

import pytest
import torch
from torch import Tensor

from ear.scoring.energy_score import fair_energy_score, powered_distance

ALPHAS = [1.0, 1.25, 1.5, 1.75, 2.0]


def test_literal_values() -> None:
    """Samples (0, 0) and (3, 4), target (3, 0): distances 3, 4 and 5, by hand."""
    samples = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]])
    target = torch.tensor([[3.0, 0.0]])
    assert fair_energy_score(samples, target, alpha=1.0).item() == pytest.approx((3 + 4) / 2 - 5 / 2)
    assert fair_energy_score(samples, target, alpha=2.0).item() == pytest.approx((9 + 16) / 2 - 25 / 2)
    assert fair_energy_score(samples, target, alpha=1.0, train_temperature=0.9).item() == pytest.approx(3.5 - 0.45 * 5)


def test_paper_loss_is_twice_the_fair_score_at_two_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    x1, x2, y = torch.randn(3, 100, 4, generator=generator, dtype=torch.float64)
    for alpha in ALPHAS:
        loss = (x1 - y).norm(dim=1) ** alpha + (x2 - y).norm(dim=1) ** alpha - 0.99 * (x1 - x2).norm(dim=1) ** alpha
        score = fair_energy_score(torch.stack([x1, x2]), y, alpha=alpha, train_temperature=0.99)
        torch.testing.assert_close(2 * score, loss)


def test_more_samples_follow_the_formula_of_pairs() -> None:
    samples = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.zeros(7, 3, dtype=torch.float64)
    pairs = sum((samples[j] - samples[k]).norm(dim=1) ** 1.5 for j in range(5) for k in range(5) if j != k)
    expected = (samples.norm(dim=2) ** 1.5).mean(dim=0) - pairs / (2 * 5 * 4)
    torch.testing.assert_close(fair_energy_score(samples, target, alpha=1.5), expected)


def test_closed_form_for_gaussians() -> None:
    """CRPS of normal(0, 1) at y: y (2 Phi(y) - 1) + 2 phi(y) - 1/sqrt(pi) (Gneiting & Raftery 2007, eq. 21)."""
    draws = 400_000
    samples = torch.randn(2, draws, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for y in (0.0, 0.7, -2.0):
        score = fair_energy_score(samples, torch.full((draws, 1), y, dtype=torch.float64), alpha=1.0)
        cdf = 0.5 * (1 + math.erf(y / math.sqrt(2)))
        density = math.exp(-y * y / 2) / math.sqrt(2 * math.pi)
        closed = y * (2 * cdf - 1) + 2 * density - 1 / math.sqrt(math.pi)
        assert score.mean().item() == pytest.approx(closed, abs=5 * score.std().item() / math.sqrt(draws))


def expected_score(scale: float, shift: float, alpha: float) -> tuple[float, float]:
    """Mean and standard error of the score of normal(shift, scale) against standard normal observations in 2-D."""
    generator = torch.Generator().manual_seed(3)
    draws = 200_000
    x1, x2, y = torch.randn(3, draws, 2, generator=generator, dtype=torch.float64)
    score = fair_energy_score(torch.stack([x1, x2]) * scale + shift, y, alpha=alpha)
    return score.mean().item(), score.std().item() / math.sqrt(draws)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 1.75])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.5), (1.5, 0.0), (0.5, 0.0)])
def test_strictly_proper_below_two(alpha: float, scale: float, shift: float) -> None:
    truth, truth_error = expected_score(1.0, 0.0, alpha)
    other, other_error = expected_score(scale, shift, alpha)
    assert other - truth > 4 * math.hypot(truth_error, other_error)


def test_at_two_only_the_mean_counts() -> None:
    truth, truth_error = expected_score(1.0, 0.0, 2.0)
    narrow, narrow_error = expected_score(0.5, 0.0, 2.0)
    shifted, shifted_error = expected_score(1.0, 0.5, 2.0)
    assert abs(narrow - truth) < 4 * math.hypot(truth_error, narrow_error)
    assert shifted - truth > 4 * math.hypot(truth_error, shifted_error)


@pytest.mark.parametrize("alpha", [0.75, *ALPHAS])
def test_gradient_against_finite_differences(alpha: float) -> None:
    generator = torch.Generator().manual_seed(4)
    samples = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 2, generator=generator, dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        return fair_energy_score(x, target, alpha=alpha, train_temperature=0.9)

    assert torch.autograd.gradcheck(score, (samples,))


@pytest.mark.parametrize(("alpha", "epsilon"), [(alpha, 0.0) for alpha in ALPHAS] + [(0.5, 1e-6)])
def test_gradient_is_finite_where_samples_coincide(alpha: float, epsilon: float) -> None:
    x = torch.zeros(3, 2, requires_grad=True)
    powered_distance(x, alpha, epsilon).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_gradient_below_one_grows_towards_coincidence_and_is_nan_there() -> None:
    """alpha |x|^(alpha - 1) at a distance of 1e-4; infinity times `vector_norm`'s subgradient of 0 at 0."""
    x = torch.tensor([[1e-4, 0.0], [0.0, 0.0]], requires_grad=True)
    powered_distance(x, 0.5).sum().backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx([0.5 * 1e-4**-0.5, 0.0])
    assert x.grad[1].isnan().all()


def test_four_samples_are_the_mean_over_all_pairings_of_the_official_pairs() -> None:
    """The official loss with `score_batch_mul` 2 is the mean of two pairs' losses. Averaged over the three ways to make
    two pairs of four samples it is ours: so ours has its expectation, and by Rao and Blackwell no more variance."""
    x = torch.randn(4, 5000, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    y = torch.zeros(5000, 3, dtype=torch.float64)

    def pair(one: int, other: int) -> Tensor:
        accuracy = (x[one] - y).norm(dim=1) + (x[other] - y).norm(dim=1)
        return accuracy - 0.99 * (x[one] - x[other]).norm(dim=1)

    pairings = [(pair(0, 1) + pair(2, 3)) / 2, (pair(0, 2) + pair(1, 3)) / 2, (pair(0, 3) + pair(1, 2)) / 2]
    ours = 2 * fair_energy_score(x, y, alpha=1.0, train_temperature=0.99)
    torch.testing.assert_close(ours, torch.stack(pairings).mean(dim=0))
    assert ours.var() < 0.95 * pairings[0].var()
