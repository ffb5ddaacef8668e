"""SHA-256 of the files of a folder, each read once as long as it is not touched.

    ~/.cache/ear/hashes/FOLDER.npz    (XDG_CACHE_HOME) names, stamps and hashes of one folder's files

A stamp is size, inode, and times of the last change of content and of the inode: whoever changes a file and puts its
time back is found out too. The file is a memory only: deleted or damaged, it is made anew. Of many processes that want
the same hashes one reads and the others wait, on whatever machine; one that is killed leaves what it has read.

Dimensions: N files.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ear.config.hashing import digest
from ear.errors import UserError
from ear.files import write_atomically
from ear.lease import Lease
from ear.progress import progress_bar

Stamps = NDArray[np.int64]  # [N, 4]
Hashes = NDArray[np.uint8]  # [N, 32]

BLOCK = 256  # files that a thread takes at a time
THREADS = 32  # at most: they wait for disks
SECONDS_BETWEEN_SAVES = 120.0
SECONDS_BETWEEN_LOOKS = 1.0
SETTLED_NS = 2 * 10**9  # a file touched so lately may be touched again without another stamp, where clocks are coarse
WORTH_A_BAR = 10**9  # bytes


@dataclass
class _Known:
    """What is remembered of a folder."""

    names: tuple[str, ...]
    stamps: Stamps
    hashes: Hashes


def file_hashes(folder: Path, names: Sequence[str]) -> Hashes:
    """Of these files, in their order.

    Raises:
        UserError: one can't be read, or changes while it is.
    """
    stamps = _stamps(folder, names)
    found = _remembered(folder, names, stamps)
    if not _missing(found, stamps).size:
        return found.hashes
    lease = Lease(_memory(folder).with_suffix(".lease"))
    while not lease.acquire():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    with lease:
        found = _remembered(folder, names, stamps)
        if (missing := _missing(found, stamps)).size:
            _read(folder, found, stamps, missing)
    return found.hashes


def unread(folder: Path, names: Sequence[str]) -> int:
    """How many of these files `file_hashes` would have to read now."""
    stamps = _stamps(folder, names)
    return len(_missing(_remembered(folder, names, stamps), stamps))


def _memory(folder: Path) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ear" / "hashes" / f"{digest(str(folder.absolute()))[:32]}.npz"


def _stamps(folder: Path, names: Sequence[str]) -> Stamps:
    """
    Raises:
        UserError: one of them is not there.
    """

    def stamps_of(block: range) -> list[tuple[int, int, int, int]]:
        return [_stamp(folder / names[number]) for number in block]

    with ThreadPoolExecutor(THREADS) as pool:
        rows = [row for block in pool.map(stamps_of, _blocks(len(names))) for row in block]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _stamp(path: Path) -> tuple[int, int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): mend its permissions, or remove it.") from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (2**63 - 1)


def _blocks(count: int) -> Iterator[range]:
    return (range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _remembered(folder: Path, names: Sequence[str], stamps: Stamps) -> _Known:
    """A row for each of the names; one that is not known, or not any more, has no stamp that a file can have."""
    found = _Known(tuple(names), np.full_like(stamps, -1), np.zeros((len(names), 32), dtype=np.uint8))
    known = _load(_memory(folder))
    if known is None:
        return found
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
    except Exception:  # numpy and zipfile meet damaged bytes with errors of any class
        return None
    is_whole = known.stamps.shape == (len(names), 4) and known.hashes.shape == (len(names), 32)
    return known if is_whole and known.stamps.dtype == np.int64 and known.hashes.dtype == np.uint8 else None


def _missing(known: _Known, stamps: Stamps) -> NDArray[np.int64]:
    """Rows [M] of files that have to be read."""
    return np.flatnonzero((known.stamps != stamps).any(axis=1))


def _read(folder: Path, known: _Known, stamps: Stamps, missing: NDArray[np.int64]) -> None:
    """Fills in the missing rows, and remembers them, those of an interrupted call too."""
    total = int(stamps[missing, 0].sum())
    saved = time.monotonic()

    def read(block: range) -> range:
        for row in missing[block.start : block.stop].tolist():
            known.hashes[row] = _hash(folder / known.names[row], stamps[row])
            settled = time.time_ns() - int(stamps[row, 1:3].max()) > SETTLED_NS
            known.stamps[row] = stamps[row] if settled else -1
        return block

    pool = ThreadPoolExecutor(min(THREADS, 4 * len(os.sched_getaffinity(0))))
    try:
        with progress_bar(disable=total < WORTH_A_BAR) as progress:
            if total >= WORTH_A_BAR:
                progress.console.print(
                    f"Reading {len(missing):,} files of {folder} to know them by their content "
                    f"({total / 1e9:.0f} GB, once: {_memory(folder)} remembers)."
                )
            task = progress.add_task("reading", total=len(missing), note="")
            for block in pool.map(read, _blocks(len(missing))):
                progress.advance(task, len(block))
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    _save(folder, known)
                    saved = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)
        _save(folder, known)


def _hash(path: Path, stamp: Stamps) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as file:
            found = file_digest(file, "sha256").digest()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): mend its permissions, or remove it.") from error
    if _stamp(path) != tuple(stamp.tolist()):
        raise UserError(f"{path} was changed while it was read: try again when its folder is at rest.")
    return np.frombuffer(found, dtype=np.uint8)


def _save(folder: Path, known: _Known) -> None:
    """Where it can be written; else the files are read again by the next command."""
    names = np.frombuffer("\0".join(known.names).encode("utf-8", "surrogateescape"), dtype=np.uint8)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, names=names, stamps=known.stamps, hashes=known.hashes)

    try:
        write_atomically(_memory(folder), save)
    except OSError:
        return
