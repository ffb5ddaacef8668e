"""Sweeps that would cost without bound are refused before a run of them is made."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ear.errors import UserError
from sweeps.spec.plan import compile_plan
from sweeps.spec.repeated import first_repeated


def plan(folder: Path, **values: Any) -> Any:
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"name": "bounds", "base": "digits", **values}))
    return compile_plan(folder / "sweep.yaml")


def grid(*sizes: int) -> dict[str, list[float]]:
    names = ["scoring.alpha", "training.label_drop", "optimizer.weight_decay", "sampling.cfg", "optimizer.clip_norm"]
    return {name: [1 + value / 100_000 for value in range(size)] for name, size in zip(names, sizes, strict=False)}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "5^10 and more": (
        {"space": {f"model.x{number}": [1, 2, 3, 4, 5] for number in range(13)}},
        "space: a grid of 5 x 5 x 5 x 5 x 5 x 5 x 5 x 5 and 5 more axes with 1 seeds for each point has more",
    ),
    "seeds count": (
        {"space": grid(1000, 10), "seeds": list(range(11))},
        "a grid of 1,000 x 10 with 11 seeds for each point has more than 100,000 runs",
    ),
    "a seed that leaves no fresh ones": ({"space": grid(2), "seeds": [2**63 - 1]}, "seeds.0: .*less than or equal to"),
    "a trial of a million CPUs": ({"space": grid(2), "resources": {"cpus": 10**6}}, "resources.cpus: .*equal to 1024"),
    "a trial of 1e300 GPUs": ({"space": grid(2), "resources": {"gpus": 1e300}}, "resources.gpus: .*equal to 1024"),
    "a billion fresh seeds": (
        {
            "search": {
                "trials": 2,
                "space": {"scoring.alpha": {"uniform": [1, 2]}},
                "confirmation": {"seeds": 10**9},
            }
        },
        "confirmation.seeds: .*equal to 1000",
    ),
    "a value of a megabyte twice": (
        {"space": {"scoring.alpha": ["x" * 100_000] * 2}},
        "the axis scoring.alpha has the duplicate value 'x*... [(]100,002 characters[)]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_one_short_sentence_with_the_bound(case: str, tmp_path: Path) -> None:
    values, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as refused:
        plan(tmp_path, **values)
    sentence, *others = str(refused.value).splitlines()
    assert sentence.startswith(f"{tmp_path / 'sweep.yaml'}: ")
    assert len(sentence) < 1000
    assert all("unknown key" in other for other in others)  # of the axes that were made up


def test_what_stands_there_twice_is_found_by_equality() -> None:
    assert first_repeated([]) is None
    assert first_repeated([1, "1", None, [1], {"a": 1}, [[1]], [{"a": 1}], {"a": [1]}, [], {}]) is None
    for one, other in ((1, 1.0), (1, True), ([1, [2]], [1.0, [2]]), ({"a": [1], "b": 2}, {"b": 2, "a": [1]})):
        assert one == other
        assert first_repeated([None, one, other]) == 2


def test_values_are_compared_once_each() -> None:
    """An axis of so many took half a minute, each value compared with all before it."""
    compared = 0

    class Value(int):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return int(self) == other

        __hash__ = int.__hash__

    assert first_repeated(map(Value, range(10_000))) is None
    assert compared < 1000
