"""A lease within one process, by a clock that the test moves; test_store_upkeep.py has several processes."""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ear.files import lease as lease_module
from ear.files.lease import LEASE_SECONDS, Lease


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / "leases" / "key.lease"


@pytest.fixture
def left(path: Path) -> Path:
    """An empty file, as a machine leaves that loses its power: filelock never takes it over."""
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Ours, in `now`; filelock's stays as it is."""
    now = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(lease_module, "time", SimpleNamespace(monotonic=lambda: now.now))
    return now


def test_one_holds_it_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_: float) -> None:
        raise AssertionError("acquire() waits")

    monkeypatch.setattr(time, "sleep", wait)
    with Lease(path) as first:
        assert first.acquire() is True
        assert first.acquire() is False  # it is held, though by us
        assert Lease(path).acquire() is False
    second = Lease(path)
    assert second.acquire() is True
    assert first.acquire() is False
    second.release()
    second.release()
    assert first.acquire() is True
    first.release()
    assert not path.exists()


def test_any_thread_releases_it(path: Path) -> None:
    """As the one that ends a trial, which is not the one that began it."""
    lease, held, released = Lease(path), threading.Event(), threading.Event()

    def work() -> None:
        lease.acquire()
        held.set()
        released.wait()

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    assert path.exists()
    lease.release()
    gone = not path.exists()
    released.set()
    thread.join()
    assert gone


def test_a_file_that_nobody_touches_lapses(left: Path, clock: SimpleNamespace) -> None:
    lease = Lease(left)
    assert lease.acquire() is False
    clock.now += 1.5 * LEASE_SECONDS
    assert lease.acquire() is False
    clock.now += 1
    assert lease.acquire() is True
    assert Lease(left).acquire() is False
    lease.release()


def test_a_file_that_is_touched_or_made_anew_does_not_lapse(left: Path, clock: SimpleNamespace) -> None:
    lease = Lease(left)
    assert lease.acquire() is False
    clock.now += LEASE_SECONDS
    os.utime(left, (1, 1))
    assert lease.acquire() is False
    clock.now += LEASE_SECONDS
    anew = left.with_name("anew")
    anew.touch()
    os.utime(anew, (1, 1))
    anew.rename(left)
    assert lease.acquire() is False
    clock.now += LEASE_SECONDS
    assert lease.acquire() is False
    clock.now += LEASE_SECONDS
    assert lease.acquire() is True
    lease.release()


def test_of_two_that_see_a_file_lapse_none_goes_unprotected(
    left: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, unlink = Lease(left), Path.unlink
    assert lease.acquire() is False
    clock.now += 2 * LEASE_SECONDS

    def second(path: Path, missing_ok: bool = False) -> None:
        path.exists() and unlink(path)  # the other one is a moment faster
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", second)
        assert lease.acquire() is True
    assert left.exists()
    lease.release()


def test_where_no_file_lapsed_none_is_deleted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the one that another has made just now."""

    def unlink(*_: object, **__: object) -> None:
        raise AssertionError("a file is deleted")

    lease = Lease(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        assert lease.acquire() is True
    lease.release()


def test_a_folder_that_takes_no_files_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lease = Lease(tmp_path / "file" / "key.lease")
    assert lease.acquire() is True
    lease.release()
