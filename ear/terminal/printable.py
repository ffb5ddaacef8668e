"""What comes from outside, as a terminal may print it."""

import unicodedata


def printable(text: str) -> str:
    """A text whose control characters are written out, `\\x1b` for one: in a file's or a sweep's name they would
    colour, erase or rename what stands on the terminal, or turn it round. Lines and tabs remain."""
    return "".join(
        each if each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf") else _escaped(each) for each in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
