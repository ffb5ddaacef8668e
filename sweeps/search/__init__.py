"""Searches a space with Optuna instead of running a full grid."""
