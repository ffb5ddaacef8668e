"""Addresses of MLflow's pages on a sweep's runs (routes of MLflow 3.17)."""

from urllib.parse import urlencode

from sweeps.spec.tags import KEY, KIND

LOCAL = "http://127.0.0.1:5000"  # where `ear ui` serves by default


def pages_address(tracking_uri: str) -> str:
    """Returns where MLflow's pages are: on the tracking server, or where `ear ui` serves them."""
    return tracking_uri.rstrip("/") if tracking_uri.startswith(("http://", "https://")) else LOCAL


def runs_link(pages: str, experiment: str, metric: str = "fid", *, ascending: bool = True) -> str:
    """Returns the address of the table of a sweep's runs, without its parent run, sorted by a metric."""
    return _runs(pages, experiment, f"tags.`{KIND}`='run'", metric, ascending)


def run_link(pages: str, experiment: str, key: str) -> str:
    """Returns the address of the table with the one run that has this evaluation key."""
    return _runs(pages, experiment, f"tags.`{KEY}`='{key}'", "fid", True)


def _runs(pages: str, experiment: str, wanted: str, metric: str, ascending: bool) -> str:
    query = urlencode(
        {
            "workflowType": "machine_learning",
            "searchFilter": wanted,
            "orderByKey": f"metrics.`{metric}`",
            "orderByAsc": str(ascending).lower(),
        }
    )
    return f"{pages}/#/experiments/{experiment}/runs?{query}"
