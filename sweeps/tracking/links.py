"""Addresses of MLflow's pages on a sweep's runs (routes of MLflow 3.17)."""

from urllib.parse import urlencode, urlsplit, urlunsplit

from sweeps.spec.tags import KEY
from sweeps.tracking.run_view import VIEW

LOCAL = "http://127.0.0.1:5000"  # where `ear ui` serves by default


def pages_address(tracking_uri: str) -> str:
    """Returns where MLflow's pages are: on the tracking server, without its secrets, or where `ear ui` serves them."""
    if not tracking_uri.startswith(("http://", "https://")):
        return LOCAL
    address = urlsplit(tracking_uri)
    return urlunsplit((address.scheme, address.netloc.rpartition("@")[2], address.path.rstrip("/"), "", ""))


def runs_link(pages: str, experiment: str) -> str:
    """Returns the address of the table of a sweep's runs, as `run_view` shows them."""
    return _runs(pages, experiment, {"viewStateShareKey": VIEW})


def run_link(pages: str, experiment: str, key: str) -> str:
    """Returns the address of the table with the one run that has this evaluation key."""
    return _runs(pages, experiment, {"searchFilter": f"tags.`{KEY}`='{key}'"})


def _runs(pages: str, experiment: str, query: dict[str, str]) -> str:
    return f"{pages}/#/experiments/{experiment}/runs?{urlencode({'workflowType': 'machine_learning', **query})}"
