"""ear schema"""

import json
from importlib.metadata import entry_points
from typing import Annotated

import typer


def schema(
    kind: Annotated[str, typer.Argument(metavar="run|sweep|slurm", help="The kind of YAML file.")],
) -> None:
    """Print the JSON schema of a YAML file, for editors to complete and check it.

    Example:  ear schema run > run.schema.json, then start the YAML file with
    # yaml-language-server: $schema=run.schema.json
    """
    from ear.errors import UserError

    schemas = {entry.name: entry for entry in entry_points(group="ear.schemas")}
    if kind not in schemas:
        raise UserError(f"There is no schema {kind!r}: choose one of {', '.join(sorted(schemas))}.")
    print(json.dumps(schemas[kind].load().model_json_schema(), indent=2))
