#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=8
#SBATCH --job-name=ear-digits
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/%j_0_log.out
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=2880

# setup
pickle=FOLDER/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}_submitted.pkl
if [ -e "$pickle" ]; then rm -f "$pickle.save_tmp"
elif [ -e "$pickle.save_tmp" ]; then mv "$pickle.save_tmp" "$pickle"; fi

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output FOLDER/%j_%t_log.out --cpus-per-task=8 --kill-on-bad-exit=1 env PYTHONPATH=CODE${PYTHONPATH:+:$PYTHONPATH} PYTHON -P -u -m submitit.core._submit FOLDER


# teardown
code=$?
case $code in 0|1|2|75|130|255) exit $code;; esac
echo "A task was killed or lost (srun: exit code $code). The job is requeued."
scontrol requeue $SLURM_JOB_ID
exit $code