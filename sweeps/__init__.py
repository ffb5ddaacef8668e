"""Sweeps: YAML -> plan -> Ray Tune trials -> the store, tracked in MLflow."""
