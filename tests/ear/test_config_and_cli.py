"""Configuration and the command line: what is refused, how, and with which exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from in_process import ear
from pydantic import ValidationError

from ear.cli.main import ran_out_of_memory
from ear.config import RunConfig, config_hash, load_config
from ear.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "run_schema.json"


def test_round_trip_and_frozen() -> None:
    config = load_config("digits", ["training.stages.-1.train_temperature=0.9", "optimizer.clip_norm=1e-2"])
    assert config.training.stages[1].train_temperature == 0.9
    assert config.optimizer.clip_norm == 0.01
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scoring.alhpa=1", r"unknown key 'scoring\.alhpa' \(did you mean 'alpha'\?\)"),
        ("training.stages.0.stepss=1", r"'training\.stages\.0\.stepss' \(did you mean 'steps'\?\)"),
        ("scoring.alpha=0", "scoring.alpha: input should be greater than 0"),
        ("scoring.alpha=3", "scoring.alpha: input should be less than or equal to 2"),
        ("scoring.alpha=one", "scoring.alpha: input should be a valid number"),
        ("scoring.alpha='1.5'", r"scoring.alpha: input should be a valid number \(given: '1.5'\)"),
        ("scoring.alpha=true", "scoring.alpha: a number is needed, not a boolean"),
        ("seed=yes", "seed: input should be a valid integer"),
        ("seed=true", "seed: a number is needed, not a boolean"),
        ("model.depth=2.0", "model.depth: an integer is needed, written without a decimal point or an exponent"),
        ("training.batch_size=1e2", r"batch_size: an integer is needed, .* \(given: 100.0\)"),
        ("training.batch_size=1:30", r"batch_size: input should be a valid integer \(given: '1:30'\)"),
        ("execution.compile=yes", r"execution.compile: write true or false \(given: 'yes'\)"),
        ("execution.compile=1", "execution.compile: write true or false"),
        ("model.width=50", "not divisible by heads"),
        ("training.stages.7.steps=1", "use an index from 0 to 1"),
        ("scoring", "write it as section.key=value"),
        ("execution.precision=auto", "execution.precision: `auto` meant bfloat16 on a GPU and float32 on a CPU"),
    ],
)
def test_wrong_values_are_refused_with_their_place(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("digits", [override])


@pytest.mark.parametrize("alpha", [2.0, 0.5])
def test_improper_alpha_warns(alpha: float) -> None:
    with pytest.warns(UserWarning, match="alpha"):
        load_config("digits", [f"scoring.alpha={alpha}"])


def test_hash_changes_when_and_only_when_results_can() -> None:
    base = config_hash(load_config("digits"))
    same = ["execution.threads=2", "execution.log_every=3", "execution.device=cpu", "execution.batch_size=7"]
    for override in same:
        assert config_hash(load_config("digits", [override])) == base
    for override in (
        "seed=1",
        "tokenizer.patch_size=4",
        "model.depth=3",
        "scoring.alpha=1.5",
        "scoring.generator.depth=3",
        "optimizer.generator_lr_scale=0.25",
        "training.label_drop=0.2",
        "training.stages.1.train_temperature=0.9",
        "sampling.cfg=2",
        "evaluation.images=3000",
        "execution.precision=bfloat16",
    ):
        assert config_hash(load_config("digits", [override])) != base, override


def test_every_section_declares_its_reach() -> None:
    assert {RunConfig.reach(name).value for name in RunConfig.model_fields} == {"training", "evaluation", "nothing"}


def test_schema_is_frozen() -> None:
    """Whoever changes the YAML's schema changes this file too, and says so in the changelog."""
    assert RunConfig.model_json_schema() == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "digits", "--set", "scoring.alpha=3", "--root", "{tmp}"], "scoring.alpha"),
        (["train", "gone.yaml", "--root", "{tmp}"], "gone.yaml can't be read"),
        (["train", "digits", "--root", "{tmp}/file/below"], "can't be written"),
        (["sample", "{tmp}/bad.safetensors"], "bad.safetensors is a text file"),
        (["sweep", "plan", "{tmp}/gone.yaml", "--root", "{tmp}"], "gone.yaml can't be read"),
        (["report", "x", "--root", "{tmp}"], "MLflow's database"),
        (["report", "x", "--root", "{tmp}/empty"], "No sweep has been run"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_two(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "bad.safetensors").write_bytes(b"garbage")
    (tmp_path / "mlflow.db").write_bytes(b"half a database" * 100)
    assert message in ear(*(argument.format(tmp=tmp_path) for argument in arguments), code=2).stderr


def test_help_imports_neither_torch_nor_pydantic() -> None:
    code = (
        "import sys; sys.argv = ['ear', '--help']\nfrom ear.cli import main\ntry:\n    main()\nexcept SystemExit:\n"
        "    assert not {'torch', 'pydantic', 'numpy'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sweep" in done.stdout


def test_version_names_the_commit() -> None:
    said = ear("--version").stdout
    assert re.fullmatch(r"ear \d+\.\d+\.\d+(, commit [0-9a-f]{40}(\+changes)?)?\n", said), said


@pytest.mark.parametrize(("typed", "word", "offered"), [("ear sw", 1, "sweep"), ("ear sweep pl", 2, "plan")])
def test_a_shell_completes_commands_of_every_package(typed: str, word: int, offered: str) -> None:
    asked = {"_EAR_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(word)}
    done = subprocess.run(
        [Path(sys.executable).parent / "ear"], env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert done.stdout.split() == [offered], done.stderr


def test_ear_imports_no_orchestration() -> None:
    code = (
        "import ear, importlib, pkgutil, sys\n"
        "for module in pkgutil.walk_packages(ear.__path__, 'ear.'): importlib.import_module(module.name)\n"
        "assert not {'ray', 'mlflow', 'optuna', 'submitit', 'torch_fidelity'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("error", "out_of_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("Storage size calculation overflowed with sizes=[4611686018427387904]"), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_running_out_of_memory_is_recognised(error: Exception, out_of_memory: bool) -> None:
    assert ran_out_of_memory(error) is out_of_memory
