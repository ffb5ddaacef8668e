"""The Ray cluster of a sweep on one machine: closed to others, and its trials see what is theirs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private.node import Node

import slurm
import sweeps
from sweeps.driver.ray_cluster import ClusterLost, require_alive, started_or_lost

NOBODY = 65534
PROGRAM = """
import json, os, signal, stat
from pathlib import Path
from sweeps.driver.ray_cluster import ClusterLost, ray_cluster, require_alive
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
MODULES = [("sweeps", "trial.trainable"), ("slurm", "gang")]
with ray_cluster(1, 2) as folder:
    import ray
    see = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    code = ray.remote(lambda: [__import__(f"{name}.{module}").__path__[0] for name, module in MODULES])
    print(json.dumps({
        "none": ray.get(see.options(num_gpus=0).remote()),
        "one": ray.get(see.options(num_gpus=1).remote()),
        "token": str(token),
        "mode": stat.filemode(token.stat().st_mode),
        "addresses": sorted({node["NodeManagerAddress"] for node in ray.nodes()}),
        "gcs": ray.get_runtime_context().gcs_address,
        "dashboard": ray._private.worker.get_dashboard_url(),
        "folder": str(folder),
        "code": ray.get(code.remote()),
        "blocked": ray.get(ray.remote(lambda: sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))).remote()),
        "works_in": ray.get(ray.remote(lambda: os.getcwd()).remote()),
    }), flush=True)
    input()  # while the cluster is attacked
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
JOIN = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
client.internal_kv_put(b"planted", b"code", True, b"fun")
print("in")
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
    program = "import time; print('begun', flush=True); time.sleep(60)"
    left = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert left.stdout is not None
    left.stdout.readline()  # before, its command line is not there yet
    with left.stdout, pytest.raises(ClusterLost, match=r"^Ray did not start \(Timed out\)$"), started_or_lost(tmp_path):
        raise RuntimeError("Timed out\nof something")
    assert left.wait(60) == -signal.SIGKILL


class Cluster:
    """A running one, and what its driver saw of it."""

    def __init__(self, seen: dict[str, Any]) -> None:
        self.seen = seen
        self.folder = Path(seen["folder"])
        (self.session,) = self.folder.glob("**/session_2*")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("works-in")
    (folder / "sweeps.py").write_text("raise ImportError('a file of the user')")
    (folder / "slurm").mkdir()  # another checkout
    for name in ("__init__.py", "gang.py"):
        (folder / "slurm" / name).touch()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    ) as driver:
        assert driver.stdout is not None
        yield Cluster({**json.loads(driver.stdout.readline()), "cwd": str(folder)})
        words, _ = driver.communicate("\n", timeout=60)
    assert driver.returncode == 0
    # Ray's own print on the raylet's end comes before or between.
    lost, left = (json.loads(line) for line in words.splitlines() if line.startswith(('"Ray', "true", "false")))
    assert lost == "Ray's process raylet was killed (SIGKILL)"
    assert left is False  # its folder


def test_it_is_closed_and_trials_see_what_is_theirs(cluster: Cluster) -> None:
    seen = cluster.seen
    assert seen["none"] in ("", None, "NoDevFiles")
    assert seen["one"] in ("0", "1")
    assert seen["mode"] == "-rw-------"
    assert [address.startswith("127.") for address in seen["addresses"]] == [True]
    assert not seen["dashboard"]
    assert seen["code"] == [str(Path(package.__file__ or "").parent) for package in (sweeps, slurm)]
    assert signal.SIGHUP in seen["blocked"]  # a terminal that is closed sends it to all; trials are to save first
    assert seen["works_in"] == seen["cwd"]  # a relative path means the same in a trial


def test_another_user_reaches_none_of_its_files(cluster: Cluster) -> None:
    """What gave him the token within a second: Ray reads the port of its control store from a file, and its processes
    write logs through links."""
    if os.getuid() != 0:
        pytest.skip("to become another user takes root")
    (port,) = cluster.session.glob("gcs_server_port_*")
    sockets = cluster.session / "sockets"
    for attack in (
        ["ls", cluster.folder],
        ["ls", cluster.session],
        ["cat", cluster.seen["token"]],
        ["cat", port],
        ["mv", port, f"{port}.old"],
        ["cp", "/etc/hostname", port],
        ["ln", "-sfn", "/etc/hostname", cluster.session / "logs" / "debug_state.txt"],
        ["touch", cluster.folder / "alive"],
        ["mv", cluster.folder, f"{cluster.folder}-away"],
        ["rm", "-r", sockets / "raylet"],
    ):
        done = as_nobody(*map(str, attack))
        assert done.returncode != 0, attack
        assert "Permission denied" in done.stderr or "Operation not permitted" in done.stderr, (attack, done.stderr)
    assert as_nobody("ls", str(cluster.folder.parent)).returncode == 0  # he is there, and can do what he may


def as_nobody(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[], timeout=30
    )


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_nobody_joins_without_its_token(token: str | None, cluster: Cluster) -> None:
    """Its control store listens on all addresses, and runs whatever those that it lets in send."""
    given = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    joining = subprocess.run(
        [sys.executable, "-P", "-c", JOIN, cluster.seen["gcs"]],
        capture_output=True,
        text=True,
        env=environment | given,
        timeout=60,
    )
    assert joining.stdout == ""
    assert "AuthenticationError" in joining.stderr or "Unauthenticated" in joining.stderr, joining.stderr


def test_its_owner_joins(cluster: Cluster) -> None:
    """So that the refusals above are the token's."""
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": cluster.seen["token"]}
    joining = subprocess.run(
        [sys.executable, "-P", "-c", JOIN, cluster.seen["gcs"]],
        capture_output=True,
        text=True,
        env=os.environ | given,
        timeout=60,
    )
    assert joining.stdout == "in\n", joining.stderr
