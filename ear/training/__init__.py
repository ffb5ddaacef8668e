"""Training: the loop, its parts, and the callbacks around it.

Exports nothing, so that reading a curve (`ear.training.history`) does not import the loop.
"""
