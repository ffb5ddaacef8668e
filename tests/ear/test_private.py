"""Files and folders that no other user may read, write or replace."""

import os
import stat
from pathlib import Path

import pytest

from ear import execution, private
from ear.errors import UserError
from ear.execution import keep_compiled_code_private
from ear.private import keep_private, open_to_others, write_secret

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


def test_a_link_is_no_private_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"link can't be .* \(it is lrwxrwxrwx.*name another root with --root\."):
        keep_private(tmp_path / "link", "root with --root")


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
