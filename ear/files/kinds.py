"""Detects the type of a file by its content, for files given as weights."""

import zipfile
from codecs import getincrementaldecoder
from pathlib import Path

from ear.files.writing import require_regular

BEGINNING = 512  # bytes that are read
SHOWN = 60  # characters of a text in a message
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ARCHIVES = {b"\x1f\x8b": "a gzip archive", b"BZh": "a bzip2 archive", b"\xfd7zXZ": "an xz archive"}


def is_safetensors(path: Path) -> bool:
    """Whether a file is a safetensors file: eight bytes of length, then a JSON object.

    False for a file that can't be read, since reading it later reports the reason.
    """
    try:
        beginning = _beginning(path)
    except OSError:
        return False
    return beginning[8:9] == b"{" and not _is_text(beginning)


def is_torch_file(path: Path) -> bool:
    """Whether a file is of torch.save, complete or not: a zip archive, or a pickle as older versions wrote."""
    return _beginning(path).startswith((b"PK\x03\x04", b"\x80"))


def other_content(path: Path) -> str | None:
    """Describe a file that is certainly not one of weights, and what to do, such as `empty: download it again`.

    None if it may be a file of weights.

    Raises:
        OSError: the file does not exist or can't be read.
    """
    if path.is_dir():
        return "a folder: give the file in it"
    beginning = _beginning(path)
    if not beginning:
        return "empty: download it again"
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), which a site sent instead of the file: download the file itself"
    if beginning.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the file itself: run `git lfs pull` in its repository"
    if beginning.startswith(b"PK\x03\x04"):
        return _other_zip(path)
    for start, kind in ARCHIVES.items():
        if beginning.startswith(start):
            return f"{kind}: unpack it"
    if beginning[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if _is_text(beginning):
        line = beginning.decode(errors="ignore").strip().splitlines()[:1] or [""]
        return f"a text file that begins with {line[0][:SHOWN]!r}: download the file of weights itself"
    return None


def _other_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            records = archive.infolist()
    except zipfile.BadZipFile:
        return None  # perhaps of torch.save, but truncated
    endings = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in endings:
        return "a TorchScript program, not weights: save its state_dict() with torch.save and give that file"
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if "data.pkl" in endings and (packed or sum(record.file_size for record in records) > path.stat().st_size):
        # A compressed file of a megabyte may expand to terabytes; torch.save stores its records uncompressed.
        return (
            "a packed archive, which torch.save does not write: unpack it and zip its files again without compression"
        )
    if "data.pkl" in endings:
        return None
    return f"a zip archive that contains {names[0] if names else 'nothing'}: unpack it and give the file of weights"


def _beginning(path: Path) -> bytes:
    require_regular(path)
    with path.open("rb") as file:
        return file.read(BEGINNING)


def _is_text(beginning: bytes) -> bool:
    try:
        text = getincrementaldecoder("utf-8")().decode(beginning)  # the last character may be truncated
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n" for character in text)
