"""The `ear report` command."""

from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Json, Root


def report(
    name: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's name, as in its YAML.")],
    root: Root = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Print a sweep's table beside the paper's, and write the table, a figure and samples.

    Example:  ear report quickstart
    """
    import json

    from ear.errors import import_extra

    for module in ("pandas", "matplotlib"):
        import_extra(module, "analysis")
    from analysis.report import write_report

    written = write_report(name, root)
    if as_json:
        said = {"incomplete": written.incomplete, "findings": written.findings}
        print(json.dumps({**said, "files": [str(file) for file in written.files]}))
        return
    if written.incomplete:
        print(written.incomplete, end="\n\n")
    print(written.table, written.caption, written.findings, sep="\n\n")
    print("\nFiles:", *(f"  {file}" for file in written.files), sep="\n")
