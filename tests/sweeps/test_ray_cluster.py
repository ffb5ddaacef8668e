"""The Ray cluster of a sweep on one machine: closed to others, and its trials see what is theirs."""

import json
import subprocess
import sys

PROGRAM = """
import json, os, stat
from pathlib import Path
from sweeps.ray_cluster import ray_cluster
os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
with ray_cluster(1, 2) as folder:
    import ray
    see = ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    print(json.dumps({
        "none": ray.get(see.options(num_gpus=0).remote()),
        "one": ray.get(see.options(num_gpus=1).remote()),
        "token": stat.filemode(token.stat().st_mode),
        "addresses": sorted({node["NodeManagerAddress"] for node in ray.nodes()}),
        "dashboard": ray._private.worker.get_dashboard_url(),
        "folder": str(folder),
    }))
print(json.dumps(Path(folder).exists()))
"""


def test_it_is_closed_and_trials_see_what_is_theirs() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen, left = map(json.loads, done.stdout.splitlines())
    assert seen["none"] in ("", None, "NoDevFiles")
    assert seen["one"] in ("0", "1")
    assert seen["token"] == "-rw-------"
    assert [address.startswith("127.") for address in seen["addresses"]] == [True]
    assert not seen["dashboard"]
    assert left is False
