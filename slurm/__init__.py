"""SLURM through submitit: profiles, submission, and what runs in a job: supervision, rendezvous, Ray."""
