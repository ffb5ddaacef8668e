"""Formats quantities for people."""


def size(count: float) -> str:
    """Format a number of bytes in the unit that fits: "4.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
