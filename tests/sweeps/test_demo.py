"""The demo's claims, on the real quickstart sweep (minutes)."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.results import load_results

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_collapse_at_alpha_two_reproduces(tmp_path: Path) -> None:
    ear = Path(sys.executable).parent / "ear"
    subprocess.run([ear, "sweep", "run", ROOT / "sweeps" / "quickstart.yaml", "--root", tmp_path], check=True)
    frame = load_results("quickstart", tmp_path).frame.set_index("scoring.alpha")
    assert frame["fid"][2.0] >= 2 * frame["fid"].min()
    assert frame["recall"][2.0] < 0.05
    assert frame["is_null"][2.0] < 3
    assert frame["recall"][1.0] > 0.6
