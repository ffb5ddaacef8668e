"""Weights from files of other programs: safe reading, parameter names, and messages on faults."""
