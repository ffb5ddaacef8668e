"""Files and folders that no other user may read, write or replace."""

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from ear.errors import UserError
from ear.files import private
from ear.files.private import keep_names, keep_private, open_to_others, write_secret
from ear.process import execution
from ear.process.execution import keep_compiled_code_private

NOBODY = 65534


@pytest.mark.parametrize("kind", ["file", "dangling link", "link to a file"])
def test_a_secret_is_written_into_no_file_that_is_there(kind: str, tmp_path: Path) -> None:
    """Another user's keeps its owner and mode."""
    place, other = tmp_path / "token", tmp_path / "other"
    if kind == "file":
        place.touch(mode=0o666)
    else:
        place.symlink_to(other)
    if kind == "link to a file":
        other.touch()
    with pytest.raises(FileExistsError):
        write_secret(place, "secret")
    assert "secret" not in (path.read_text() for path in tmp_path.iterdir() if path.exists())


def test_a_secret_is_its_owner_s_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "token", "secret")
    finally:
        os.umask(before)
    assert stat.filemode((tmp_path / "token").stat().st_mode) == "-rw-------"
    assert (tmp_path / "token").read_text() == "secret"


def test_a_folder_is_made_so_that_its_owner_alone_may_write(tmp_path: Path) -> None:
    for mode, expected in ((None, 0o700), (0o755, 0o755), (0o2770, 0o2750), (0o777, 0o755)):
        folder = tmp_path / str(mode)
        if mode is not None:
            folder.mkdir()
            os.chown(folder, -1, os.getgid() or NOBODY if os.getuid() == 0 else os.getgid())
            folder.chmod(mode)
        keep_private(folder, "root with --root")
        assert stat.S_IMODE(folder.stat().st_mode) == expected


def test_a_folder_that_others_may_read_is_made_where_that_does_no_harm(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keep_private(tmp_path / "new" / "job", "root with --root", strict=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new" / "job").stat().st_mode) == 0o755


@pytest.mark.parametrize("strict", [True, False])
def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(strict: bool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"job can't be .* \(Not a directory\): give another root with --root\."):
        keep_private(tmp_path / "file" / "job", "root with --root", strict=strict)


def test_a_new_folder_on_a_file_system_without_owners_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CIFS, where all is one user's, whoever makes it; what was there before may be anybody's."""
    real = Path.lstat

    def lstat(path: Path) -> SimpleNamespace:
        status = real(path)
        return SimpleNamespace(st_mode=status.st_mode, st_uid=os.getuid() + 1, st_gid=status.st_gid)

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.warns(UserWarning, match=f"of user {os.getuid() + 1}") as warnings:
        keep_private(tmp_path / "new", "root with --root", strict=False)
    assert warnings[0].filename == __file__
    with pytest.raises(UserError, match=f"of user {os.getuid() + 1}"):
        keep_private(tmp_path / "new", "root with --root", strict=False)


def test_a_link_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"link can't be .* \(it is lrwxrwxrwx.*give another root with --root\."):
        keep_private(tmp_path / "link", "root with --root")


@pytest.mark.parametrize("fault", [errno.EPERM, None], ids=["refused", "without effect"])
def test_a_file_system_without_modes_is_warned_of_or_refused(
    fault: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CIFS, where folders have the mode that its mount says."""

    def chmod(path: Path, _: int) -> None:
        if fault:
            raise OSError(fault, os.strerror(fault), str(path))

    folder = tmp_path / "job"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setattr(Path, "chmod", chmod)
    with pytest.warns(UserWarning, match=r"job can't be .*drwxrwxrwx.*another root with --root"):
        keep_private(folder, "root with --root", strict=False)
    with pytest.raises(UserError, match="drwxrwxrwx"):
        keep_private(folder, "root with --root")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="lrwxrwxrwx"):
        keep_private(tmp_path / "link", "root with --root", strict=False)


def test_a_secret_is_not_written_where_files_have_no_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, _: real(path, flags, 0o644))
    with pytest.raises(UserError, match=r"token can't be made private \(its mode is always -rw-r--r--"):
        write_secret(tmp_path / "token", "secret")
    assert not (tmp_path / "token").exists()


@pytest.mark.parametrize(("mode", "expected"), [(0o2775, 0o3775), (0o777, 0o1777), (0o755, 0o755), (0o1777, 0o1777)])
def test_what_lies_in_a_shared_folder_keeps_its_name(mode: int, expected: int, tmp_path: Path) -> None:
    folder = tmp_path / "slurm"
    folder.mkdir()
    os.chown(folder, -1, os.getgid() or NOBODY if os.getuid() == 0 else os.getgid())
    folder.chmod(mode)
    keep_names(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == expected


def test_a_shared_folder_whose_names_others_can_change_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "root" / "slurm"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o777)  # above it: it may be renamed itself
    with pytest.warns(UserWarning, match=f"{folder.parent} can be written by others") as warnings:
        keep_names(folder)
    assert warnings[0].filename == __file__
    folder.parent.chmod(0o755)
    folder.chmod(0o777)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    with pytest.warns(UserWarning, match=f"{folder} can be written by others"):
        keep_names(folder)


def reason_of(
    monkeypatch: pytest.MonkeyPatch, *, owner: int = 1000, group: int = 1000, mode: int = 0o755
) -> str | None:
    """What user 1000 is told of a folder whose parents are no danger."""
    status = {Path("/data"): (owner, group, mode), Path("/"): (0, 0, 0o755)}

    def lstat(path: Path) -> SimpleNamespace:
        user, group, mode = status[path]
        return SimpleNamespace(st_mode=stat.S_IFDIR | mode, st_uid=user, st_gid=group)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", lstat)
        patch.setattr(os, "getuid", lambda: 1000)
        return open_to_others(Path("/data"))


@pytest.mark.parametrize(
    ("name", "members", "mode", "trusted"),
    [
        ("ada", [], 0o775, True),
        ("ada", ["ada"], 0o775, True),
        ("ada", ["ada", "bob"], 0o775, False),
        ("ada", [], 0o777, False),
        ("users", [], 0o775, False),
        (None, [], 0o775, False),  # as in a container
    ],
)
def test_the_user_s_own_group_has_no_others(
    name: str | None, members: list[str], mode: int, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many systems make one for each user, with umask 002."""

    def getgrgid(group: int) -> SimpleNamespace:
        if name is None:
            raise KeyError(group)
        return SimpleNamespace(gr_name=name, gr_mem=members)

    monkeypatch.setattr(private.pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="ada", pw_gid=1000))
    monkeypatch.setattr(private.grp, "getgrgid", getgrgid)
    reason = reason_of(monkeypatch, mode=mode)
    assert reason == (None if trusted else "/data can be written by others")


@pytest.mark.parametrize(("group", "trusted"), [(0, True), (1, False)])
def test_root_s_group_is_root(group: int, trusted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of containers have folders with its permission to write."""
    monkeypatch.setattr(private.pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="ada", pw_gid=1000))
    assert (reason_of(monkeypatch, owner=0, group=group, mode=0o775) is None) is trusted


ALL_IDS, OWN_ID = "0 0 4294967295", "0 1000 1"


@pytest.mark.parametrize(
    ("id_map", "owner", "trusted"),
    [
        (ALL_IDS, 0, True),
        (ALL_IDS, 1000, True),
        (ALL_IDS, 1, False),
        (ALL_IDS, NOBODY, False),
        (OWN_ID, NOBODY, True),  # root, who has no id there
        (OWN_ID, 1001, False),
        (None, NOBODY, False),  # no Linux
    ],
)
def test_whose_folders_are_trusted(
    id_map: str | None, owner: int, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path) -> str:
        text = {"uid_map": id_map, "overflowuid": str(NOBODY)}[path.name]
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    assert reason_of(monkeypatch, owner=owner) == (None if trusted else "/data belongs to another user")


def test_compiled_code_is_not_run_from_another_user_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In /tmp, whoever comes first has the name."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(execution, "short_parent", lambda _: tmp_path)
    keep_compiled_code_private()
    folder = Path(os.environ.pop("TORCHINDUCTOR_CACHE_DIR"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    if os.getuid() != 0:
        pytest.skip("another user's folder takes root to make")
    os.chown(folder, NOBODY, -1)
    with pytest.raises(UserError, match=f"of user {NOBODY}.*TORCHINDUCTOR_CACHE_DIR"):
        keep_compiled_code_private()
    assert not os.environ


def test_a_container_without_root_s_id_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, root's folders seem to be the unmapped user's."""
    monkeypatch.setattr(private, "_unmapped_id", lambda: 0)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(private, "_all_ids_are_mapped", lambda: False)
    assert open_to_others(Path("/tmp")) is None
