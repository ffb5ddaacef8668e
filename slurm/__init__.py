"""SLURM through submitit. Nothing is here yet: sweeps and training run on one machine so far."""
