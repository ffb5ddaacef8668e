"""Optuna's dashboard on a study, as a WSGI application."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.ui.page_access import Application


def study_pages(journal: str) -> "Application":
    """Returns the dashboard's WSGI application for a study's journal file."""
    from pathlib import Path

    import optuna_dashboard

    from sweeps.search.study import open_journal

    pages: Application = optuna_dashboard.wsgi(open_journal(Path(journal)))
    return pages
