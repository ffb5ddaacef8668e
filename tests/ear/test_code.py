"""Which code a process runs, and how it makes others run the same."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import ear
from ear.process import code
from ear.process.code import OtherCodeError, code_digest, code_environment, leave_working_directory, require_same_code


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another folder with the packages, as if this process ran them."""
    for package in code.PACKAGES:
        (tmp_path / package / "part").mkdir(parents=True)
        (tmp_path / package / "part" / "module.py").write_text(f"# {package}")
    monkeypatch.setattr(code, "FOLDER", tmp_path)
    code_digest.cache_clear()
    yield tmp_path
    code_digest.cache_clear()


def test_any_source_that_changes_is_other_code(checkout: Path) -> None:
    known = code_digest()
    (checkout / "sweeps" / "part" / "module.py").write_text("# changed")
    require_same_code(known)  # what this process runs is what it has imported
    digests = {known}
    for change in ("changed", "more"):
        (checkout / "slurm" / f"{change}.py").touch()
        code_digest.cache_clear()
        digests.add(code_digest())
        with pytest.raises(
            OtherCodeError, match=f"The code in {checkout} is not the code that this sweep was started with"
        ):
            require_same_code(known)
    assert len(digests) == 3
    (checkout / "notes.py").touch()
    (checkout / "ear" / "notes.txt").touch()
    code_digest.cache_clear()
    assert code_digest() in digests


def test_a_source_that_is_called_otherwise_is_other_code(checkout: Path) -> None:
    known = code_digest()
    folder = checkout / "sweeps" / "part"
    (folder / "module.py").rename(folder / "renamed.py")
    code_digest.cache_clear()
    assert code_digest() != known


def test_what_editors_leave_beside_the_sources_is_no_code(checkout: Path) -> None:
    known = code_digest()
    folder = checkout / "sweeps" / "part"
    (folder / ".#module.py").symlink_to("somebody@a-machine.4711:1")  # Emacs, while a file has unsaved changes
    (folder / ".module.py").write_text("a copy")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "module.py").write_text("a copy")
    (folder / "folder.py").mkdir()
    code_digest.cache_clear()
    assert code_digest() == known


@pytest.mark.parametrize("times", [1, 2])
def test_a_source_that_vanishes_while_it_is_read(times: int, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, read = code_digest(), Path.read_bytes
    vanished = [checkout / "ear" / f"{number}.py" for number in range(times)]
    vanished[0].touch()

    def reading(path: Path) -> bytes:
        if vanished and path == vanished[0]:
            vanished.pop(0).unlink()
            for following in vanished[:1]:
                following.touch()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    code_digest.cache_clear()
    if times == 1:
        assert code_digest() == known
    else:
        with pytest.raises(OtherCodeError, match=f"The code in {checkout} is being changed"):
            code_digest()


def test_other_processes_find_this_code_first(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(Path(ear.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    assert code_environment() == {"PYTHONPATH": f"{folder}:/of/the/user"}
    monkeypatch.delenv("PYTHONPATH")
    assert code_environment() == {"PYTHONPATH": folder}
    # An installed copy is found anyway, and put first its neighbours could take the standard library's place.
    monkeypatch.setattr("sysconfig.get_path", lambda _: folder)
    assert code_environment() == {}


def test_python_m_ear_takes_no_file_of_the_user_for_a_module(tmp_path: Path) -> None:
    for name in ("sweeps", "slurm", "analysis", "typer"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('a file of the user')")
    command = [sys.executable, "-m", "ear", "sweep", "--help"]
    asked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr
    assert "Plan and run the sweeps" in asked.stdout


@pytest.mark.parametrize(
    ("first", "safe", "left"),
    [
        ("", False, ["/second", "/last"]),  # `python -m`: wherever it is started
        (".", False, ["/second", "/last"]),
        ("", True, ["", "/second", "/last"]),  # `python -P` never puts it there
        ("/first", False, ["/first", "/second", "/last"]),
        (None, False, []),
    ],
)
def test_the_working_directory_is_left_out_where_python_put_it_first(
    first: str | None, safe: bool, left: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = [] if first is None else [first, "/second", "/last"]
    monkeypatch.setattr(code, "sys", SimpleNamespace(flags=SimpleNamespace(safe_path=safe), path=path))
    monkeypatch.chdir(code.FOLDER)
    before = list(path)
    leave_working_directory()
    assert path == before  # this code lies there
    monkeypatch.chdir(tmp_path)
    leave_working_directory()
    assert path == left
