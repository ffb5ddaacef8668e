"""Evaluation: features, metrics, and what they were measured with.

Exports nothing, so that reading a result (`ear.evaluation.result`) does not import what made it.
"""
