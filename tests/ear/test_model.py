"""Laws of masking, the trunk, the generator and sampling."""

import itertools

import pytest
import torch

from ear.config import load_config
from ear.config.schema import RunConfig, SamplingConfig
from ear.data import load_dataset, to_uint8, to_unit_range
from ear.model import ImageModel, build_model
from ear.model.masking import cosine_schedule, mask_from_orders, masked_count, random_orders, sample_mask_ratio
from ear.random import stream_generator
from ear.sampling import generate, image_randomness
from ear.sampling.guidance import guidance_scales
from ear.tokenizers import fitted_tokenizer

TOKENS, TOKEN_DIM = 16, 4


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return load_config("digits")


@pytest.fixture
def model(config: RunConfig) -> ImageModel:
    """With every weight drawn at random: as initialised, the generator answers 0 whatever it is given."""
    model = build_model(config, TOKENS, TOKEN_DIM, classes=10).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_tokenizer_is_exactly_inverted(config: RunConfig) -> None:
    dataset = load_dataset(config.data)
    tokenizer = fitted_tokenizer(config, dataset)
    tokens = tokenizer.encode(to_unit_range(dataset.train.images))
    assert tokens.shape == (1297, TOKENS, TOKEN_DIM)
    assert torch.equal(to_uint8(tokenizer.decode(tokens)), dataset.train.images)
    torch.testing.assert_close(tokens.mean((0, 1)), torch.zeros(TOKEN_DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std((0, 1)), torch.ones(TOKEN_DIM), atol=1e-4, rtol=0)


def test_orders_are_permutations_and_masks_their_beginnings() -> None:
    orders = random_orders(50, TOKENS, stream_generator(0, "test"))
    assert torch.equal(orders.sort(dim=1).values, torch.arange(TOKENS).expand(50, -1))
    assert len({tuple(order.tolist()) for order in orders}) == 50
    mask = mask_from_orders(orders, 5)
    assert torch.equal(mask.sum(dim=1), torch.full((50,), 5))
    assert mask.gather(1, orders[:, :5]).all()


def test_mask_ratio_is_a_truncated_normal() -> None:
    """Its mean is 1 - std sqrt(2/pi) (1 - exp(-d^2/2)) / erf(d/sqrt(2)), d = 0.3/0.25: 0.864 (half-normal, cut)."""
    generator = stream_generator(0, "ratios")
    ratios = torch.tensor([sample_mask_ratio(0.7, 0.25, generator) for _ in range(20_000)])
    assert ratios.min() >= 0.7
    assert ratios.max() <= 1
    d = torch.tensor(1.2)
    mean = 1 - 0.25 * (2 / torch.pi) ** 0.5 * (1 - torch.exp(-(d**2) / 2)) / torch.erf(d / 2**0.5)
    assert abs(ratios.mean() - mean) < 4 * ratios.std() / 20_000**0.5


def test_masked_count_rounds_up() -> None:
    assert [masked_count(16, ratio) for ratio in (0.7, 0.75, 1.0)] == [12, 12, 16]


@pytest.mark.parametrize(("tokens", "steps"), [(16, 1), (16, 8), (16, 16), (256, 64), (256, 256)])
def test_cosine_schedule_predicts_every_token_once(tokens: int, steps: int) -> None:
    counts = cosine_schedule(tokens, steps)
    assert (counts[0], counts[-1], len(counts)) == (tokens, 0, steps + 1)
    assert all(before > after for before, after in itertools.pairwise(counts))


def test_guidance_schedules() -> None:
    assert guidance_scales([16, 8, 1, 0], 3.0, "linear") == [2.0, 1 + 2 * 15 / 16, 1 + 2 * 15 / 16]
    assert guidance_scales([16, 8, 0], 3.0, "constant") == [3.0, 3.0]


@torch.no_grad()
def test_masked_tokens_have_no_influence_and_unmasked_ones_do(model: ImageModel) -> None:
    tokens = torch.randn(2, TOKENS, TOKEN_DIM, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(2, TOKENS, dtype=torch.bool)
    mask[:, :10] = True
    embedding = model.trunk.embed_classes(torch.tensor([3, 4]))
    orders = torch.arange(TOKENS).expand(2, -1)
    z = model.trunk(tokens, mask, embedding, orders)
    other_masked, other_known = tokens.clone(), tokens.clone()
    other_masked[:, :10] += 1
    other_known[:, 12] += 1
    assert torch.equal(model.trunk(other_masked, mask, embedding, orders), z)
    assert ((model.trunk(other_known, mask, embedding, orders) - z).abs().amax(dim=2) > 0).all()


@torch.no_grad()
def test_permuting_the_batch_permutes_the_result(model: ImageModel) -> None:
    orders, noise = image_randomness(model, TOKENS, 0, range(4), SamplingConfig())
    labels, order = torch.tensor([1, 2, 3, 4]), torch.tensor([2, 0, 3, 1])
    settings = SamplingConfig(steps=8, cfg=2.0)
    tokens = generate(model, labels, orders, noise, settings, TOKEN_DIM)
    permuted = generate(model, labels[order], orders[order], noise[order], settings, TOKEN_DIM)
    torch.testing.assert_close(permuted, tokens[order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("steps", "cfg"), [(1, 1.0), (5, 2.0), (8, 2.0), (16, 1.0)])
def test_static_shapes_change_nothing(model: ImageModel, steps: int, cfg: float) -> None:
    orders, noise = image_randomness(model, TOKENS, 0, range(4), SamplingConfig())
    labels, settings = torch.tensor([1, 2, 3, 4]), SamplingConfig(steps=steps, cfg=cfg)
    tokens = generate(model, labels, orders, noise, settings, TOKEN_DIM)
    static = generate(model, labels, orders, noise, settings, TOKEN_DIM, static_shapes=True)
    torch.testing.assert_close(static, tokens, rtol=1e-4, atol=1e-4)


def test_groups_with_their_own_mask_ratio_add_up(model: ImageModel) -> None:
    """The loss of two groups in one pass is the sum of each group's alone: what masks one does not reach the other."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randn(5, TOKENS, TOKEN_DIM, generator=generator)
    labels, orders = torch.tensor([1, 2, 3, 4, 5]), random_orders(5, TOKENS, generator)
    dropped = torch.tensor([True, False, False, False, True])
    groups = [(2, 12), (3, 15)]
    noises = [model.rule.training_noise(images * masked, generator) for images, masked in groups]

    def loss(images: slice, masked: list[tuple[int, int]], noise: torch.Tensor) -> torch.Tensor:
        return model(
            tokens[images],
            labels[images],
            orders=orders[images],
            masked=masked,
            dropped=dropped[images],
            noise=noise,
            train_temperature=0.9,
        )

    together = loss(slice(5), groups, torch.cat(noises, dim=1))
    alone = loss(slice(2), groups[:1], noises[0]) + loss(slice(2, 5), groups[1:], noises[1])
    torch.testing.assert_close(together, alone)


def test_an_image_does_not_depend_on_its_batch(model: ImageModel) -> None:
    orders, noise = image_randomness(model, TOKENS, 7, range(6), SamplingConfig())
    later_orders, later_noise = image_randomness(model, TOKENS, 7, range(4, 6), SamplingConfig())
    assert torch.equal(orders[4:], later_orders)
    assert torch.equal(noise[4:], later_noise)


@torch.no_grad()
def test_temperature_one_and_guidance_one_change_nothing(model: ImageModel) -> None:
    generator = torch.Generator().manual_seed(2)
    z, z_null = torch.randn(2, 5, 48, generator=generator)
    noise = model.rule.sampling_noise(5, generator, SamplingConfig())
    plain = model.rule.sample(z, noise)
    assert torch.equal(model.rule.sample(z, noise, infer_temperature=1.0), plain)
    torch.testing.assert_close(model.rule.sample(z, noise, z_null=z_null, cfg=1.0), plain)
    assert not torch.allclose(model.rule.sample(z, noise, infer_temperature=0.5), plain)
    assert not torch.allclose(model.rule.sample(z, noise, z_null=z_null, cfg=2.0), plain)


@torch.no_grad()
def test_guidance_of_two_conditions_is_their_extrapolation(model: ImageModel) -> None:
    generator = torch.Generator().manual_seed(3)
    z, z_null = torch.randn(2, 5, 48, generator=generator)
    noise = model.rule.sampling_noise(5, generator, SamplingConfig())
    expected = model.rule.sample(2.5 * z - 1.5 * z_null, noise)
    torch.testing.assert_close(model.rule.sample(z, noise, z_null=z_null, cfg=2.5), expected, rtol=1e-4, atol=1e-4)


def test_the_untrained_generator_answers_zero(config: RunConfig) -> None:
    model = build_model(config, TOKENS, TOKEN_DIM, classes=10).eval()
    generator = torch.Generator().manual_seed(4)
    noise = model.rule.sampling_noise(5, generator, SamplingConfig())
    tokens = model.rule.sample(torch.randn(5, 48, generator=generator), noise)
    assert torch.equal(tokens, torch.zeros(5, TOKEN_DIM))
