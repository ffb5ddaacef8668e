"""All typos of a sweep's YAML are named at once, each with the nearest valid name."""

from pathlib import Path

import pytest

from ear.config.loading import load_config
from ear.errors import UserError
from sweeps.spec.plan import compile_plan

SWEEP = """
name: typos
bsae: digits
metric: {name: fidd}
set: {scoring.alhpa: 1.0, training.stages.-1.stesp: 3}
space: {scoring.generator.widht: [1], optimiser.x: [1], sampling.cfg: [1.0]}
"""


def test_each_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "typos.yaml"
    path.write_text(SWEEP)
    with pytest.raises(UserError) as raised:
        compile_plan(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 6
    for place, nearest in [
        ("unknown key 'bsae'", "base"),
        ("metric.name: ", "fid"),
        ("set: unknown key 'scoring.alhpa'", "alpha"),
        ("set: unknown key 'training.stages.-1.stesp'", "steps"),
        ("space: unknown key 'scoring.generator.widht'", "width"),
        ("space: unknown key 'optimiser'", "optimizer"),
    ]:
        (line,) = [line for line in lines if line.startswith(f"{path}: {place}")]
        assert f"(did you mean {nearest!r}?)" in line


def test_a_list_of_a_bad_item_is_not_called_too_short() -> None:
    with pytest.raises(UserError) as raised:
        load_config("digits", ["training.stages=[{steps: 40}]"])
    assert len(str(raised.value).splitlines()) == 1


def test_a_warning_is_said_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "warned.yaml"
    path.write_text("name: warned\nset: {scoring.alpha: 2}\nspace: {scoring.generator.depth: [1, 2]}\n")
    compile_plan(path)
    assert len([each for each in recwarn if "strictly proper" in str(each.message)]) == 1
