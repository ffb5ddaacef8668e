"""What is remembered from one command to the next is what would be computed, and never anything else."""

from pathlib import Path

import pytest

from ear.config import load_config
from ear.config.schema import DigitsData
from ear.cost import _counted, cost
from ear.data import load_dataset
from ear.data.content import CONTENTS, content_of, dataset_content, require_as_known
from ear.errors import UserError
from ear.flop_count import count
from ear.process import user_cache
from ear.process.user_cache import remembered


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "ear"


def ask(answers: list[int], of: object = "this", libraries: tuple[str, ...] = ("numpy",)) -> int:
    """The first of the answers where something has to be computed, which takes it away."""
    return remembered("kind", of, libraries, lambda: answers.pop(0), to_json=int, from_json=int)


@pytest.mark.usefixtures("home")
def test_it_is_computed_once_for_what_it_follows_from(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [1, 2, 3, 4]
    assert [ask(answers), ask(answers)] == [1, 1]
    assert ask(answers, of="that") == 2
    monkeypatch.setattr(user_cache, "code_digest", lambda: "another version of this program")
    assert [ask(answers), ask(answers)] == [3, 3]
    monkeypatch.setattr(user_cache, "version", lambda _: "another version of numpy")
    assert [ask(answers), ask(answers)] == [4, 4]


@pytest.mark.parametrize("content", ["", "{", "null", '"x"'])
def test_what_is_damaged_is_computed_again(home: Path, content: str) -> None:
    assert ask([1]) == 1
    (file,) = (home / "kind").iterdir()
    file.write_text(content)
    assert ask([2]) == 2
    assert ask([]) == 2


def test_a_home_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    answers = [1, 2]
    assert [ask(answers), ask(answers)] == [1, 2]


@pytest.mark.usefixtures("home")
def test_a_dataset_is_known_by_the_hashes_of_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DigitsData()
    loaded = load_dataset(config)
    computed = dataset_content.__wrapped__(config)
    monkeypatch.setattr("ear.data.content.load_dataset", lambda _: pytest.fail("it was loaded again"))
    known = dataset_content.__wrapped__(config)
    for content in (computed, known):
        assert content.content_hash() == loaded.content_hash()
        assert [content.split_hash(name) for name in ("train", "test")] == [
            loaded.split_hash(name) for name in ("train", "test")
        ]


@pytest.mark.parametrize("changed", ["00" * 32, "no hash"])
def test_nothing_is_kept_by_a_remembered_hash_that_is_not_the_datasets(
    home: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that can be none is not believed in the first place."""
    config = DigitsData()
    whole = dataset_content.__wrapped__(config).content_hash()
    (file,) = (home / CONTENTS).iterdir()
    file.write_text(file.read_text().replace(whole, changed))
    monkeypatch.setattr("ear.data.content.dataset_content", dataset_content.__wrapped__)
    if changed == "no hash":
        require_as_known(config, load_dataset(config))
        assert dataset_content.__wrapped__(config) == content_of(load_dataset(config))
    else:
        with pytest.raises(UserError, match=f"delete {home / CONTENTS} and run the same command again"):
            require_as_known(config, load_dataset(config))


@pytest.mark.usefixtures("home")
def test_a_cost_is_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("digits")
    _counted.cache_clear()
    computed = cost(config)
    _counted.cache_clear()
    monkeypatch.setattr("ear.flop_count.count", lambda _: pytest.fail("it was counted again"))
    assert cost(config) == computed
    assert count(config)._asdict().items() <= vars(computed).items()
    _counted.cache_clear()
