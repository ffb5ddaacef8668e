"""ear store list, gc, verify, migrate"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Json, Root
from ear.terminal.printable import printable
from ear.terminal.units import age, size

app = typer.Typer(help="List, verify, clean up and migrate the results in the store.", no_args_is_help=True)

KEY_SHOWN = 12  # characters of a key, enough to tell results apart
ROWS_SHOWN = 50


@app.command(name="list")
def list_(
    everything: Annotated[
        bool, typer.Option("--all", help=f"List all results, not only the newest {ROWS_SHOWN}.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """List results with their kind, size, age, what distinguishes them, and their users.

    Of trainings and evaluations it shows the dataset, the seed, and the settings that most of those listed have
    differently; --json has all settings in which any of them differ.

    \b
    Examples:
      ear store list
      ear store list --all --json
    """
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from ear.store import Store
    from ear.store.collect import entries, needs_of, reachable
    from ear.store.outdated import outdated
    from ear.store.parameters import distinguishing, unusual
    from ear.store.uses import recorded_uses
    from ear.terminal.console import terminal

    store = Store(root, reading=True)
    damaged: list[str] = []
    known = entries(store, damaged)
    needs = {entry.key: needs_of(entry) for entry in known}
    users: dict[str, list[str]] = {}
    for use in recorded_uses(store):
        for key in reachable(use.keys, needs):
            users.setdefault(key, []).append(use.user)
    old = set(outdated(store, known))
    if as_json:
        settings = distinguishing(store, known)
        marks = [
            {
                "used_by": users.get(entry.key, []),
                "outdated": entry.key in old,
                "parameters": settings.get(entry.key, {}),
            }
            for entry in known
        ]
        print(json.dumps([{**asdict(entry), **mark} for entry, mark in zip(known, marks, strict=True)], indent=2))
        return
    shown = known if everything else known[:ROWS_SHOWN]
    settings = unusual(distinguishing(store, shown))
    table = Table(box=None, pad_edge=False)
    table.add_column("key", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for column in ("size", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("used by")
    for entry in shown:
        table.add_row(
            entry.key[:KEY_SHOWN],
            entry.kind,
            size(entry.bytes) if entry.files else "?",
            age(entry.created),
            Text(what(entry.kind, entry.details, settings.get(entry.key, {})))
            + Text(", outdated" if entry.key in old else ""),
            ", ".join(users.get(entry.key, [])) or Text("nobody", "dim"),
        )
    console = terminal()
    console.print(table)
    hidden = 0 if everything else max(0, len(known) - ROWS_SHOWN)
    more = f", {hidden:,} of them not shown (--all)" if hidden else ""
    console.print(f"\n{len(known):,} results, {size(sum(entry.bytes for entry in known))}{more}.")
    if damaged:
        console.print(f"{len(damaged)} more can't be read; `ear store verify` says why.")
    if old:
        console.print(say_outdated(old), soft_wrap=True)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without this, only print what would be deleted.")] = False,
    forget: Annotated[
        list[str],
        typer.Option(
            "--forget",
            metavar="USER",
            help="Drop this user (as named by `list`), or all sweeps of this name. Repeatable.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Delete results that no sweep, training, evaluation or report needs. Without --yes, only print them.

    Results younger than an hour, and those in use by a running process, always stay.

    \b
    Examples:
      ear store gc
      ear store gc --forget "sweep old" --yes
    """
    from ear.store import Store
    from ear.store.collect import collect, find_garbage

    store = Store(root)
    garbage = find_garbage(store, forget)
    if yes:
        collect(store, garbage, forget)
    if as_json:
        keys = [entry.key for entry in garbage.results]
        leftovers = [path.name for path in garbage.leftovers]
        print(json.dumps({"deleted": yes, "results": keys, "leftovers": leftovers, "bytes": garbage.bytes}, indent=2))
        return
    for entry in garbage.results:
        print(
            f"{entry.key[:KEY_SHOWN]}  {entry.kind:<10}  {size(entry.bytes):>8}  {what(entry.kind, entry.details, {})}"
        )
    for path in garbage.leftovers:
        print(f"{path.name[:KEY_SHOWN]}  unfinished")
    verb = "Deleted" if yes else "Would delete"
    print(
        f"{verb} {len(garbage.results)} results and {len(garbage.leftovers)} leftovers, {size(garbage.bytes)}. "
        f"{garbage.needed} results are needed, {garbage.young} are too new to decide."
    )
    if not yes and (garbage.results or garbage.leftovers):
        print("Add --yes to delete them.")


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove damaged results and all results that depend on them.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Compare every file with its hash at publication. Exit code 1 if one has changed or can't be read.

    Also names results that depend on a damaged one, since they may have been computed from damaged data. --repair
    removes both, and the commands that need them compute them again; it moves unpublished files out of the results.
    Results that can't be read, or that a newer version wrote, stay. Stop all processes that use the store first.

    \b
    Examples:
      ear store verify
      ear store verify --repair
    """
    from dataclasses import asdict

    from ear.store import Store
    from ear.store.repair import lost_seconds
    from ear.store.repair import repair as repair_store
    from ear.store.verify import verify as verify_store
    from ear.terminal.progress import progress_bar

    store = Store(root, reading=not repair)
    with progress_bar(disable=as_json) as progress:
        task = progress.add_task("verifying", total=len(store.published()), note="")
        found = verify_store(store, lambda: progress.advance(task))
    spent = lost_seconds(store, [*found.faults, *found.dependent])
    moved = repair_store(store, found) if repair else []
    if as_json:
        print(json.dumps({**asdict(found), "repaired": repair, "moved": list(map(str, moved))}, indent=2))
    else:
        for key, faults in found.faults.items():
            print(f"{store.path(key)}: {'; '.join(faults)}")
        for key, damaged in {**found.dependent, **found.unfinished}.items():
            print(f"{key}: depends on {', '.join(damaged)}, so it may have been computed from damaged data")
        for key, names in found.unpublished.items():
            print(f"{store.path(key)}: {', '.join(names)} {'was' if len(names) == 1 else 'were'} not published")
        for key, reason in found.unreadable.items():
            print(f"{key}: can't be verified: {reason}")
        unknown = f", {found.unverifiable} of an older version have no hashes to verify" if found.unverifiable else ""
        unread = f", {len(found.unreadable)} can't be verified now" if found.unreadable else ""
        print(f"{found.intact} results are intact, {len(found.faults)} are damaged{unknown}{unread}.")
        if found.faults:
            also = len(found.dependent) + len(found.unfinished)
            rests = f" and {also} results that depend on them" if also else ""
            took = f" They took {spent / 3600:.1f} hours to compute." if spent > 360 else ""
            if repair:
                print(f"Removed the damaged results{rests}.{took} The commands that need them compute them again.")
            else:
                print(
                    f"`ear store verify --repair` removes the damaged results{rests}; the commands that need them "
                    f"compute them again.{took}"
                )
        for folder in moved:
            print(f"Files that may be yours were moved to {folder}, where they stay until `ear store gc` deletes them.")
        if found.unpublished and not repair:
            print(
                f"{len(found.unpublished)} results contain files that were not published: "
                f"`ear store verify --repair` moves them to {store.work}."
            )
        if found.unreadable:
            print("Results that can't be verified, and those that depend on them, stay: fix the cause, verify again.")
        if found.outdated:
            print(say_outdated(found.outdated))
    if found.unreadable or ((found.faults or found.unpublished) and not repair):
        raise typer.Exit(1)


@app.command()
def migrate(
    configs: Annotated[
        list[Path],
        typer.Option(
            "--configs",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Search this folder for the settings of evaluations too. Repeatable.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Migrate the results of an earlier version to the keys of this version. Computes nothing.

    Verifies every result against its hashes first. A result that can't be migrated stays where it is, and the reason
    is printed; run it again with --configs if the settings are in another folder. Stop all processes that use the
    store first. If it is killed, the same command resumes it.

    \b
    Examples:
      ear store migrate --root runs
      ear store migrate --root runs --configs old_mlflow_artifacts
    """
    from dataclasses import asdict

    from ear.store import Store
    from ear.store.migrate import migrate as migrate_store
    from ear.terminal.progress import progress_bar

    with progress_bar(disable=as_json) as progress:
        store = Store(root, any_format=True)
        task = progress.add_task("migrating", total=len(store.published()), note="")
        done = migrate_store(root, configs, lambda: progress.advance(task))
    if as_json:
        print(json.dumps(asdict(done), indent=2))
        return
    if not done.kinds:
        print(f"{store.folder} already has this version's format: nothing to migrate.")
        return
    kinds = [done.kinds[key] for key in done.carried]
    print(
        f"Migrated: {kinds.count('training')} training stages, {kinds.count('evaluation')} evaluations and "
        f"{len(done.unfinished)} unfinished stages. {len(done.unchanged)} results keep their key."
    )
    for key, reason in done.left.items():
        print(f"Not migrated: {done.kinds.get(key, 'result')} {key[:KEY_SHOWN]}: {reason}.")
    if done.left:
        print("These stay where they are, but no command finds them: the commands that need them compute them again.")
    if done.carried:
        print("Next:  ear sweep run FILE for each sweep, which trains nothing and updates the keys in MLflow.")
    if done.lower:
        print(
            f"{done.lower} of these were computed in bfloat16, the meaning of `precision: auto` on a GPU: first set "
            "`set: {execution.precision: bfloat16}` in FILE or add --set execution.precision=bfloat16."
        )


def say_outdated(keys: Collection[str]) -> str:
    """Return a message on outdated evaluations: how many, which, why, and what to do."""
    from ear.store.key_prefix import MOST_NAMED
    from ear.store.outdated import WORDS

    named = ", ".join(key[:KEY_SHOWN] for key in sorted(keys)[:MOST_NAMED])
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return f"{len(keys)} evaluations ({named}{more}) were {WORDS}"


def what(kind: str, details: dict[str, object], settings: dict[str, object]) -> str:
    """Describe a result in a few words: its dataset, seed and settings, its steps or the training that it evaluates."""
    from ear.config.dotted import short_names  # imports pydantic

    names = short_names(list(settings))
    words = [str(value) if path == "data.name" else f"{names[path]}={value}" for path, value in settings.items()]
    if kind == "training":
        diverged = details.get("diverged_at")
        words.append(f"diverged at step {diverged}" if diverged is not None else f"{details.get('step')} steps")
    elif "training" in details:
        words.insert(0, f"of {str(details['training'])[:KEY_SHOWN]}")
    return printable(" ".join(words))
