"""This process: the code that it runs, its CPUs and device, the processes that it works with, how it is interrupted."""
