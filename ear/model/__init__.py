"""The model: a masked-autoregressive transformer whose outputs condition the head of a scoring rule."""

from ear.model.image_model import ImageModel, build_model, empty_model
from ear.model.masking import cosine_schedule, mask_from_orders, random_orders

__all__ = ["ImageModel", "build_model", "cosine_schedule", "empty_model", "mask_from_orders", "random_orders"]
