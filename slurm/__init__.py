"""SLURM support through submitit: profiles, submission, and what runs inside a job (supervision, rendezvous, Ray)."""
