"""Weights from files that others wrote: read without running code, with names and faults in words."""
