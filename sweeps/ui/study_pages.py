"""Optuna's dashboard on a search's study, for a WSGI server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.ui.page_access import Application


def study_pages(journal: str) -> "Application":
    from pathlib import Path

    import optuna_dashboard

    from sweeps.search.study import open_journal

    pages: Application = optuna_dashboard.wsgi(open_journal(Path(journal)))
    return pages
