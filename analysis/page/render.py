"""Renders a page as HTML: one file, no network, no script."""

import base64
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from analysis.page.content import Page

# Browsers then load nothing from anywhere, whatever a name or a log may contain.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(page: Page) -> str:
    """Returns the page as HTML. The same content gives the same bytes.

    Raises:
        OSError: a picture can't be read.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_uri"] = data_uri
    template = environment.from_string(_resource("page.html"))
    return template.render(page=page, style=_resource("page.css"), policy=POLICY)


def data_uri(picture: Path) -> str:
    """Returns a PNG file as an address that contains it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


def _resource(name: str) -> str:
    return resources.files("analysis.page").joinpath(name).read_text(encoding="utf-8")
