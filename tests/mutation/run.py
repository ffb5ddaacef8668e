"""Mutation tests of what guards data and access: puts small faults into those modules, and asks whether a test fails.

    python tests/mutation/run.py [MODULE ...]    of guards.yaml; all of them by default

A mutant that survives is a fault that nobody would notice: write a test that fails, or simplify the code. One that
changes nothing that matters is named in guards.yaml, with the reason. Exit code 1 where any other survives.

No file is changed: each mutant is a process forked from one that has imported what is slow, and in which Python's
import of that one module yields the mutant's source.
"""

import argparse
import importlib
import importlib.util
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

import yaml
from mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
GUARDS = Path(__file__).with_name("guards.yaml")
MAX_CPU_SECONDS = 60  # of an endless loop
MIN_SECONDS = 120  # after which a wait is taken for endless; longer where the tests themselves take long


class MutantLoader(SourceFileLoader):
    """Yields a mutant's code as a module."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        super().__init__(module, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None


def start(path: Path, source: str, tests: Sequence[str], folder: Path, seconds: int) -> int:
    """Forks a process that runs the tests with this source of the module at `path`; ends with pytest's exit code."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(seconds)  # 0: never
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    os.environ["PYTHONPATH"] = str(ROOT)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    sys.meta_path.insert(0, MutantLoader(module, path, source))  # type: ignore[arg-type]
    code = 70
    try:
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tests'}", "--hypothesis-seed=0"]
        code = int(pytest.main([*options, *tests]))
    finally:
        sys.stdout.flush()
        os._exit(code)
    raise AssertionError


def survivors(path: Path, found: Sequence[Mutant], tests: Sequence[str], jobs: int, folder: Path) -> list[Mutant]:
    """The mutants that no test notices; raises where the tests fail without a mutant."""
    waiting = list(enumerate([Mutant(0, "", "", "", "", path.read_text(encoding="utf-8")), *found]))
    running: dict[int, tuple[int, Mutant]] = {}
    alive = []
    seconds, started = 0, time.monotonic()
    while waiting or running:
        while waiting and len(running) < (1 if waiting[0][0] < 2 else jobs):
            number, mutant = waiting.pop(0)
            place = folder / str(number)
            place.mkdir()
            running[start(path, mutant.source, tests, place, seconds)] = number, mutant
        process, status = os.wait()
        number, mutant = running.pop(process)
        code = os.waitstatus_to_exitcode(status)
        if number == 0 and code != 0:
            raise SystemExit((folder / "0" / "output").read_text() + f"{path}: its tests fail without any mutant")
        if number == 0:
            seconds = int(MIN_SECONDS + 10 * (time.monotonic() - started))
        elif code == 0:
            alive.append(mutant)
    return sorted(alive, key=lambda mutant: mutant.number)


def is_equivalent(mutant: Mutant, entry: dict[str, str]) -> bool:
    """Whether an entry of guards.yaml names it: by its line, and where that says not enough by function and change."""
    mine = {
        "line": mutant.line.partition("  #")[0],
        "in": mutant.function,
        "change": change(mutant),
        "because": entry["because"],
    }
    return entry.items() <= mine.items()


def change(mutant: Mutant) -> str:
    return " ".join(f"{mutant.was} -> {mutant.becomes}".split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    guards = yaml.safe_load(GUARDS.read_text(encoding="utf-8"))
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(guards))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if unknown := sorted(set(given.modules) - set(guards)):
        parser.error(f"{', '.join(unknown)}: not in {GUARDS}")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True
    failed = False
    for module in given.modules or guards:
        for name in ["pytest", "hypothesis", *guards[module].get("imports", [])]:
            importlib.import_module(name)
        failed |= not report(module, guards[module], given.jobs)
    return int(failed)


def report(module: str, guard: dict[str, list], jobs: int) -> bool:  # type: ignore[type-arg]
    """Whether all its mutants are noticed or known to be equivalent, each of those by an entry that is needed."""
    path, entries = ROOT / module, guard.get("equivalent", [])
    found, started = mutants(path.read_text(encoding="utf-8")), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="m") as folder:
        alive = survivors(path, found, guard["tests"], jobs, Path(folder))
    used: Counter[int] = Counter()
    unknown = []
    for mutant in alive:
        named = [number for number, entry in enumerate(entries) if is_equivalent(mutant, entry)]
        used.update(named)
        if not named:
            unknown.append(mutant)
    seconds = time.monotonic() - started
    counts = f"{len(found) - len(alive)} killed, {len(alive) - len(unknown)} equivalent, {len(unknown)} survived"
    print(f"{module}: {len(found)} mutants, {counts}, {seconds:.0f} s")
    for mutant in unknown:
        print(f"  {module}:{mutant.number}: {mutant.line}\n      {change(mutant)}")
    idle = [entry["line"] for number, entry in enumerate(entries) if not used[number]]
    for line in idle:
        print(f"  guards.yaml: no mutant of this line survives, so it needs no reason: {line}")
    sys.stdout.flush()
    return not unknown and not idle


if __name__ == "__main__":
    sys.exit(main())
