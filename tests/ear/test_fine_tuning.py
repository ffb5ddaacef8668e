"""training.initial_checkpoint: what a model takes from a checkpoint that fits it in part."""

import warnings
from pathlib import Path

import pytest
import torch
from test_convert import TINY, RandomTokens
from torch import Tensor

from ear.config import RunConfig
from ear.config.loading import validate
from ear.convert import from_official
from ear.errors import UserError
from ear.model import build_model
from ear.store.keys import stage_keys
from ear.training.checkpoint import CheckpointHeader, load_header, load_part, save_checkpoint
from ear.training.trainer import Trainer

CLASSES = "trunk.class_embedding.weight"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return from_official(TINY, tmp_path / "ours")


def tuning(checkpoint: Path, **changes: object) -> RunConfig:
    """Two steps from the checkpoint, with other values of some fields, as `section__field`."""
    values = load_header(checkpoint).config.model_dump()
    stage = {"steps": 2, "learning_rate_per_256": 7e-5}
    values["training"] |= {"batch_size": 4, "stages": [stage], "initial_checkpoint": str(checkpoint)}
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if field:
            values[section][field] = value
        else:
            values[section] = value
    return validate(RunConfig, values, "tuning")


def weights(config: RunConfig) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in Trainer(config, RandomTokens(config)).model.state_dict().items()}


@pytest.mark.parametrize("classes", [3, 25])
def test_another_number_of_classes_starts_new_embeddings_and_says_so(checkpoint: Path, classes: int) -> None:
    config, before = tuning(checkpoint, data__classes=classes, seed=5), load_part(checkpoint, "ema")
    said = (
        rf"has 10 classes, the data {classes}: the class embeddings \(trunk\.class_embedding\.weight\) are drawn from"
    )
    with pytest.warns(UserWarning, match=rf"{said} normal\(0, 0\.02\) with seed 5"):
        found = weights(config)
    tokens = RandomTokens(config)
    fresh = build_model(config, tokens.tokenizer.tokens, tokens.tokenizer.token_dim, classes).state_dict()
    assert torch.equal(found[CLASSES], fresh[CLASSES])
    assert found[CLASSES].std() == pytest.approx(0.02, rel=0.2)
    assert all(torch.equal(found[name], before[name]) for name in before if name != CLASSES)
    with pytest.warns(UserWarning, match="with seed 6"):
        assert not torch.equal(weights(tuning(checkpoint, data__classes=classes, seed=6))[CLASSES], found[CLASSES])
    with pytest.warns(UserWarning, match="are drawn from"):
        trainer = Trainer(config, RandomTokens(config))
    trainer.advance()
    assert trainer.finished
    assert trainer.diverged_at is None


def test_the_same_number_of_classes_says_nothing(checkpoint: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = weights(tuning(checkpoint))
    assert torch.equal(found[CLASSES], load_part(checkpoint, "ema")[CLASSES])


def test_keys_cover_what_new_embeddings_come_from(checkpoint: Path) -> None:
    """The checkpoint's content, the number of classes, the seed."""
    keys = [
        stage_keys(tuning(checkpoint, **changes), "data")
        for changes in ({}, {"data__classes": 3}, {"data__classes": 4}, {"data__classes": 3, "seed": 1})
    ]
    parts = {part: load_part(checkpoint, part) for part in ("model", "ema")}
    parts["ema"]["trunk.mask_token"] += 1
    config = tuning(checkpoint, data__classes=3)
    save_checkpoint(checkpoint, load_header(checkpoint), parts)
    keys.append(stage_keys(config, "data"))
    assert len(set(keys)) == 5


def test_other_differences_are_named(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"trunk\.token_embedding\.bias is \(32,\), not \(48,\)"):
        weights(tuning(checkpoint, model__width=48, data__classes=3))
    with pytest.raises(UserError, match=r"missing trunk\.blocks\.2"):
        weights(tuning(checkpoint, model__depth=3))


def test_other_tokens_are_a_warning(checkpoint: Path) -> None:
    with pytest.warns(UserWarning, match=r"trained on other tokens: tokenizer\.scale 0\.2325 \(here 0\.5\)"):
        weights(tuning(checkpoint, tokenizer__scale=0.5))
    header = load_header(checkpoint)
    parts = {part: load_part(checkpoint, part) for part in ("model", "ema")}
    save_checkpoint(checkpoint, CheckpointHeader(header.config, 1, "", tokenizer_hash="one"), parts)
    config = tuning(checkpoint)
    tokens = RandomTokens(config)
    tokens.tokenizer_hash = "other"
    with pytest.warns(UserWarning, match="trained on other tokens: another autoencoder's latents"):
        Trainer(config, tokens)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda _: TINY, r"is a file of torch\.save, .* `ear convert"),
        (lambda path: path.parent, r"is a folder: give the file in it"),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_named(checkpoint: Path, wrong: object, message: str) -> None:
    config = tuning(checkpoint, training__initial_checkpoint=str(wrong(checkpoint)))  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        weights(config)


def test_weights_that_are_not_finite_are_refused_and_not_a_divergence(checkpoint: Path) -> None:
    parts = {part: load_part(checkpoint, part) for part in ("model", "ema")}
    parts["ema"]["rule.generator.output.bias"][1] = float("nan")
    save_checkpoint(checkpoint, load_header(checkpoint), parts)
    with pytest.raises(UserError, match=r"ema, has weights that are NaN or infinite: rule\.generator\.output\.bias"):
        weights(tuning(checkpoint))
