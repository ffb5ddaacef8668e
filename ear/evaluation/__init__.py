"""Evaluation: features of generated and real images, and the metrics that compare them."""

from ear.evaluation.evaluate import Evaluation, evaluate, load_evaluation, prepare

__all__ = ["Evaluation", "evaluate", "load_evaluation", "prepare"]
