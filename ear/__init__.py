"""EAR: continuous autoregressive image models trained with strictly proper scoring rules.

The package holds the model and everything that one training needs. It does not import ray, mlflow, optuna or submitit.
"""

__version__ = "0.1.0"
