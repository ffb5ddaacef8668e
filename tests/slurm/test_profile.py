"""Profiles: what is refused, and with which words."""

import json
import os
from pathlib import Path

import pytest
from faked import FakedSlurm, fake_slurm

from ear.errors import UserError
from slurm.profile import Profile, load_profile, shipped_profiles
from slurm.submission import Request, Submission


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakedSlurm:
    return fake_slurm(tmp_path, monkeypatch)


def refusal(folder: Path, text: str) -> str:
    path = folder / "profile.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        load_profile(str(path))
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_the_schema_is_frozen() -> None:
    """Whoever changes what a profile may say changes this file too, and says so in the changelog."""
    golden = Path(__file__).parent / "golden" / "profile_schema.json"
    assert Profile.model_json_schema() == json.loads(golden.read_text())


def test_shipped_profiles_are_valid_and_documented() -> None:
    assert shipped_profiles() == ["array", "cpu", "gang", "training"]
    for name in shipped_profiles():
        assert load_profile(name).hours > 0


@pytest.mark.parametrize(
    ("given", "text", "count"), [(0, "0", 0), (4, "4", 4), ("a100:8", "a100:8", 8), ("h100-80gb:2", "h100-80gb:2", 2)]
)
def test_gpus_are_a_count_or_a_typed_gres(given: object, text: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(f"hours: 1\ngpus_per_node: {given}\n")
    profile = load_profile(str(path))
    assert (profile.gpus_per_node, profile.gpus) == (text, count)


@pytest.mark.parametrize(("hours", "minutes"), [("24", 1440), ("0.5", 30), ("0.01", 1), ("1.001", 61)])
def test_hours_are_whole_minutes_rounded_up(hours: str, minutes: int, tmp_path: Path) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text(f"hours: {hours}\nsignal_delay: 15\n")
    assert load_profile(str(path)).minutes == minutes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hours: 1\npartitoin: gpu\n", "unknown key 'partitoin'"),
        ("nodes: 2\n", "hours is missing"),
        ("hours: 0\n", "hours"),
        ("hours: .inf\n", "hours"),
        ("hours: 24:00:00\n", "hours: give the time limit as a number of hours: 36 for 1-12:00:00"),
        ("hours: 20:30\n", "hours: give the time limit as a number of hours"),
        ("hours: 1-12\n", "hours: give the time limit as a number of hours"),
        ("hours: '24'\n", "hours: input should be a valid number (given: '24')"),
        ("hours: 1\nnodes: true\n", "nodes: a number is needed, not a boolean"),
        ("hours: 1\nexclusive: yes\n", "exclusive: write true or false (given: 'yes')"),
        (
            "hours: 1\nsbatch: {cpus_per_task: 4}\n",
            "cpus_per_task: write an option as its long name without",
        ),
        ("hours: 1\nsbatch: {--comment: a}\n", "--comment: write an option as its long name"),
        ("hours: 1\nsbatch: {comment: }\n", "comment: give a number or text, or true for an option without a value"),
        ("hours: 1\nsbatch: {comment: [a]}\n", "comment: give a number or text"),
        ("hours: 1\ngpus_per_node: a100\n", "gpus_per_node"),
        ("hours: 1\ngpus_per_node: yes\n", "gpus_per_node"),
        ("hours: 1\nnodes: 0\n", "nodes"),
        ("hours: 1\nsweep: both\n", "sweep"),
        ("hours: 1\nsweep: array\nnodes: 2\n", "an array's drivers have one node each"),
        ("hours: 0.05\nsignal_delay: 300\n", "must be longer than signal_delay (300 s)"),
        ("hours: 1\nsbatch: {mem: 4G}\n", "mem has its own key in a profile: memory_gb"),
        ("hours: 1\nsbatch: {partition: gpu}\n", "partition has its own key in a profile: partition"),
        ("hours: 1\nsbatch: {requeue: false}\n", "requeue has its own key in a profile: none, the command"),
        ("hours: 1\nsbatch: {spread-job: false}\n", "spread-job: remove the option"),
    ],
)
def test_bad_profiles_name_the_place_and_the_remedy(text: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(tmp_path, text)


def test_a_profile_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UserError, match="array, cpu, gang, training"):
        load_profile("gnag")


def test_unknown_options_of_sbatch_are_refused_with_the_valid_ones(tmp_path: Path, slurm: FakedSlurm) -> None:
    slurm.says("sbatch", "  -x, --exclude=nodes  exclude\n      --mail-type=type  notify\n      --mem=MB  memory\n")
    words = refusal(tmp_path, "hours: 1\nsbatch: {mail-tpye: END}\n")
    assert "unknown option 'mail-tpye', did you mean 'mail-type'?" in words
    assert "Valid here: exclude, mail-type." in words
    path = tmp_path / "profile.yaml"
    path.write_text("hours: 1\nsbatch: {mail-type: END}\n")
    assert load_profile(str(path)).sbatch == {"mail-type": "END"}


def test_where_sbatch_can_t_be_asked_its_options_are_taken_as_they_are(tmp_path: Path, slurm: FakedSlurm) -> None:
    assert "sbatch" not in os.listdir(slurm.folder)
    path = tmp_path / "profile.yaml"
    path.write_text("hours: 1\nsbatch: {anything: 1}\n")
    assert load_profile(str(path)).sbatch == {"anything": "1"}


def test_options_of_sbatch_reach_it_as_they_are_written(tmp_path: Path, slurm: FakedSlurm) -> None:
    """A begin of 20:30 was 1230, a comment `yes` no comment but a flag, and a project's number lost its zero."""
    slurm.says("srun")
    path = tmp_path / "profile.yaml"
    path.write_text(
        "hours: 1\npartition: no\naccount: 0123\n"
        "sbatch: {begin: 20:30, comment: yes, wckey: 0123, nice: 1e2, deadline: 2026-11-27, spread-job: true}\n"
    )
    profile = load_profile(str(path))
    script = Submission(Request("train", "digits", ("train", "digits"), tmp_path), profile, "mine.yaml").script()
    given = {line for line in script.splitlines() if line.startswith("#SBATCH")}
    expected = (
        "partition=no",
        "begin=20:30",
        "comment=yes",
        "wckey=0123",
        "nice=1e2",
        "deadline=2026-11-27",
        "spread-job",
    )
    assert {f"#SBATCH --{option}" for option in expected} <= given
