"""Turns a sweep's MLflow runs into tables, figures and findings."""
