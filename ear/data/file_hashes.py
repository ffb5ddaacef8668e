"""SHA-256 of the files in a folder, with a cache so that an unchanged file is read only once.

    ~/.cache/ear/hashes/FOLDER.npz    (XDG_CACHE_HOME) names, stamps and hashes of the files in one folder

A stamp is a file's size, inode, modification time and inode change time, so resetting the modification time does not
hide a change. If the cache is deleted or damaged, it is rebuilt. The hashes of a folder on a local disk are cached per
machine, since other machines may have another folder at the same path. If several processes need the same hashes, one
reads the files and the others wait; a process that is killed keeps what it has read so far.

Dimensions: N files.
"""

import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event

import numpy as np
from numpy.typing import NDArray

from ear.config.hashing import digest
from ear.errors import UserError
from ear.files.hashes import file_sha256
from ear.files.lease import Lease
from ear.files.writing import is_on_own_disk, write_atomically
from ear.process.cpus import usable_cpus
from ear.process.interrupt import StoppedError
from ear.process.user_cache import cache_folder
from ear.terminal.progress import progress_bar

Stamps = NDArray[np.int64]  # [N, 4]
Hashes = NDArray[np.uint8]  # [N, 32]

BLOCK = 64  # most files that a thread takes at a time
BLOCK_BYTES = 64 * 2**20  # most bytes that a thread takes at a time, unless a single file is larger
THREADS = 32  # most threads; they mainly wait for disks
SAVE_SECONDS = 60.0
POLL_SECONDS = 1.0
SETTLED_NS = 2 * 10**9  # with coarse clocks, a file changed this recently may change again without a new stamp
WORTH_A_BAR = 10**9  # bytes from which a progress bar is shown
NO_STAMP = (-1, -1, -1, -1)  # of a missing file, and of one that is not in the cache


@dataclass
class _Known:
    """The cached stamps and hashes of a folder's files."""

    names: tuple[str, ...]
    stamps: Stamps
    hashes: Hashes


def file_hashes(folder: Path, names: Sequence[str], stop: Callable[[], bool] = lambda: False) -> Hashes:
    """The SHA-256 hashes [N, 32] of the files `names` in a folder; zeros for a file that can't be read.

    Args:
        stop: called between files; return True to stop. The hashes computed so far are cached.

    Raises:
        UserError: a file changed while it was read.
        StoppedError: `stop` returned True.
    """
    stamps = _stamps(folder, names)
    found = _remembered(folder, names, stamps)
    if not _missing(found, stamps).size:
        return found.hashes
    memory = _memory(folder)
    lease, seen = Lease(memory.with_suffix(".lease")), _version(memory)
    while not lease.acquire():
        if stop():
            raise StoppedError
        time.sleep(POLL_SECONDS)
        if (version := _version(memory)) != seen:  # the process that reads has updated the cache
            seen, found = version, _remembered(folder, names, stamps)
            if not _missing(found, stamps).size:
                return found.hashes
    with lease:
        found = _remembered(folder, names, stamps)
        if (missing := _missing(found, stamps)).size:
            _read(folder, found, stamps, missing, stop)
    return found.hashes


def hexadecimal(row: NDArray[np.uint8]) -> str:
    """Format a row of `file_hashes` as sha256sum prints it; "" for a file that can't be read."""
    return row.tobytes().hex() if row.any() else ""


def unread(folder: Path, names: Sequence[str]) -> int:
    """The number of files that `file_hashes` would have to read now."""
    stamps = _stamps(folder, names)
    return len(_missing(_remembered(folder, names, stamps), stamps))


def _memory(folder: Path) -> Path:
    place = folder.resolve()
    machine = [socket.gethostname()] if is_on_own_disk(place) else []
    return cache_folder() / "hashes" / f"{digest([str(place), *machine])[:32]}.npz"


def _version(memory: Path) -> tuple[int, int] | None:
    try:
        status = memory.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _stamps(folder: Path, names: Sequence[str]) -> Stamps:
    def stamps_of(block: range) -> list[tuple[int, int, int, int]]:
        return [_stamp(folder / names[number]) for number in block]

    with ThreadPoolExecutor(THREADS) as pool:
        rows = [row for block in pool.map(stamps_of, _blocks([0] * len(names))) for row in block]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _stamp(path: Path) -> tuple[int, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return NO_STAMP
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (2**63 - 1)


def _blocks(sizes: Sequence[int]) -> Iterator[range]:
    """Split consecutive files of these sizes in bytes into blocks for threads: many small files, or few large ones."""
    start, content = 0, 0
    for number, size in enumerate(sizes):
        if number > start and (number - start == BLOCK or content + size > BLOCK_BYTES):
            yield range(start, number)
            start, content = number, 0
        content += size
    if start < len(sizes):
        yield range(start, len(sizes))


def _remembered(folder: Path, names: Sequence[str], stamps: Stamps) -> _Known:
    """The cached rows of these files. A file that is not in the cache has NO_STAMP."""
    found = _Known(tuple(names), np.full_like(stamps, -1), np.zeros((len(names), 32), dtype=np.uint8))
    known = _load(_memory(folder))
    if known is None:
        return found
    known.hashes[(known.stamps == NO_STAMP).all(axis=1)] = 0  # of files that were too recent to be cached
    if known.names == found.names:
        return known
    rows = {name: row for row, name in enumerate(known.names)}
    places = np.array([rows.get(name, -1) for name in names], dtype=np.int64)
    there = places >= 0
    found.stamps[there], found.hashes[there] = known.stamps[places[there]], known.hashes[places[there]]
    return found


def _load(path: Path) -> _Known | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = tuple(arrays["names"].tobytes().decode("utf-8", "surrogateescape").split("\0"))
            known = _Known(names, arrays["stamps"], arrays["hashes"])
    except Exception:  # numpy and zipfile raise all kinds of errors on damaged bytes
        return None
    is_whole = known.stamps.shape == (len(names), 4) and known.hashes.shape == (len(names), 32)
    return known if is_whole and known.stamps.dtype == np.int64 and known.hashes.dtype == np.uint8 else None


def _missing(known: _Known, stamps: Stamps) -> NDArray[np.int64]:
    """The rows [M] of files that must be read."""
    return np.flatnonzero((known.stamps != stamps).any(axis=1))


def _read(folder: Path, known: _Known, stamps: Stamps, missing: NDArray[np.int64], stop: Callable[[], bool]) -> None:
    """Read the missing files, fill in their rows and cache them, even if the call is interrupted."""
    sizes = stamps[missing, 0].clip(0).tolist()

    def read(block: range) -> tuple[NDArray[np.int64], Hashes]:
        rows = missing[block.start : block.stop]
        hashes = np.zeros((len(rows), 32), dtype=np.uint8)
        for number, row in enumerate(rows.tolist()):
            if over.is_set():  # the rest of the block stays unknown
                break
            hashes[number] = _hash(folder / known.names[row], stamps[row])
        return rows, hashes

    def take(rows: NDArray[np.int64], hashes: Hashes) -> None:
        # By the inode change time, which can't be set: the modification time may even be in the future.
        remembered = (time.time_ns() - stamps[rows, 2] > SETTLED_NS) & hashes.any(axis=1)
        known.hashes[rows], known.stamps[rows] = hashes, np.where(remembered[:, None], stamps[rows], NO_STAMP)

    over = Event()
    done: SimpleQueue[Future[tuple[NDArray[np.int64], Hashes]]] = SimpleQueue()
    pool = ThreadPoolExecutor(min(THREADS, 4 * usable_cpus()))
    saved = time.monotonic()
    try:
        for block in _blocks(sizes):
            pool.submit(read, block).add_done_callback(done.put)
        with progress_bar(disable=sum(sizes) < WORTH_A_BAR) as progress:
            if sum(sizes) >= WORTH_A_BAR:
                progress.console.print(
                    f"Hashing {len(missing):,} files of {folder} to identify them by content "
                    f"({sum(sizes) / 1e9:.0f} GB, only once: cached in {_memory(folder)})."
                )
            task, left = progress.add_task("reading", total=len(missing), note=""), len(missing)
            while left:
                if stop():
                    raise StoppedError
                try:
                    rows, hashes = done.get(timeout=POLL_SECONDS).result()
                except Empty:
                    continue
                take(rows, hashes)
                left -= len(rows)
                progress.advance(task, len(rows))
                if time.monotonic() - saved > SAVE_SECONDS:
                    _save(folder, known)
                    saved = time.monotonic()
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)
        while not done.empty():
            if not (future := done.get()).cancelled() and future.exception() is None:
                take(*future.result())
        _save(folder, known)


def _hash(path: Path, stamp: Stamps) -> NDArray[np.uint8]:
    try:
        found = bytes.fromhex(file_sha256(path))
    except OSError:
        return np.zeros(32, dtype=np.uint8)
    if _stamp(path) != tuple(stamp.tolist()):
        raise UserError(f"{path} changed while it was read: try again when nothing changes its folder.")
    return np.frombuffer(found, dtype=np.uint8)


def _save(folder: Path, known: _Known) -> None:
    """Write the cache; if that fails, warn that every command will read the files again."""
    names = np.frombuffer("\0".join(known.names).encode("utf-8", "surrogateescape"), dtype=np.uint8)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, names=names, stamps=known.stamps, hashes=known.hashes)

    memory = _memory(folder)
    try:
        write_atomically(memory, save)
    except OSError as error:
        _warn_of_no_memory(memory.parent, error.strerror or str(error))


@cache
def _warn_of_no_memory(folder: Path, reason: str) -> None:
    warnings.warn(
        f"{folder} can't be written ({reason}), so every command reads the same files again to identify them by "
        "content: set XDG_CACHE_HOME to a writable folder.",
        stacklevel=2,
    )
