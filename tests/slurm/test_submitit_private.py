"""What EAR uses of submitit's private parts is there and does what it did."""

from pathlib import Path

import pytest
import submitit
from faked import FakedSlurm, fake_slurm

from slurm.submitit_private import requeue_this_job, script_text


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakedSlurm:
    return fake_slurm(tmp_path, monkeypatch)


def test_requeue_is_one_call_of_scontrol(slurm: FakedSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"JOB_ID": "41", "JOB_NODELIST": "n1", "NTASKS": "1", "JOB_NUM_NODES": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    slurm.says("scontrol")
    requeue_this_job()
    assert slurm.calls("scontrol") == ["requeue 41"]


@pytest.mark.parametrize(("members", "array"), [(1, False), (3, True)])
def test_the_script_is_that_of_a_submission(members: int, array: bool, slurm: FakedSlurm, tmp_path: Path) -> None:
    slurm.says("srun")
    executor = submitit.SlurmExecutor(tmp_path)
    executor.update_parameters(time=5)
    text = script_text(executor, members)
    assert text.startswith("#!/bin/bash")
    assert f"-m submitit.core._submit {tmp_path}" in text
    assert ("#SBATCH --array=0-2" in text) == array
