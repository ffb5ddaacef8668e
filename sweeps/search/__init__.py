"""Searching a space with Optuna, instead of trying all of its points."""
