"""The faults that mutation tests put into a module are those that tests were found not to notice."""

import ast

import pytest
from mutants import Mutant, mutants

SOURCE = '''\
"""A module."""

PLACE_ERRORS = {28, 30}
SETTINGS = {"auth": "token"}


def publish(path: Path, owner: int) -> bool:
    """It says so."""
    with path.open("α") as file:
        os.fsync(file.fileno())
    if path.stat().st_uid != owner:
        raise PermissionError(f"{path.name + 'x'} is {owner}'s")
    shutil.rmtree(path / "work")
    self.done = True
    return not path.exists()
'''


@pytest.fixture(scope="module")
def all_of_them() -> list[Mutant]:
    return mutants(SOURCE)


@pytest.mark.parametrize(
    ("line", "was", "becomes"),
    [
        ("PLACE_ERRORS = {28, 30}", "{28, 30}", "set()"),
        ('SETTINGS = {"auth": "token"}', '{"auth": "token"}', "{}"),
        ("os.fsync(file.fileno())", "os.fsync(file.fileno())", "None"),
        ("if path.stat().st_uid != owner:", "path.stat().st_uid != owner", "path.stat().st_uid == owner"),
        ("if path.stat().st_uid != owner:", "path.stat().st_uid != owner", "False"),
        ("if path.stat().st_uid != owner:", "path.stat().st_uid != owner", "True"),
        ('shutil.rmtree(path / "work")', 'shutil.rmtree(path / "work")', "None"),
        ("self.done = True", "self.done = True", "pass"),
        ("return not path.exists()", "not path.exists()", "path.exists()"),
    ],
)
def test_a_fault_that_was_not_noticed_is_among_them(
    line: str, was: str, becomes: str, all_of_them: list[Mutant]
) -> None:
    (found,) = [mutant for mutant in all_of_them if (mutant.was, mutant.becomes) == (was, becomes)]
    assert found.line == line
    assert SOURCE.splitlines()[found.number - 1].strip() == line
    assert found.source == SOURCE.replace(line, line.replace(was, becomes))
    assert found.function == ("publish" if found.number > 6 else "")


def test_each_mutant_is_another_module_that_python_can_read(all_of_them: list[Mutant]) -> None:
    found = [ast.dump(ast.parse(mutant.source)) for mutant in all_of_them]
    assert ast.dump(ast.parse(SOURCE)) not in found
    assert len(set(found)) == len(found)


def test_what_is_said_to_people_stays(all_of_them: list[Mutant]) -> None:
    assert not [mutant for mutant in all_of_them if "path.name" in mutant.was and "raise" not in mutant.line]
    assert not [mutant for mutant in all_of_them if "says" in mutant.was]
