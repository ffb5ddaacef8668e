"""ear store list, gc, verify, migrate"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Json, Root
from ear.terminal.units import size

app = typer.Typer(help="Look at, tidy and check what has been computed.", no_args_is_help=True)

KEY_SHOWN = 12  # characters of a key, enough to tell results apart
ROWS_SHOWN = 50
MOST_NAMED = 5  # keys in one sentence


@app.command(name="list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help=f"All results, not the newest {ROWS_SHOWN}.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """List results: kind, size, age, and who uses them.

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
        marks = [{"used_by": users.get(entry.key, []), "outdated": entry.key in old} for entry in known]
        print(json.dumps([{**asdict(entry), **mark} for entry, mark in zip(known, marks, strict=True)], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("key", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for column in ("size", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("used by")
    for entry in known if everything else known[:ROWS_SHOWN]:
        table.add_row(
            entry.key[:KEY_SHOWN],
            entry.kind,
            size(entry.bytes) if entry.files else "?",
            age(entry.created),
            what(entry.kind, entry.details) + (", outdated" if entry.key in old else ""),
            ", ".join(users.get(entry.key, [])) or Text("nobody", "dim"),
        )
    console = terminal()
    console.print(table)
    hidden = 0 if everything else max(0, len(known) - ROWS_SHOWN)
    more = f", {hidden:,} of them not shown (--all)" if hidden else ""
    console.print(f"\n{len(known):,} results, {size(sum(entry.bytes for entry in known))}{more}.")
    if damaged:
        console.print(f"{len(damaged)} more can't be read: `ear store verify` says why.")
    if old:
        console.print(say_outdated(old), soft_wrap=True)


@app.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only say what would go.")] = False,
    forget: Annotated[
        list[str],
        typer.Option(
            "--forget",
            metavar="USER",
            help="Drop this user (as `list` names it), or all sweeps of a name; may be repeated.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Delete what no sweep, training, evaluation or report needs. Says what it would do, unless --yes is given.

    What is younger than an hour, or worked on, stays in any case.

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
        print(f"{entry.key[:KEY_SHOWN]}  {entry.kind:<10}  {size(entry.bytes):>8}  {what(entry.kind, entry.details)}")
    for path in garbage.leftovers:
        print(f"{path.name[:KEY_SHOWN]}  unfinished work")
    verb = "Deleted" if yes else "Would delete"
    print(
        f"{verb} {len(garbage.results)} results and {len(garbage.leftovers)} leftovers, {size(garbage.bytes)}. "
        f"{garbage.needed} results are needed, {garbage.young} are too new to tell."
    )
    if not yes and (garbage.results or garbage.leftovers):
        print("Do it with --yes.")


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove the damaged results, and all that rests on them.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Compare every file with the hash that it was published with; exit code 1 where one has changed or can't be read.

    Names what rests on a damaged result too, since it may have been computed from the damage. With --repair both are
    removed, and the commands that need them compute them anew; files that were not published are moved away. What
    can't be read, or is of a newer version, stays. Stop what works on the store first.

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
        verdict = verify_store(store, lambda: progress.advance(task))
    spent = lost_seconds(store, [*verdict.faults, *verdict.resting])
    moved = repair_store(store, verdict) if repair else []
    if as_json:
        print(json.dumps({**asdict(verdict), "repaired": repair, "moved": list(map(str, moved))}, indent=2))
    else:
        for key, faults in verdict.faults.items():
            print(f"{store.path(key)}: {'; '.join(faults)}")
        for key, damaged in {**verdict.resting, **verdict.unfinished}.items():
            print(f"{key}: rests on {', '.join(damaged)}, and may have been computed from the damage")
        for key, names in verdict.strays.items():
            print(f"{store.path(key)}: {', '.join(names)} {'does' if len(names) == 1 else 'do'} not belong there")
        for key, reason in verdict.untold.items():
            print(f"{key}: can't be told: {reason}")
        unknown = f", {verdict.unverifiable} are of an older version and can't be told" if verdict.unverifiable else ""
        unread = f", {len(verdict.untold)} can't be told as things are" if verdict.untold else ""
        print(f"{verdict.intact} results are intact, {len(verdict.faults)} are not{unknown}{unread}.")
        if verdict.faults:
            also = len(verdict.resting) + len(verdict.unfinished)
            rests = f", and with them {also} that rest on them" if also else ""
            took = f" They took {spent / 3600:.1f} hours to compute." if spent > 360 else ""
            if repair:
                print(f"Those were removed{rests}.{took} The commands that need them compute them anew.")
            else:
                print(
                    f"`ear store verify --repair` removes those that are not{rests}; the commands that need them "
                    f"compute them anew.{took}"
                )
        for folder in moved:
            print(f"What may be yours was moved to {folder}, until `ear store gc` deletes it.")
        if verdict.strays and not repair:
            print(
                f"In {len(verdict.strays)} results lie files that were not published: "
                f"`ear store verify --repair` moves them to {store.work}."
            )
        if verdict.untold:
            print("What can't be told stays as it is, and so does what rests on it: mend that, then verify again.")
        if verdict.outdated:
            print(say_outdated(verdict.outdated))
    if verdict.untold or ((verdict.faults or verdict.strays) and not repair):
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
            help="Look for evaluations' settings here too; may be repeated.",
        ),
    ] = [],  # noqa: B006 (typer copies it)
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Carry the results of an earlier version over to the names by which this one finds them; computes nothing.

    Every result is compared with the hashes that it was published with. What can't be carried over stays where it is,
    and is named with the reason; call it again with --configs where settings lie elsewhere. Stop what works on the
    store first; killed, the same command goes on.

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
        task = progress.add_task("carrying over", total=len(store.published()), note="")
        done = migrate_store(root, configs, lambda: progress.advance(task))
    if as_json:
        print(json.dumps(asdict(done), indent=2))
        return
    if not done.kinds:
        print(f"{store.folder} is of this version's format already: there is nothing to carry over.")
        return
    kinds = [done.kinds[key] for key in done.carried]
    print(
        f"Carried over: {kinds.count('training')} training stages, {kinds.count('evaluation')} evaluations and "
        f"{len(done.unfinished)} unfinished stages. {len(done.unchanged)} results have the same name as before."
    )
    for key, reason in done.left.items():
        print(f"Not carried over: {done.kinds.get(key, 'result')} {key[:KEY_SHOWN]}: {reason}.")
    if done.left:
        print("These stay where they are, and no command finds them any more: what needs them computes them anew.")
    if done.carried:
        print("Next:  ear sweep run FILE for each sweep, which trains nothing and brings MLflow up to the new names.")
    if done.lower:
        print(
            f"{done.lower} of these were made in bfloat16, as `precision: auto` was on a GPU: say so first, by "
            "`set: {execution.precision: bfloat16}` in FILE or --set execution.precision=bfloat16."
        )


def say_outdated(keys: Collection[str]) -> str:
    """How many evaluations are not served any more, which, why, and what to do."""
    from ear.store.outdated import WORDS

    named = ", ".join(key[:KEY_SHOWN] for key in sorted(keys)[:MOST_NAMED])
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return f"{len(keys)} evaluations ({named}{more}) were {WORDS}"


def what(kind: str, details: dict[str, object]) -> str:
    """What there is to say of a result in a few words."""
    if kind == "training":
        diverged = details.get("diverged_at")
        return f"diverged at step {diverged}" if diverged is not None else f"{details.get('step')} steps"
    return f"of {str(details['training'])[:KEY_SHOWN]}" if "training" in details else ""


def age(created: str) -> str:
    from datetime import UTC, datetime

    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
