"""Evaluation: features of generated and real images, and the metrics that compare them.

Exports nothing, so that reading a result (`ear.evaluation.result`) does not import what made it.
"""
