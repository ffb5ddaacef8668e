"""Which classes are sampled: as many images of each as can be, and of all where there are fewer images than classes."""

import pytest
import torch

from ear.config import load_config
from ear.config.hashed import EVALUATED, hashed_values
from ear.config.hashing import digest
from ear.sampling import balanced_labels
from ear.store import RECIPE_VERSION
from ear.store.keys import KEY_LENGTH, evaluation_key


def test_labels_are_balanced() -> None:
    assert balanced_labels(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(balanced_labels(50_000, 1000).bincount(), torch.full((1000,), 50))


@pytest.mark.parametrize(("images", "classes"), [(20, 40), (39, 40), (21, 1000)])
def test_few_images_are_spread_over_the_classes(images: int, classes: int) -> None:
    labels = balanced_labels(images, classes)
    assert len(labels) == images
    gaps = torch.cat([labels, torch.tensor([classes])]).diff()
    assert set(gaps.tolist()) <= {classes // images, -(-classes // images)}  # at least 1: no two are of one class


def test_only_what_gets_other_labels_gets_another_key() -> None:
    def keys(images: int) -> tuple[str, str]:
        config = load_config("imagenet256_base", [f"evaluation.images={images}"])
        earlier = digest(
            [RECIPE_VERSION, "evaluation", "training", hashed_values(config, EVALUATED), "reference", None]
        )
        return evaluation_key("training", config, "reference"), earlier[:KEY_LENGTH]

    key, earlier = keys(1000)
    assert key == earlier
    key, earlier = keys(999)
    assert key != earlier
