"""Escapes control characters in text from outside."""

import unicodedata


def printable(text: str) -> str:
    """Escape the control characters in a text, except newlines and tabs, for example to `\\x1b`.

    In the name of a file or sweep they could change colours, erase text, rename the terminal or reverse the direction
    of text.
    """
    return "".join(
        each if each in "\n\t" or unicodedata.category(each) not in ("Cc", "Cf") else _escaped(each) for each in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
