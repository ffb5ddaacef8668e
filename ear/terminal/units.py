"""Formats quantities for people."""

from datetime import UTC, datetime


def size(count: float) -> str:
    """Format a number of bytes in the unit that fits: "4.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(hours: float) -> str:
    """Format a number of hours in the unit that fits: `40 s`, `15 min`, `3.5 h`."""
    if hours * 3600 < 100:
        return f"{hours * 3600:.0f} s"
    if hours < 3:
        return f"{hours * 60:.0f} min"
    return f"{quantity(hours)} h"


def quantity(value: float) -> str:
    """Format a number with two digits, or as a whole number from 10 on."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def clock(seconds: float | None) -> str:
    """Format seconds as `1:05` or `2:03:04`; empty for None."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def age(created: str) -> str:
    """Format the age of an ISO 8601 time in the unit that fits: "3 h"."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
