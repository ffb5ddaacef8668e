"""Turns a sweep's runs into tables, figures, findings and verdicts. For notebooks: docs/library.md."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.results import load_results, load_runs

__all__ = ["load_results", "load_runs"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: pandas takes a second, which no other command than `ear report` needs.
    if name in __all__:
        from analysis import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
