"""The `ear report` command."""

from pathlib import Path
from typing import Annotated

import typer

from ear.cli.options import DEFAULT_ROOT, Json, Root
from ear.errors import UserError


def report(
    names: Annotated[list[str], typer.Argument(metavar="SWEEP...", help="The sweeps' names, as in their YAML.")],
    root: Root = DEFAULT_ROOT,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write here (of several sweeps: to DIR/SWEEP), not to ROOT/SWEEP/report."),
    ] = None,
    columns: Annotated[
        str, typer.Option(metavar="METRICS", help="The metrics to show, e.g. fid,is,recall; table.csv has all.")
    ] = "",
    caption: Annotated[
        str, typer.Option(metavar="TEXT", help="The caption of the LaTeX table, if there is one sweep.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print the tables of sweeps beside the paper's, and write tables, figures and samples.

    The numbers come from the store; MLflow is not needed.

    \b
    Examples:
      ear report quickstart
      ear report alpha temperatures --out for_the_paper
      ear report alpha --columns fid,recall --caption "Influence of the exponent."
    """
    import json
    import os

    from ear.errors import import_extra

    for module in ("pandas", "matplotlib"):
        import_extra(module, "analysis")
    from analysis.page.report_page import write_pages
    from analysis.report import Layout, write_reports

    if caption and len(names) > 1:
        raise UserError("--caption is for one sweep: give each of several sweeps its own in its own call.")
    layout = Layout(list(dict.fromkeys(name.strip() for name in columns.split(",") if name.strip())), caption)
    reports = write_reports(names, root, out, layout)
    written = {each.results.name: each for each in reports}
    pages = write_pages(reports, root, out)
    if as_json:
        said = {
            name: {
                "incomplete": each.incomplete,
                "findings": each.findings,
                "files": [str(file) for file in each.files],
            }
            for name, each in written.items()
        }
        print(json.dumps(said if len(said) > 1 else next(iter(said.values()))))
        return
    for name, each in written.items():
        heading = [f"# {name}"] if len(written) > 1 else []
        parts = [*heading, each.incomplete, each.table, each.caption, each.findings]
        print(*(part for part in parts if part), sep="\n\n", end="\n\n")
        tables = [file for file in each.files if file.parent == each.folder]
        print("Files:", *(f"  {file}" for file in tables), sep="\n")
        if each.plots:
            print(f"  {each.plots[0].png.parent}{os.sep}    {len(each.plots)} figures, as PNG and PDF")
        print()
    print("Pages:" if len(pages) > 1 else "Page:", *(f"  {page}" for page in pages), sep="\n")
