"""The private parts of submitit that EAR uses. Tested with submitit 1.5.4; pyproject.toml requires submitit < 2."""

import submitit


def requeue_this_job() -> None:
    """Requeues the job that this process runs in; submitit has no public call for it.

    Raises:
        CalledProcessError: SLURM refuses.
        TimeoutExpired: SLURM does not answer within 60 s.
    """
    submitit.JobEnvironment()._requeue(0)


def script_text(executor: submitit.SlurmExecutor, members: int = 1) -> str:
    """Returns the sbatch script that submitit would submit, of an array if there are several `members`.

    submitit writes the script only as part of a submission.
    """
    if members > 1:
        executor.parameters["map_count"] = members  # as `submit_array` does
    return executor._make_submission_file_text(executor._submitit_command_str, "dry-run")
