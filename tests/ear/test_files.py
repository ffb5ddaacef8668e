"""Files appear whole, outlive a power cut, and where they can't be written is known before."""

import errno
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ear.errors import UserError
from ear.files.writing import (
    exists,
    flush_to_disk,
    is_on_own_disk,
    is_there,
    may_write,
    require_file_place,
    require_regular,
    require_writable,
    time_in,
    write_atomically,
    write_json,
    write_text,
)


def test_text_and_json_as_they_are_read(tmp_path: Path) -> None:
    for _ in range(2):  # in new folders, and over what is there
        write_text(tmp_path / "a" / "b" / "text", "α\n")
        write_json(tmp_path / "json", {"a": [1]})
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "α\n".encode()
    assert (tmp_path / "json").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "json", float("nan"))
    assert json.loads((tmp_path / "json").read_text()) == {"a": [1]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "json"]


def test_a_writer_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        assert temporary.parent == tmp_path
        temporary.write_text("ne")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path: Path) -> None:
    """Whatever the writer makes of it."""

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        temporary.chmod(0o600)

    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", write)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_power_cut_finds_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is on the disk before it has its name, and the name before anyone goes on."""
    path = tmp_path / "file"
    path.write_text("old")
    happened: list[tuple[str, int, object]] = []
    flush, rename = os.fsync, os.replace

    def flushing(descriptor: int) -> None:
        status = os.fstat(descriptor)
        happened.append(("flush", status.st_ino, path.read_text()))
        flush(descriptor)

    def renaming(source: Path, target: Path) -> None:
        happened.append(("rename", Path(source).stat().st_ino, target))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(os, "replace", renaming)
    descriptors = set(os.listdir("/proc/self/fd"))
    write_text(path, "new")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert happened == [("flush", file, "old"), ("rename", file, path), ("flush", folder, "new")]
    assert set(os.listdir("/proc/self/fd")) == descriptors


_open = os.open


def opening_no_folders(path: Path, flags: int, mode: int = 0o777) -> int:
    if Path(path).is_dir():
        raise PermissionError
    return _open(path, flags, mode)


def test_a_folder_is_flushed_with_all_that_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    (tmp_path / "file").touch()
    flushed = []
    opened = Path("/proc/self/fd")
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append((opened / str(descriptor)).readlink()))
    flush_to_disk(tmp_path)
    assert sorted(flushed) == sorted([tmp_path, *tmp_path.rglob("*")])


def test_a_file_that_can_not_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        flush_to_disk(tmp_path)


def test_only_a_file_is_opened(tmp_path: Path) -> None:
    """A pipe would keep whoever opens it waiting."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("four")
    assert require_regular(tmp_path / "file").st_size == 4
    with pytest.raises(FileNotFoundError):
        require_regular(tmp_path / "none")
    with pytest.raises(IsADirectoryError) as folder:
        require_regular(tmp_path)
    assert (folder.value.errno, folder.value.filename) == (errno.EISDIR, str(tmp_path))
    with pytest.raises(OSError, match="pipe, a socket or a device") as pipe:
        require_regular(tmp_path / "pipe")
    assert (pipe.value.errno, pipe.value.filename) == (errno.EINVAL, str(tmp_path / "pipe"))


def test_a_name_that_is_too_long_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exists(tmp_path) is True
    assert exists(tmp_path / "none") is False
    assert exists(tmp_path / ("x" * 300)) is False

    def fail(_: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "exists", fail)
    with pytest.raises(OSError, match="Input/output error"):
        exists(tmp_path)


def test_the_time_by_which_files_are_dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(tmp_path, (0, 0))
    assert abs(time_in(tmp_path) - time.time()) < 3600

    def fail(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    os.utime(tmp_path, (0, 0))
    assert abs(time_in(tmp_path) - time.time()) < 3600  # by the folder's own, which a full disk lets change


def test_a_file_system_that_can_not_flush_folders_takes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", opening_no_folders)
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_who_waits_for_another_machine_s_file_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = tmp_path / "file", os.open
    assert is_there(path) is False
    assert is_there(path / "below" / "nothing") is False

    def made_elsewhere(folder: Path, flags: int) -> int:
        os.close(opened(path, os.O_CREAT | os.O_WRONLY))  # that is, only now this machine hears of it
        return opened(folder, flags)

    descriptors = set(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", made_elsewhere)
        assert is_there(path) is True
    assert set(os.listdir("/proc/self/fd")) == descriptors
    monkeypatch.setattr(os, "open", opening_no_folders)  # a folder that may be entered and not be listed
    assert is_there(path) is True
    path.unlink()
    assert is_there(path) is False


MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:50 / /home rw shared:2 - nfs4 server:/home rw,vers=4.2
31 21 0:51 / /dev/shm rw - tmpfs shm rw
"""


@pytest.mark.parametrize(
    ("device", "own"),
    [((8, 1), True), ((0, 50), False), ((0, 51), True), ((0, 99), True)],
    ids=["disk", "network", "memory", "btrfs"],
)
def test_whether_other_machines_see_the_same(
    device: tuple[int, int], own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "stat", lambda _: SimpleNamespace(st_dev=os.makedev(*device)))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MOUNTS)
    assert is_on_own_disk(Path("/somewhere")) is own


def test_what_is_not_there_is_on_no_disk(tmp_path: Path) -> None:
    assert is_on_own_disk(tmp_path / "gone") is False


@pytest.fixture
def two_folders() -> Iterator[tuple[Path, Path]]:
    """One that this process may write in and one that it may only read: where it is root, it gives up these rights.

    Not below `tmp_path`, which nobody but root may enter where root runs the tests.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        for part, mode in ((ours, 0o777), (theirs, 0o555)):
            part.mkdir()
            part.chmod(mode)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield ours, theirs
        os.seteuid(user)


def test_who_may_write_is_asked_of_the_user_that_writes(two_folders: tuple[Path, Path]) -> None:
    ours, theirs = two_folders
    assert may_write(ours) is may_write(ours / "new" / "file") is True
    assert may_write(theirs) is may_write(theirs / "new" / "file") is False
    with pytest.raises(UserError, match=r"can't be written \(Permission denied\): give another with --there"):
        require_writable(theirs, "--there")


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    for _ in range(2):
        require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"can't be written .*give another with --root DIR or EAR_ROOT"):
        require_writable(tmp_path / "file" / "below")


def test_a_place_for_a_file(tmp_path: Path) -> None:
    require_file_place(tmp_path / "new" / "file", "--out")
    (tmp_path / "new" / "file").touch()
    require_file_place(tmp_path / "new" / "file", "--out")  # to be replaced
    with pytest.raises(UserError, match=r"--out .*new is a folder: give a file in it"):
        require_file_place(tmp_path / "new", "--out")
    with pytest.raises(UserError, match=r"can't be written .*give another with --out"):
        require_file_place(tmp_path / "new" / "file" / "below", "--out")
