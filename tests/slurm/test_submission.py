"""Submission: the whole script against golden files, refusals in SLURM's words."""

import os
import shlex
import stat
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from faked import FakedSlurm, fake_slurm
from submitit.core.utils import DelayedSubmission

from ear.cli.launch import Launch
from ear.errors import UserError
from ear.process.code import FOLDER
from slurm.cli import launch
from slurm.profile import Profile
from slurm.stop_requests import last_stop, request_stop
from slurm.submission import HEAL, RECORD, JobRecord, Request, Submission
from sweeps.spec.plan import compile_plan

GOLDEN = Path(__file__).with_name("golden")
EVERYTHING = {
    "partition": "gpu",
    "account": "vision",
    "qos": "high",
    "constraint": "a100|h100",
    "reservation": "deadline",
    "nodes": 2,
    "gpus_per_node": "a100:4",
    "cpus_per_node": 32,
    "memory_gb": 120.5,
    "hours": 12,
    "exclusive": True,
    "signal_delay": 300,
    "setup": ["module load cuda", "source env.sh"],
    "scratch": "$LOCAL",
    "sbatch": {"mail-type": "END", "nice": 100},
}
DIGITS = (resources.files("ear.configs") / "digits.yaml").read_text()
SWEEP = "name: alpha\nbase: ../bases/mine.yaml\nspace: {scoring.alpha: [1.0, 1.5]}\n"
CASES = {
    "gang": ("sweep", EVERYTHING),
    "array": ("sweep", {"hours": 1, "sweep": "array", "drivers": 16, "array_parallelism": 4, "gpus_per_node": 1}),
    "training": ("train", {"hours": 48, "nodes": 4, "gpus_per_node": 8, "cpus_per_node": 64}),
    "alone": ("evaluate", {"hours": 2}),
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakedSlurm:
    faked = fake_slurm(tmp_path, monkeypatch)
    faked.says("srun")
    return faked


def submission(kind: str, profile: dict[str, object], root: Path) -> Submission:
    arguments = ("train", "digits", "--set", "scoring.alpha=1.25", "--root", str(root))
    return Submission(Request(kind, "digits", arguments, root), Profile.model_validate(profile), "mine.yaml")  # type: ignore[arg-type]


@pytest.mark.parametrize("there", [True, False], ids=["on a cluster", "without SLURM"])
@pytest.mark.parametrize("case", CASES)
def test_the_script_is_the_golden_one(case: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faked = fake_slurm(tmp_path, monkeypatch)
    if there:
        faked.says("srun")
    asked = submission(*CASES[case], tmp_path)
    script = asked.script().replace(str(asked.folder), "FOLDER").replace(sys.executable, "PYTHON")
    script = script.replace(str(FOLDER), "CODE")
    golden = GOLDEN / f"{case}.sh"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(script)
        pytest.fail(f"{golden} was written anew: look at it")
    assert script == golden.read_text()


def test_a_dry_run_asks_slurm_and_queues_nothing(slurm: FakedSlurm, tmp_path: Path) -> None:
    slurm.says("sbatch", stderr="sbatch: Job 7 to start at 2026-11-25T12:00:00 using 2 processors on nodes n[1-2]\n")
    taken, words = submission("train", {"hours": 1}, tmp_path).test()
    assert taken
    assert "to start at" in words
    assert slurm.calls("sbatch") == ["--test-only"]
    assert not (tmp_path / "slurm").exists()
    slurm.says("sbatch", stderr="allocation failure: Invalid account\n", code=1)
    assert submission("train", {"hours": 1}, tmp_path).test() == (False, "allocation failure: Invalid account")


def test_a_dry_run_without_slurm_shows_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_slurm(tmp_path, monkeypatch)
    profile = tmp_path / "mine.yaml"
    profile.write_text("hours: 1\n")
    arguments = ("train", "digits", "--root", str(tmp_path))
    launch(Launch("train", "digits", arguments, tmp_path, None, (), str(profile), dry_run=True, follow=False))
    printed = capsys.readouterr().out
    assert printed.startswith("#!/bin/bash")
    assert "#SBATCH --time=60" in printed
    assert printed.rstrip().splitlines()[-1].startswith("# SLURM is not available here")
    assert not (tmp_path / "slurm").exists()


@pytest.mark.parametrize(
    "words",
    [
        "invalid partition specified: gpuu\nBatch job submission failed: Invalid partition name specified",
        "QOSMaxSubmitJobPerUserLimit\nBatch job submission failed: Job violates accounting/QOS policy",
        "Unable to contact slurm controller (connect failure)",
    ],
)
@pytest.mark.parametrize("case", ["alone", "array"])
def test_slurm_s_own_words_reach_the_user_and_nothing_is_left(
    words: str, case: str, slurm: FakedSlurm, tmp_path: Path
) -> None:
    slurm.says("sbatch", stderr="".join(f"sbatch: error: {line}\n" for line in words.splitlines()), code=1)
    with pytest.raises(UserError) as refused:
        submission(*CASES[case], tmp_path).submit()
    assert words in str(refused.value)
    assert not list((tmp_path / "slurm").iterdir())


def test_an_answer_that_names_no_job_is_refused(slurm: FakedSlurm, tmp_path: Path) -> None:
    slurm.says("sbatch", "Thank you for your request\n")
    with pytest.raises(UserError, match="Thank you for your request"):
        submission("train", {"hours": 1}, tmp_path).submit()


def test_without_slurm_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_slurm(tmp_path, monkeypatch)
    with pytest.raises(UserError, match="SLURM is not available here"):
        submission("train", {"hours": 1}, tmp_path).submit()


@pytest.mark.parametrize(("case", "tasks"), [("alone", ["41"]), ("array", [f"41_{index}" for index in range(16)])])
def test_a_submitted_job_is_on_record(case: str, tasks: list[str], slurm: FakedSlurm, tmp_path: Path) -> None:
    slurm.says("sbatch", "Submitted batch job 41\n")
    record = submission(*CASES[case], tmp_path).submit()
    assert (record.id, record.tasks) == ("41", tasks)
    assert JobRecord.load(record.folder / RECORD) == record
    assert record.command.startswith("ear train digits --set scoring.alpha=1.25")
    pickles = sorted(path.name for path in record.folder.glob("*_submitted.pkl"))
    assert pickles == sorted(f"{task}_submitted.pkl" for task in tasks)


def test_in_a_shared_root_nobody_else_can_put_his_job_in_the_place_of_ours(slurm: FakedSlurm, tmp_path: Path) -> None:
    """Whoever may write ROOT/slurm could rename the job's folder."""
    slurm.says("sbatch", "Submitted batch job 41\n")
    before = os.umask(0o002)
    try:
        (tmp_path / "slurm").mkdir()
        os.chown(tmp_path / "slurm", -1, os.getgid() or 65534 if os.getuid() == 0 else os.getgid())
        (tmp_path / "slurm").chmod(0o2775)
        record = submission(*CASES["alone"], tmp_path).submit()
    finally:
        os.umask(before)
    assert stat.filemode((tmp_path / "slurm").stat().st_mode) == "drwxrwsr-t"
    assert stat.S_IMODE(record.folder.stat().st_mode) & 0o777 == 0o755  # its logs are for others to read


@pytest.mark.parametrize("shape", ["alone", "array"])
def test_what_was_submitted_is_what_runs(
    shape: str, slurm: FakedSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's files may be other ones by the time that the job begins, and each time that it begins again."""
    slurm.says("sbatch", "Submitted batch job 41\n")
    base = tmp_path / "bases" / "mine.yaml"
    sweep = tmp_path / "sweeps" / "alpha.yaml"
    for path, text in ((base, DIGITS), (sweep, SWEEP)):
        path.parent.mkdir()
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    given = compile_plan(Path("sweeps/alpha.yaml"))
    request = Request(
        "sweep", "alpha", ("sweep", "run", "sweeps/alpha.yaml", "--root", "runs"), tmp_path, None, given.files
    )
    request_stop(tmp_path / "alpha")
    stopped = last_stop(tmp_path / "alpha")
    record = Submission(request, Profile.model_validate(CASES[shape][1]), "mine.yaml").submit()
    request_stop(tmp_path / "alpha")
    base.write_text(DIGITS.replace("warmup_steps: 100", "warmup_steps: 50"))
    sweep.write_text(SWEEP.replace("1.5", "1.25"))

    assert record.command == "ear sweep run sweeps/alpha.yaml --root runs"  # which is how to submit it again
    for pickle in record.folder.glob("*_submitted.pkl"):
        job = DelayedSubmission.load(pickle).function
        assert job.last_stop == stopped
        assert job.arguments[:2] + job.arguments[3:] == ["sweep", "run", "--root", "runs"]
        assert compile_plan(Path(job.arguments[2])).identity.digest == given.identity.digest
    assert compile_plan(Path("sweeps/alpha.yaml")).identity.digest != given.identity.digest


def test_a_base_by_its_path_keeps_what_the_sweep_says_of_it(
    slurm: FakedSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.says("sbatch", "Submitted batch job 41\n")
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(DIGITS)
    Path("alpha.yaml").write_text(
        "name: alpha\nspace: {scoring.alpha: [1.0, 1.5]}\nbases: {mine.yaml: {seeds: [0, 1, 2]}}\n"
    )
    given = compile_plan(Path("alpha.yaml"), "mine.yaml")
    assert len(given.runs) == 6
    arguments = ("sweep", "run", "alpha.yaml", "--base", "mine.yaml")
    profile = Profile.model_validate({"hours": 1})
    record = Submission(Request("sweep", "a", arguments, tmp_path, None, given.files), profile, "mine.yaml").submit()
    (pickle,) = record.folder.glob("*_submitted.pkl")
    told = DelayedSubmission.load(pickle).function.arguments
    assert compile_plan(Path(told[2]), told[4]).identity.digest == given.identity.digest


@pytest.mark.parametrize("task", ["41", "41_3"])
@pytest.mark.parametrize(
    ("there", "kept"),
    [({"": "old", ".save_tmp": "half"}, "old"), ({".save_tmp": "new"}, "new"), ({"": "old"}, "old"), ({}, None)],
    ids=["killed while it was written", "killed before it was renamed", "whole", "not yet moved there"],
)
def test_a_pickle_that_submitit_left_half_written_is_mended(
    there: dict[str, str], kept: str | None, task: str, tmp_path: Path
) -> None:
    """By the script's own line, in a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    for suffix, text in there.items():
        (folder / f"{task}_submitted.pkl{suffix}").write_text(text)
    job, _, index = task.partition("_")
    variables = {"SLURM_JOB_ID": "99", "SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": index}
    environment = variables if index else {"SLURM_JOB_ID": job}
    subprocess.run(["/bin/bash", "-c", HEAL.format(folder=shlex.quote(str(folder)))], env=environment, check=True)
    pickle = folder / f"{task}_submitted.pkl"
    assert (pickle.read_text() if pickle.exists() else None) == kept
    assert not (folder / f"{task}_submitted.pkl.save_tmp").exists()
