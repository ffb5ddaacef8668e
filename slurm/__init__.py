"""SLURM support through submitit: profiles, submission, and what runs in a job (supervision, message board, Ray)."""
