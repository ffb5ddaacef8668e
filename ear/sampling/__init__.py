"""Generates images from a trained model."""

from ear.sampling.generate import generate, image_randomness
from ear.sampling.grid import save_grid
from ear.sampling.sampler import Sampler, balanced_labels

__all__ = ["Sampler", "balanced_labels", "generate", "image_randomness", "save_grid"]
