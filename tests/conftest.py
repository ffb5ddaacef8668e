"""What holds for all tests."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where EAR_NO_SKIPS=1 says that everything must run, a test that is skipped (no Slurm, no disk to mount) fails."""
    report = yield
    if report.skipped and os.environ.get("EAR_NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        report.outcome = "failed"
        report.longrepr = f"{reason} (EAR_NO_SKIPS=1: nothing may be skipped here)"
    return report
