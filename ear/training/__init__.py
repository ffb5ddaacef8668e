"""Training: the loop, what it calls, and what happens around it.

Exports nothing, so that reading a curve (`ear.training.history`) does not import the loop.
"""
