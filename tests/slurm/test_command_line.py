"""`--slurm` as typed: what the job is told to do, what is refused before anything is queued, what is not loaded.

In this process, in which torch is imported already; by one process of their own, which must not load Ray.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from faked import FakedSlurm, fake_slurm
from in_process import ear

from ear.store import Store
from slurm.submission import RECORD, JobRecord
from sweeps.driver.run_sweep import open_source
from sweeps.spec.plan import compile_plan

SWEEP = "name: tiny\nspace: {scoring.alpha: [1.0, 1.5]}\n"
TWINS = "name: twins\nspace: {model: [{width: 8, depth: 1, heads: 1}, {width: 8, depth: 1, heads: 1, mlp_ratio: 4}]}\n"
SEARCH = "name: searched\nsearch: {trials: 2, space: {scoring.alpha: {uniform: [1.0, 1.5]}}}\n"
SUBMITTED = [  # and what the job is told
    ("sweep run tiny.yaml --slurm mine.yaml", "sweep run tiny.yaml --root ROOT/runs"),
    (
        "sweep run tiny.yaml --base digits --root there --slurm mine.yaml",
        "sweep run tiny.yaml --base digits --root ROOT/there",
    ),
    (
        "train digits --slurm mine.yaml --set seed=1 --set scoring.alpha=1.25 --evaluate",
        "train digits --set seed=1 --set scoring.alpha=1.25 --evaluate --root ROOT/runs",
    ),
    (
        "evaluate digits --reconstruction --json --slurm mine.yaml",
        "evaluate digits --reconstruction --root ROOT/runs --json",
    ),
    (
        "encode imagenet256_base --set data.path=ALL --set data.latents=CACHE --max-skipped 0.1 --slurm mine.yaml",
        "encode imagenet256_base --set data.path=ALL --set data.latents=CACHE --max-skipped 0.1",
    ),
]
ONE_AFTER_ANOTHER = """
import shlex, sys
from ear.cli import main
for typed in sys.argv[1:]:
    sys.argv = ["ear", *shlex.split(typed)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, typed
print("loaded:", *sys.modules)
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakedSlurm:
    faked = fake_slurm(tmp_path, monkeypatch)
    faked.says("srun")
    faked.says("sbatch", "Submitted batch job 41\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("hours: 1\n")
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    (tmp_path / "wide.yaml").write_text(f"{SWEEP}resources: {{cpus: 2}}\n")
    (tmp_path / "gpu.yaml").write_text(f"{SWEEP}resources: {{gpus: 2}}\n")
    (tmp_path / "half.yaml").write_text("hours: 1\ngpus_per_node: 1\n")
    (tmp_path / "twins.yaml").write_text(TWINS)
    (tmp_path / "newer" / "store").mkdir(parents=True)
    (tmp_path / "newer" / "store" / "format.json").write_text('{"version": 99}')
    return faked


def record_in(root: Path) -> JobRecord:
    (path,) = (root / "slurm").glob(f"*/{RECORD}")
    return JobRecord.load(path)


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(("typed", "told"), SUBMITTED)
def test_the_job_is_told_what_was_typed(typed: str, told: str, tmp_path: Path) -> None:
    done = ear(*shlex.split(typed))
    root = tmp_path / ("there" if "there" in typed else "runs")
    record = record_in(root)
    assert record.command == f"ear {told}".replace("ROOT", str(tmp_path))
    assert f"Submitted: job {record.id}" in done.stdout
    assert str(record.log("41")) in done.stdout


@pytest.mark.usefixtures("slurm")
def test_no_command_that_submits_loads_ray_or_starts_any() -> None:
    command = [sys.executable, "-c", ONE_AFTER_ANOTHER, *(typed for typed, _ in SUBMITTED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    printed, _, loaded = done.stdout.partition("loaded:")
    assert printed.count("Submitted: job 41") == len(SUBMITTED)
    assert "slurm.submission" in loaded.split()
    assert "ray" not in loaded.split()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("sweep run tiny.yaml --slurm nowhere", "There is no profile 'nowhere'"),
        ("sweep run missing.yaml --slurm mine.yaml", "missing.yaml can't be read"),
        ("sweep run wide.yaml --slurm mine.yaml", "a node of the profile mine.yaml has 1 and 0"),
        ("sweep run gpu.yaml --slurm half.yaml", "a trial needs 1 CPUs and 2 GPUs"),
        ("sweep run twins.yaml --slurm mine.yaml", "are the same run"),
        ("sweep run tiny.yaml --slurm mine.yaml --root newer", "was written by a newer version"),
        ("train digits --set scoring.alpha=-1 --slurm mine.yaml", "scoring.energy.alpha|scoring.alpha"),
        ("evaluate nowhere --slurm mine.yaml", "There is no checkpoint nowhere"),
        ("encode digits --slurm mine.yaml", "only image_folder data needs encoding"),
        ("train digits --dry-run", "need --slurm"),
        ("slurm cancel 7", "No job 7 was submitted"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_queued(
    typed: str, words: str, slurm: FakedSlurm, tmp_path: Path
) -> None:
    done = ear(*shlex.split(typed), code=2)
    assert any(each in done.stderr for each in words.split("|")), done.stderr
    assert slurm.calls("sbatch") == []
    assert not list((tmp_path / "runs" / "slurm").glob("*"))


def test_a_changed_space_is_refused_before_the_job_is_queued(slurm: FakedSlurm, tmp_path: Path) -> None:
    path, root = tmp_path / "searched.yaml", tmp_path / "runs"
    path.write_text(SEARCH)
    open_source(compile_plan(path), root, Store(root)).close()
    path.write_text(SEARCH.replace("1.5", "1.9"))
    done = ear("sweep", "run", "searched.yaml", "--slurm", "mine.yaml", code=2)
    assert "space.scoring.alpha.uniform was [1.0, 1.5] and is [1.0, 1.9]" in done.stderr
    assert slurm.calls("sbatch") == []


@pytest.mark.usefixtures("slurm")
def test_what_only_the_nodes_see_is_left_to_them(tmp_path: Path) -> None:
    """Checkpoints and GPUs that SLURM does not count; and a dry run writes nothing."""
    (tmp_path / "there.yaml").write_text(
        "name: there\nbase: imagenet256_base\n"
        "set: {tokenizer.checkpoint: /node/kl16.ckpt, data.latents: /node/latents}\n"
        "resources: {gpus: 1}\nspace: {scoring.alpha: [1.0, 1.5]}\n"
    )
    dry = ear("sweep", "run", "there.yaml", "--slurm", "mine.yaml", "--dry-run")
    assert "mine.yaml requests no GPUs, but a trial needs 1" in dry.stderr
    assert not (tmp_path / "runs").exists()
    ear("sweep", "run", "there.yaml", "--slurm", "mine.yaml")
