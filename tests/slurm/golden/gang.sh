#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --constraint='a100|h100'
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --gpus-per-node=a100:4
#SBATCH --job-name=ear-digits
#SBATCH --mail-type=END
#SBATCH --mem=123392M
#SBATCH --nice=100
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --requeue
#SBATCH --reservation=deadline
#SBATCH --signal=USR2@300
#SBATCH --time=720

# setup
module load cuda
source env.sh
pickle=FOLDER/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}_submitted.pkl
if [ -e "$pickle" ]; then rm -f "$pickle.save_tmp"
elif [ -e "$pickle.save_tmp" ]; then mv "$pickle.save_tmp" "$pickle"; fi

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output FOLDER/%j_%t_log.out --cpus-per-task=32 --kill-on-bad-exit=1 env PYTHONPATH=CODE${PYTHONPATH:+:$PYTHONPATH} PYTHON -P -u -m submitit.core._submit FOLDER


# teardown
code=$?
case $code in 0|1|2|75|130|255) exit $code;; esac
echo "A task was killed or lost (srun: exit code $code). The job is requeued."
scontrol requeue $SLURM_JOB_ID
exit $code