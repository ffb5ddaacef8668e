"""The Ray cluster of a sweep on one machine: closed to others, and its trials see what is theirs."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import slurm
import sweeps

PROGRAM = """
import json, os, signal, stat
from pathlib import Path
from sweeps.ray_cluster import ray_cluster
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
print(json.dumps(Path(folder).exists()))
"""


def test_it_is_closed_and_trials_see_what_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "sweeps.py").write_text("raise ImportError('a file of the user')")
    (tmp_path / "slurm").mkdir()  # another checkout
    for name in ("__init__.py", "gang.py"):
        (tmp_path / "slurm" / name).touch()
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    seen, left = map(json.loads, done.stdout.splitlines())
    assert seen["none"] in ("", None, "NoDevFiles")
    assert seen["one"] in ("0", "1")
    assert seen["token"] == "-rw-------"
    assert [address.startswith("127.") for address in seen["addresses"]] == [True]
    assert not seen["dashboard"]
    assert left is False
    assert seen["code"] == [str(Path(package.__file__ or "").parent) for package in (sweeps, slurm)]
    assert signal.SIGHUP in seen["blocked"]  # a terminal that is closed sends it to all; trials are to save first
    assert seen["works_in"] == str(tmp_path)  # a relative path means the same in a trial
