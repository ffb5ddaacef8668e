"""What several tests of this folder need."""

import pytest

from sweeps.driver import scheduler as work


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated drivers look again at once at what another one works on."""
    monkeypatch.setattr(work, "RETRY_SECONDS", 0.0)
