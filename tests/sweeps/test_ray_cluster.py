"""The Ray cluster of a sweep on one machine: closed to others, and its trials see what is theirs."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray._private.node import Node

import slurm
import sweeps
from sweeps.ray_cluster import ClusterLost, require_alive, started_or_lost

PROGRAM = """
import json, os, signal, stat
from pathlib import Path
from sweeps.ray_cluster import ClusterLost, ray_cluster, require_alive
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
MODULES = [("sweeps", "trainable"), ("slurm", "gang")]
with ray_cluster(1, 2) as folder:
    import ray
    see = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    code = ray.remote(lambda: [__import__(f"{name}.{module}").__path__[0] for name, module in MODULES])
    print(json.dumps({
        "none": ray.get(see.options(num_gpus=0).remote()),
        "one": ray.get(see.options(num_gpus=1).remote()),
        "token": stat.filemode(token.stat().st_mode),
        "addresses": sorted({node["NodeManagerAddress"] for node in ray.nodes()}),
        "dashboard": ray._private.worker.get_dashboard_url(),
        "folder": str(folder),
        "code": ray.get(code.remote()),
        "blocked": ray.get(ray.remote(lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))).remote()),
        "works_in": ray.get(ray.remote(lambda: os.getcwd()).remote()),
    }))
    require_alive()
    (raylet,) = ray._private.worker.global_worker.node.all_processes["raylet"]
    raylet.process.kill()
    raylet.process.wait()
    try:
        require_alive()
    except ClusterLost as lost:
        print(json.dumps(str(lost)))
print(json.dumps(Path(folder).exists()))
"""


@pytest.mark.parametrize("kind", ["raylet", "gcs_server"])
def test_the_first_look_after_a_kill_sees_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ray's own list of its processes, of which some may go."""
    processes = {name: subprocess.Popen(["sleep", "60"]) for name in (kind, "log_monitor")}
    listed = SimpleNamespace(all_processes={name: [SimpleNamespace(process=each)] for name, each in processes.items()})
    node = SimpleNamespace(dead_processes=lambda: Node.dead_processes(listed))
    monkeypatch.setattr(ray._private.worker.global_worker, "node", node)
    for process in reversed(processes.values()):
        require_alive()
        process.kill()
        process.wait()
    with pytest.raises(ClusterLost, match=rf"^Ray's process {kind} was killed \(SIGKILL\)$"):
        require_alive()


def test_a_ray_that_does_not_start_leaves_no_process(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(tmp_path)])
    with pytest.raises(ClusterLost, match=r"^Ray did not start \(Timed out\)$"), started_or_lost(tmp_path):
        raise RuntimeError("Timed out\nof something")
    assert left.wait(60) == -signal.SIGKILL


def test_it_is_closed_and_trials_see_what_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "sweeps.py").write_text("raise ImportError('a file of the user')")
    (tmp_path / "slurm").mkdir()  # another checkout
    for name in ("__init__.py", "gang.py"):
        (tmp_path / "slurm" / name).touch()
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    seen, lost, left = map(json.loads, done.stdout.splitlines())
    assert lost == "Ray's process raylet was killed (SIGKILL)"
    assert seen["none"] in ("", None, "NoDevFiles")
    assert seen["one"] in ("0", "1")
    assert seen["token"] == "-rw-------"
    assert [address.startswith("127.") for address in seen["addresses"]] == [True]
    assert not seen["dashboard"]
    assert left is False
    assert seen["code"] == [str(Path(package.__file__ or "").parent) for package in (sweeps, slurm)]
    assert signal.SIGHUP in seen["blocked"]  # a terminal that is closed sends it to all; trials are to save first
    assert seen["works_in"] == str(tmp_path)  # a relative path means the same in a trial
