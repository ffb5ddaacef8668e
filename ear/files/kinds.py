"""What a file is by its content, for those found where a file of weights should be."""

import zipfile
from codecs import getincrementaldecoder
from pathlib import Path

from ear.files.writing import require_regular

BEGINNING = 512  # bytes that are looked at
SHOWN = 60  # characters of a text in a message
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ARCHIVES = {b"\x1f\x8b": "a gzip archive", b"BZh": "a bzip2 archive", b"\xfd7zXZ": "an xz archive"}


def is_safetensors(path: Path) -> bool:
    """Eight bytes of length, then a JSON object. False of a file that can't be read: whoever reads it says why."""
    try:
        beginning = _beginning(path)
    except OSError:
        return False
    return beginning[8:9] == b"{" and not _is_text(beginning)


def is_torch_file(path: Path) -> bool:
    """A zip archive, or a pickle, as torch.save writes and wrote them; whole or not."""
    return _beginning(path).startswith((b"PK\x03\x04", b"\x80"))


def other_content(path: Path) -> str | None:
    """A phrase that says what the file is and what to do, such as `empty: fetch it again`, where it is surely no file
    of weights; None where it may be one.

    Raises:
        OSError: there is no such file, or it can't be read.
    """
    if path.is_dir():
        return "a folder: name the file in it"
    beginning = _beginning(path)
    if not beginning:
        return "empty: fetch it again"
    text = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), which a site gave in the file's place: fetch the file itself"
    if beginning.startswith(LFS_POINTER):
        return "a Git LFS pointer, which stands for the file: `git lfs pull` in its repository fetches it"
    if beginning.startswith(b"PK\x03\x04"):
        return _other_zip(path)
    for start, kind in ARCHIVES.items():
        if beginning.startswith(start):
            return f"{kind}: unpack it"
    if beginning[257:262] == b"ustar":
        return "a tar archive: unpack it"
    if _is_text(beginning):
        line = beginning.decode(errors="ignore").strip().splitlines()[:1] or [""]
        return f"a text file that begins with {line[0][:SHOWN]!r}: fetch the file of weights itself"
    return None


def _other_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            records = archive.infolist()
    except zipfile.BadZipFile:
        return None  # torch.save's, perhaps, and cut short
    endings = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in endings:
        return "a TorchScript program, not weights: save its state_dict() with torch.save, and name that file"
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if "data.pkl" in endings and (packed or sum(record.file_size for record in records) > path.stat().st_size):
        # A file of a megabyte may stand for terabytes; torch.save's records lie one after another, as they are.
        return (
            "a packed archive, which torch.save does not write: unpack it, and zip its files again without compression"
        )
    if "data.pkl" in endings:
        return None
    return f"a zip archive that holds {names[0] if names else 'nothing'}: unpack it, and name the file of weights in it"


def _beginning(path: Path) -> bytes:
    require_regular(path)
    with path.open("rb") as file:
        return file.read(BEGINNING)


def _is_text(beginning: bytes) -> bool:
    try:
        text = getincrementaldecoder("utf-8")().decode(beginning)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n" for character in text)
