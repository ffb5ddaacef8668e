"""The command line without a process of its own, in which to import torch anew would take seconds."""

import importlib
import io
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

command_line = importlib.import_module("ear.cli.main")  # of which ear.cli has the function of that name


@dataclass(frozen=True)
class Answer:
    code: int
    stdout: str
    stderr: str


def answer(*arguments: object, stderr: io.StringIO | None = None) -> Answer:
    """What `ear ...` prints and its exit code, with all that `main` makes of errors, warnings and interruptions."""
    out, error = io.StringIO(), stderr or io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(error):
        patch.setattr(sys, "argv", ["ear", *map(str, arguments)])
        patch.setattr(command_line, "os", SimpleNamespace(_exit=sys.exit))  # it would end these tests
        with pytest.raises(SystemExit) as end:
            command_line.main()
    code = end.value.code
    return Answer(code if isinstance(code, int) else int(code is not None), out.getvalue(), error.getvalue())


def ear(*arguments: object, code: int = 0) -> Answer:
    """The same, where this exit code is expected and no traceback."""
    given = answer(*arguments)
    assert given.code == code, given.stderr
    assert "Traceback" not in given.stderr
    return given
