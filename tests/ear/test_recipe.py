"""The shipped ImageNet configurations are the official commands (README and defaults of the authors' public code, as
../../docs/imagenet.md lists them), and cost what they cost."""

from pathlib import Path

import pytest

from ear.config import RunConfig, load_config
from ear.config.schema import EnergyConfig
from ear.cost import Cost, cost
from ear.training.schedule import learning_rate

MODELS = {
    # --model's width, depth, heads; --scoreloss_w, --scoreloss_d
    "base": (768, 24, 12, 1024, 6),
    "large": (1024, 32, 16, 1280, 8),
    "huge": (1280, 40, 16, 1536, 12),
}


@pytest.fixture(params=list(MODELS))
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_of(size: str) -> RunConfig:
    return load_config(f"imagenet256_{size}")


def test_the_model_is_the_official_one(size: str) -> None:
    config = config_of(size)
    assert isinstance(config.scoring, EnergyConfig)
    generator, model = config.scoring.generator, config.model
    assert (model.width, model.depth, model.heads, generator.width, generator.depth) == MODELS[size]
    assert (model.mlp_ratio, model.buffer_tokens, generator.noise_channels) == (4, 64, 64)
    assert (model.attention_dropout, model.projection_dropout) == (0.1, 0.1)


def test_two_pairs_of_samples_a_position(size: str) -> None:
    """--score_batch_mul 2: two independent pairs."""
    config = config_of(size)
    assert isinstance(config.scoring, EnergyConfig)
    assert (config.scoring.samples, config.scoring.alpha) == (4, 1.0)


def test_stages_are_the_official_commands(size: str) -> None:
    """--epochs 750 --blr 1e-4 --train_temperature 1.0; then --epochs 800 --blr 7e-5 --train_temperature 0.99."""
    config = config_of(size)
    stages = [(stage.epochs, stage.learning_rate_per_256, stage.train_temperature) for stage in config.training.stages]
    assert stages == [(750, 1e-4, 1.0), (50, 7e-5, 0.99)]
    # 32 images a GPU on 32 GPUs, 2 accumulation steps; absolute rate = blr * 2048/256.
    assert config.training.batch_size == 2048
    assert config.training.mask_group == 32
    first = config.stage_steps[0]
    assert learning_rate(config, first - 1) == pytest.approx(8e-4)
    assert learning_rate(config, first) == pytest.approx(5.6e-4)


def test_the_warm_up_is_linear_over_100_epochs(size: str) -> None:
    """Theirs at the u-th update (from 0) of an epoch of 1,251 iterations, two an update: (2u + 1)/1251/100."""
    config = config_of(size)
    for update in (0, 1000, 30_000, 60_000):
        epoch, within = divmod(update, 625)
        theirs = 8e-4 * (epoch + (2 * within + 1) / 1251) / 100
        assert learning_rate(config, update) == pytest.approx(theirs, rel=2e-3, abs=1e-8)
    assert learning_rate(config, 100 * 626) == pytest.approx(8e-4)


def test_what_surrounds_the_loss_is_official(size: str) -> None:
    config = config_of(size)
    optimizer, training = config.optimizer, config.training
    assert (optimizer.betas, optimizer.weight_decay, optimizer.generator_lr_scale) == ((0.9, 0.95), 0.02, 0.25)
    assert (optimizer.clip_norm, optimizer.ema_decay) == (3.0, 0.9999)
    assert (training.label_drop, training.mask_ratio_min, training.mask_ratio_std) == (0.1, 0.7, 0.25)
    assert (training.schedule, config.execution.precision) == ("constant", "bfloat16")


def test_evaluation_is_the_official_command(size: str) -> None:
    """--num_images 50000 --num_iter 64 --cfg 3.0 --cfg_schedule linear --infer_temperature 0.7."""
    config = config_of(size)
    sampling, evaluation = config.sampling, config.evaluation
    assert (sampling.steps, sampling.cfg, sampling.cfg_schedule, sampling.infer_temperature) == (64, 3.0, "linear", 0.7)
    assert (evaluation.images, evaluation.extractor) == (50_000, "inception-v3-compat")


def test_the_three_differ_in_size_alone() -> None:
    rest = []
    for size in MODELS:
        values = config_of(size).model_dump()
        del values["model"], values["scoring"]["generator"], values["execution"]["micro_batch"]
        rest.append(values)
    assert rest[0] == rest[1] == rest[2]


def cost_of(size: str) -> Cost:
    """Counted once for all tests, but for sampling, whose 64 steps take longest to count."""
    return cost(load_config(f"imagenet256_{size}", ["sampling.steps=1"]))


@pytest.mark.parametrize(
    ("size", "parameters", "head"),
    [("base", 205_608_720, 34_469_904), ("large", 474_755_088, 70_302_736), ("huge", 937_314_576, 148_500_496)],
)
def test_the_models_have_the_official_sizes(size: str, parameters: int, head: int) -> None:
    counted = cost_of(size)
    assert (counted.parameters, counted.head_parameters) == (parameters, head)
    assert (counted.tokens, counted.token_dim) == (256, 16)


def test_the_documentation_has_the_costs_counted() -> None:
    """The table of docs/imagenet.md, row by row."""
    text = (Path(__file__).parents[2] / "docs" / "imagenet.md").read_text()
    for size in MODELS:
        counted = cost_of(size)
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `imagenet256_{size}` |")]
        assert f"{counted.parameters:,} ({counted.head_parameters:,})" in row
        assert f"{counted.training_hours():,.0f}" in row
