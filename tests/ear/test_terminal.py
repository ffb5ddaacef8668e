"""What users call things is printed as it is: no markup, no command to the terminal."""

import ast
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, Group
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

import ear
from ear.terminal.console import terminal
from ear.terminal.printable import printable
from ear.terminal.progress import progress_bar

PACKAGES = Path(ear.__file__).parents[1]
NAMES = ["x=[red]", "[/b]", "[bold]a[/bold]", ":smile:", "[link=http://a]b[/link]"]


def printed(console: Console, *what: object) -> str:
    text = StringIO()
    console.file = text
    console.print(*what)
    return text.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_markup(name: str) -> None:
    table, tree = Table(title=name), Tree(name)
    table.add_column(name)
    table.add_row(name)
    tree.add(name)
    for what, count in ((name, 1), (table, 3), (tree, 2)):
        assert printed(terminal(), what).count(name) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_s_words_are_no_markup(name: str) -> None:
    bar = progress_bar()
    bar.add_task(name, note=name, total=1)
    assert printed(terminal(), bar.get_renderable()).count(name) == 2


def test_control_characters_are_written_out() -> None:
    assert printable("a\tb\nα 日本 \x1b[31m\x07\x9b\u202e") == "a\tb\nα 日本 \\x1b[31m\\x07\\x9b\\u202e"
    table = Table(box=None)
    table.add_row("a\x1b]0;b\x07")
    assert "a\\x1b]0;b\\x07" in printed(terminal(), table)


def test_whatever_is_printed_has_its_control_characters_written_out() -> None:
    name = "a\x1b[31mb\u202ec"
    styled = Text("x").append(name, "green")
    table, tree, bar = Table(title=Text(name)), Tree(styled), progress_bar()
    table.add_column(styled)
    table.add_row(styled, name)
    tree.add(Text(name, "bold"))
    bar.add_task(name, note=name, total=1)
    spinner = Spinner("dots", Text(name))
    for what in (Text(name), styled, table, Group(table, styled), tree, bar.get_renderable(), spinner):
        text = printed(terminal(), Text(name), what)
        assert text.count("a\\x1b[") >= 2  # a bar crops the rest
        assert printable(text) == text


def test_a_table_keeps_its_width_whatever_is_in_it() -> None:
    table = Table()
    table.add_row(Text("a\x1b[31m"), "b")
    assert len({len(line) for line in printed(terminal(), table).splitlines()}) == 1


@pytest.mark.parametrize("package", ["ear", "sweeps", "slurm", "analysis"])
def test_nothing_is_printed_by_another_console(package: str) -> None:
    makers = [
        path
        for path in (PACKAGES / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console"
    ]
    assert makers == []
