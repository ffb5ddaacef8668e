"""How YAML is read: by the core schema of YAML 1.2, every alias a copy."""

import math
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from ear.config import load_config
from ear.config.loading import read_yaml, shipped_configs
from ear.errors import UserError


def read(folder: Path, text: str, **options: Any) -> dict[str, Any]:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, **options)


# https://yaml.org/spec/1.2.2/#1032-tag-resolution, with what YAML 1.1 makes of it where that differs
SCALARS: dict[str, Any] = {
    "null": None,
    "~": None,
    "": None,
    "true": True,
    "False": False,
    "yes": "yes",  # True
    "no": "no",  # False
    "on": "on",
    "Off": "Off",
    "y": "y",
    "tRUE": "tRUE",
    "0": 0,
    "-12": -12,
    "+12": 12,
    "016": 16,  # 14
    "-017": -17,
    "08": 8,  # 8.0, by the 1.2 floats of an earlier version
    "0o17": 15,  # text
    "0x1F": 31,
    "0b11": "0b11",  # 3
    "1_000": "1_000",  # 1000
    "20:30": "20:30",  # 1230
    "24:00:00": "24:00:00",  # 86400
    "1:30.5": "1:30.5",
    "1.50": 1.5,
    "1.": 1.0,
    ".5": 0.5,
    "-.5e1": -5.0,
    "1e-6": 1e-6,  # text
    "1E3": 1000.0,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "2026-11-27": "2026-11-27",  # a date
    "2026-11-27 10:00:00": "2026-11-27 10:00:00",
    "=": "=",
    "<<": "<<",
    "'016'": "016",
    "!!str 016": "016",
    "!!float 1": 1.0,
    "!!int '0o17'": 15,
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_those_of_the_core_schema(text: str, tmp_path: Path) -> None:
    value = read(tmp_path, f"a: {text}\n")["a"]
    assert (type(value), value) == (type(SCALARS[text]), SCALARS[text])


def test_not_a_number_is_one_value_alone(tmp_path: Path) -> None:
    values = read(tmp_path, "a: [.nan, .NaN, .NAN]\nb: [-.nan, .Nan, nan]\n")
    assert all(math.isnan(value) for value in values["a"])
    assert values["b"] == ["-.nan", ".Nan", "nan"]


def test_an_alias_is_a_copy(tmp_path: Path) -> None:
    values = read(tmp_path, "a: &a {x: [1]}\nb: *a\nc: [*a, *a]\nd: {<<: *a, y: 2}\ne: {<<: [*a, {x: 3}], x: *a}\n")
    values["a"]["x"][0] = 9
    values["c"][0]["x"].append(7)
    values["e"]["x"]["x"].clear()
    assert values["b"] == {"x": [1]}
    assert values["c"][1] == {"x": [1]}
    assert values["d"] == {"x": [1], "y": 2}


def test_merged_keys_give_way_to_written_ones(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\nd: *b\ne: {<<: [{x: 5}, *b]}\n"
    values = read(tmp_path, text)
    assert values["c"] == {"x": 1, "y": 2, "z": 3}
    assert values["d"] == {"x": 1, "y": 2}
    assert values["e"] == {"x": 5, "y": 2}


STAGES = "[&warm {steps: 20, learning_rate: 1.0e-3}, *warm]"


def test_stages_that_are_aliases_change_one_by_one(tmp_path: Path) -> None:
    """Where both changed, `--set training.stages.1.steps=3` trained 6 steps, not 23."""
    shipped = (resources.files("ear.configs") / "digits.yaml").read_text(encoding="utf-8")
    before = shipped[: shipped.index("  stages:")]
    after = shipped[shipped.index("\nsampling:") :]
    path = tmp_path / "mine.yaml"
    path.write_text(f"{before}  stages: {STAGES}\n{after}", encoding="utf-8")
    assert load_config(str(path), ["training.stages.1.steps=3"]).stage_steps == (20, 3)
    given = [f"training.stages={STAGES}", "training.stages.-1.steps=3"]
    assert load_config("digits", given).stage_steps == (20, 3)


REFUSED = {
    "a template": ("base: {{base}}", "line 1, column 8: .*fill in the {{ }} of a template"),
    "a list as key": ("? [a]\n: 1", "a key must be text, not a mapping or a list"),
    "a number as key": ("a: {1: x}", "line 1, column 5: .*a key must be text: put 1 in quotes"),
    "null as key": ("~: x", "put ~ in quotes"),
    "no key": ("?\n: x", "put the empty key in quotes"),
    "key twice": ("a: {b: 1, c: 2, b: 3}", "line 1, column 17: .*duplicate key 'b'"),
    "key twice, in quotes": ("a: 1\n'a': 2", "line 2.*duplicate key 'a'"),
    "key twice in what is merged": ("a: {<<: {b: 1, b: 2}}", "duplicate key 'b'"),
    "two merges": ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "duplicate key '<<'"),
    "an alias in itself": ("a: &a [1, *a]", "line 1, column 11: .*an alias is used inside its own anchor"),
    "billions": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)),
        "aliases repeat more than 100,000 values",
    ),
    "an unknown alias": ("a: *b", "undefined alias"),
    "too deep": ("a: " + "[" * 1100 + "]" * 1100, "values are nested more than 100 deep"),
    "deeper than downstream can copy": (
        "a: " + "{a: " * 100 + "}" * 100,
        "column .*nested more than 100 deep",
    ),
    "deep by its aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200)),
        "nested more than 100 deep",
    ),
    "merges of merges": (
        "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 25)),
        "line 15, column 17: .*aliases repeat more than 100,000 values",
    ),
    "a program's object": ("a: !!python/object:os.system x", "unknown tag !!python/object:os.system"),
    "bytes": ("a: !!binary aGk=", "unknown tag !!binary"),
    "a date": ("a: !!timestamp 2026-11-27", "unknown tag !!timestamp"),
    "a tag that lies": ("a: !!int one", "'one' is not a valid int"),
    "a boolean of YAML 1.1": ("a: !!bool yes", "'yes' is not a valid bool"),
    "5,000 digits": (f"a: {'9' * 5000}", "line 1, column 4: .*9... .5,000 characters. is too large: .* 64 bits"),
    "6,000 digits of 16": (f"a: 0x{'f' * 6000}", "is too large: integers have 64 bits"),
    "2**63": (f"a: {2**63}", f"{2**63} is too large: .* at most 9,223,372,036,854,775,807 "),
    "a long word that a tag calls a number": (f"a: !!int {'x' * 5000}", "x... .5,000 characters.' is not a valid int"),
    "more than a megabyte": ("a: " + "x" * 2**20, "it is larger than 1,048,576 bytes"),
    "a megabyte, cut within a character": ("a:" + "\u00e4" * 2**19, "it is larger than 1,048,576 bytes"),
    "half a character": ('a: "\\ud800"', "half of a surrogate pair"),
    "a control character": ("a: 1\nb: \x01", "line 2: .*the character U[+]0001 is not allowed"),
    "two documents": ("a: 1\n---\nb: 2", "another document"),
    "a list": ("- a", "a mapping of keys to values is needed, but this is a list"),
    "nothing": ("", "a mapping of keys to values is needed, but this is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_yaml_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    text, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith(str(tmp_path / "file.yaml"))
    assert "\n" not in str(refused.value)


def test_the_largest_numbers_are_read(tmp_path: Path) -> None:
    text = f"{{most: {2**63 - 1}, least: {-(2**63) + 1}, octal: 0o{2**63 - 1:o}, zeros: {'0' * 9000}7, signed: +0012}}"
    assert read(tmp_path, text) == {
        "most": 2**63 - 1,
        "least": -(2**63) + 1,
        "octal": 2**63 - 1,
        "zeros": 7,
        "signed": 12,
    }


def test_a_pipe_and_a_device_are_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe.yaml")
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UserError, match=f"{path} can't be read: it is a pipe, a socket or a device, not a file"):
            read_yaml(path)


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(2**40)  # a hole, which no memory holds
    with pytest.raises(UserError, match="larger than 1,048,576 bytes"):
        load_config(str(tmp_path / "huge.yaml"))


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".yaml"])
def test_a_name_that_no_file_can_have_is_shortened(name: str) -> None:
    with pytest.raises(UserError) as refused:
        load_config(name)
    assert "x... (5,00" in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "override",
    [
        "x" * 100_000,
        "seed=" + "x" * 100_000,
        "seed.x=" + "[" * 100_000,
        "x" * 100_000 + "=1",
        "a." * 50_000 + "=1",
        "training.stages." + "9" * 5000 + ".steps=1",
        "tokenizer.name=" + "x" * 100_000,
    ],
)
def test_an_override_of_any_length_gets_one_short_sentence(override: str) -> None:
    with pytest.raises(UserError) as refused:
        load_config("digits", [override])
    assert len(str(refused.value)) < 1500


def test_of_thousands_of_faults_the_first_are_named(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text("".join(f"key{number}: 1\n" for number in range(500)))
    with pytest.raises(UserError, match="unknown key 'key0'") as refused:
        load_config(str(tmp_path / "file.yaml"))
    lines = str(refused.value).splitlines()
    assert len(lines) == 21
    assert re.search("and 48[0-9] more errors", lines[-1])


@pytest.mark.parametrize(
    ("override", "bound"),
    [
        ("training.batch_size=2147483648", "2147483647"),
        ("model.depth=1001", "1000"),
        ("scoring.generator.depth=1001", "1000"),
        ("execution.threads=1025", "1024"),
        ("execution.workers=1025", "1024"),
        ("optimizer.warmup_epochs=1e308", "1000000"),
        ("training.stages=[{epochs: 1e308, learning_rate: 1}]", "1000000"),
    ],
)
def test_a_number_that_nothing_can_be_built_of_is_refused_with_its_bound(override: str, bound: str) -> None:
    with pytest.raises(UserError, match=f"{override.split('=')[0]}.*less than or equal to {bound}"):
        load_config("digits", [override])


@pytest.mark.parametrize("text", ["{{x}}", "!!set {a}", "&a [*a]", "{1: 2}"])
def test_an_override_is_read_the_same_way(text: str) -> None:
    with pytest.raises(UserError, match=r"--set scoring\.alpha="):
        load_config("digits", [f"scoring.alpha={text}"])


def test_numbers_under_verbatim_keys_stay_as_they_are_written(tmp_path: Path) -> None:
    section = "&s {a: 016, b: 1.50, c: 0x1F, d: true, e: yes, f: ~, g: '7', h: 20:30}"
    text = f"n: 016\nz: 0123\ns: {section}\nt: *s\nu: &u {{i: 01}}\n"
    values = read(tmp_path, text, verbatim=["s", "z"])
    assert read(tmp_path, text + "v: {<<: *u, j: [02]}\n", verbatim=["v"])["v"] == {"i": "01", "j": ["02"]}
    assert (values["n"], values["z"]) == (16, "0123")
    assert values["s"] == {
        "a": "016",
        "b": "1.50",
        "c": "0x1F",
        "d": True,
        "e": "yes",
        "f": None,
        "g": "7",
        "h": "20:30",
    }
    assert values["t"] == {**values["s"], "a": 16, "b": 1.5, "c": 31}


@pytest.mark.parametrize("name", shipped_configs())
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    """Results keep their configuration as PyYAML writes it, by the rules of YAML 1.1."""
    given = (
        ["optimizer.clip_norm=1e-7", "data.path='/yes/0o17: 1e5'"] if "imagenet" in name else ["scoring.epsilon=1e-7"]
    )
    config = load_config(name, given if "hyvarinen" not in name else [])
    assert read(tmp_path, yaml.safe_dump(config.model_dump(mode="json"))) == config.model_dump(mode="json")
