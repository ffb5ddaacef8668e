"""Quantities in the unit that fits them, for people."""


def size(count: float) -> str:
    """Bytes: 4.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
