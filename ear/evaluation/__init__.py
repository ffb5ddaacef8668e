"""Evaluation: features, metrics, and what they were measured with."""

from ear.evaluation.evaluate import Evaluation, evaluate, load_evaluation, prepare

__all__ = ["Evaluation", "evaluate", "load_evaluation", "prepare"]
