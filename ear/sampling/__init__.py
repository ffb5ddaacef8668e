"""Generating images from a trained model."""

from ear.sampling.generate import generate, image_randomness

__all__ = ["generate", "image_randomness"]
