"""The parts of a job: what it was granted, how its tasks meet, whether it gets on, and when it gives up."""

import math
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PosixPath
from unittest.mock import MagicMock

import pytest
import torch

from ear.config import load_config
from ear.errors import UserError
from ear.files.writing import is_there
from ear.training.checkpoint import CheckpointHeader, save_checkpoint
from slurm.allocation import Allocation
from slurm.attempts import Attempts, FruitlessError
from slurm.job import EarJob, make_scratch, seconds_since
from slurm.message_board import MessageBoard
from slurm.ports import PORTS, free_port
from slurm.progress import Progress
from slurm.ray_node import own_address
from slurm.stop_requests import is_another, last_stop, request_stop

TASK = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "1", "SLURM_CPUS_ON_NODE": "4"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process outside of SLURM."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "EAR_"))]:
        monkeypatch.delenv(name)
    return monkeypatch


def in_job(environment: pytest.MonkeyPatch, **more: str) -> Allocation:
    for name, value in {**TASK, **more}.items():
        environment.setenv(name, value)
    allocation = Allocation.current()
    assert allocation is not None
    return allocation


def test_outside_of_a_job_there_is_no_allocation(environment: pytest.MonkeyPatch) -> None:
    assert Allocation.current() is None
    environment.setenv("SLURM_JOB_ID", "7")  # a shell of salloc, on the login node
    assert Allocation.current() is None


def test_what_is_granted_is_read_and_not_the_machine(environment: pytest.MonkeyPatch) -> None:
    granted = in_job(environment, SLURM_GPUS_ON_NODE="2", SLURM_MEM_PER_CPU="1024", SLURM_STEP_NUM_NODES="3")
    assert (granted.cpus, granted.gpus, granted.memory, granted.nodes, granted.rank) == (4, 2, 4 * 2**30, 3, 1)
    granted = in_job(environment, SLURM_MEM_PER_NODE="8000", SLURM_RESTART_COUNT="5")
    assert (granted.memory, granted.restarts) == (8000 * 2**20, 5)


@pytest.mark.parametrize(
    ("variables", "gpus"),
    [
        ({}, 0),  # not granted, whatever the machine has
        ({"SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0"}, 4),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, 2),  # where SLURM does not count them
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
    ],
)
def test_gpus_are_those_granted(variables: dict[str, str], gpus: int, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert in_job(environment, **variables).gpus == gpus


def test_a_member_of_an_array_has_its_own_name(environment: pytest.MonkeyPatch) -> None:
    assert in_job(environment).job == "7"
    member = in_job(environment, SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="3")
    assert (member.job, member.may_leave) == ("5_3", False)  # a user's own array: nobody would queue it again
    assert in_job(environment, EAR_SUPERVISED="1").may_leave


def test_messages_of_an_earlier_attempt_are_not_seen(tmp_path: Path) -> None:
    MessageBoard(tmp_path, "7", 0).publish("port", 1)
    later = MessageBoard(tmp_path, "7", 1)
    assert later.read("port") is None
    threading.Timer(0.3, lambda: later.publish("port", 2)).start()
    assert later.wait("port", 10) == 2
    with pytest.raises(TimeoutError, match="nothing-7-1"):
        later.wait("nothing", 0.1)


def test_a_reader_never_sees_half_a_message(tmp_path: Path) -> None:
    board = MessageBoard(tmp_path, "7", 0)
    messages = [[number] * 20_000 for number in range(20)]

    def read() -> list[list[int]]:
        seen: list[list[int]] = []
        while not seen or seen[-1] != messages[-1]:
            if (message := board.read("list")) is not None:
                seen.append(message)
        return seen

    with ThreadPoolExecutor() as pool:
        reader = pool.submit(read)
        for message in messages:
            board.publish("list", message)
        assert all(message in messages for message in reader.result(timeout=20))


def test_ports_are_free_and_apart_from_those_of_connections() -> None:
    ports = {free_port() for _ in range(20)}
    assert ports <= set(PORTS)
    assert len(ports) > 10


def test_the_address_that_leads_to_this_machine_is_this_machine_s() -> None:
    assert own_address("127.0.0.1:6379") == "127.0.0.1"


class OnANetwork(PosixPath):
    """On a file system that remembers to have no files in a folder until that is opened, as NFS does for a minute."""

    opened: set[str] = set()

    def __fspath__(self) -> str:
        self.opened.add(str(self))
        return super().__fspath__()

    def exists(self, **_: bool) -> bool:
        return str(self.parent) in self.opened and Path(str(self)).exists()


def test_what_a_network_file_system_remembers_to_be_missing_is_looked_for_again(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert not OnANetwork(tmp_path / "there").exists()
    assert is_there(OnANetwork(tmp_path / "there"))
    assert not is_there(OnANetwork(tmp_path / "missing"))
    assert not is_there(OnANetwork(tmp_path / "no folder" / "missing"))


def test_scratch_that_can_t_be_had_is_named(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOCAL", str(tmp_path))
    assert make_scratch("$LOCAL/a/b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    environment.delenv("LOCAL")
    with pytest.raises(UserError, match=r"\$LOCAL/a, names a variable that is not set"):
        make_scratch("$LOCAL/a")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be created"):
        make_scratch(str(tmp_path / "file" / "a"))


def test_how_long_a_job_has_rested_is_told_by_the_file_server_s_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node on which it begins again may have another one."""
    rest = tmp_path / "rest-7"
    assert seconds_since(rest) == math.inf
    rest.touch()
    behind = time.time() - 600
    monkeypatch.setattr(time, "time", lambda: behind)
    assert 0 <= seconds_since(rest) < 100
    made = rest.stat().st_mtime - 200
    os.utime(rest, (made, made))
    assert 200 <= seconds_since(rest) < 300


def test_a_job_s_command_knows_the_stop_that_stood_there_at_submission_also_when_it_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through submitit's pickle, and through its new one."""
    job = EarJob([], "alone", tmp_path, tmp_path, None, 60.0, 3, None, "the last stop")
    again = pickle.loads(pickle.dumps(job.checkpoint().function))
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nprintf %s "$EAR_LAST_STOP" > {tmp_path}/told\n')
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    assert again._run({}) == 0
    assert (tmp_path / "told").read_text() == "the last stop"


def test_all_tasks_meet_at_the_address_by_which_the_second_node_knows_the_first(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    """Ranks 0 to 3 are on the first node, which knows only its loopback."""
    environment.setattr("submitit.helpers.TorchDistributedEnvironment", MagicMock())
    job = EarJob([], "processes", tmp_path, tmp_path, None, 60.0, 3, None, "")
    board = MessageBoard(tmp_path, "7", 0)
    board.publish("port", 1)
    met = []
    for rank, node, own in ((4, 1, "10.0.0.7"), (0, 0, "127.0.0.1"), (1, 0, "127.0.0.1"), (8, 2, "192.168.0.7")):
        layout = {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(node), "SLURM_STEP_NUM_NODES": "3"}
        allocation = in_job(environment, **layout, SLURM_LAUNCH_NODE_IPADDR=own)
        met.append(job._meet(allocation, board)["MASTER_ADDR"])
    assert met == ["10.0.0.7"] * 4


def test_on_one_node_nobody_waits_for_another(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setattr("submitit.helpers.TorchDistributedEnvironment", MagicMock())
    allocation = in_job(environment, SLURM_PROCID="0", SLURM_NNODES="1", SLURM_LAUNCH_NODE_IPADDR="10.0.0.7")
    job = EarJob([], "processes", tmp_path, tmp_path, None, 60.0, 3, None, "")
    assert job._meet(allocation, MessageBoard(tmp_path, "7", 0)) == {"MASTER_ADDR": "10.0.0.7"}


@pytest.mark.parametrize("stopped", ["before it was submitted", "since", "never"])
def test_a_job_that_an_earlier_version_submitted_runs_and_knows_of_stops(
    stopped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pickle has the time of its submission, and no id of a stop."""
    job = EarJob(
        [], "alone", tmp_path / "slurm" / "my-sweep-20261125-101112-131", tmp_path / "store", None, 60, 3, None, ""
    )
    submitted = time.time()
    vars(job).pop("last_stop")
    vars(job)["submitted"] = submitted
    if stopped != "never":
        request_stop(tmp_path / "my-sweep")
        at = submitted + (-5 if "before" in stopped else 5)
        os.utime(tmp_path / "my-sweep" / "stop", (at, at))
    queued = pickle.loads(pickle.dumps(job))
    again = pickle.loads(pickle.dumps(queued.checkpoint().function))
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nprintf %s "$EAR_LAST_STOP" > {tmp_path}/told\n')
    program.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(program))
    for each in (queued, again):
        assert "submitted" not in vars(each)
        assert each._run({}) == 0
        told = (tmp_path / "told").read_text()
        assert is_another(last_stop(tmp_path / "my-sweep"), told) == (stopped == "since")


def save_unfinished(store: Path, key: str, step: int) -> None:
    header = CheckpointHeader(load_config("digits"), step, "")
    save_checkpoint(store / ".work" / key / "checkpoint.safetensors", header, {"model": {"w": torch.zeros(1)}})


def test_progress_is_a_result_a_step_or_a_shard_and_not_another_save(tmp_path: Path) -> None:
    store, cache = tmp_path / "store", tmp_path / "cache"
    cache.mkdir()
    seen = [Progress.of(store, cache)]
    save_unfinished(store, "a", 100)
    seen.append(Progress.of(store, cache))
    save_unfinished(store, "a", 150)
    seen.append(Progress.of(store, cache))
    (store / "key").mkdir()
    seen.append(Progress.of(store, cache))
    (cache / "shard").write_bytes(b"1")
    seen.append(Progress.of(store, cache))
    assert len(set(seen)) == len(seen)
    time.sleep(0.01)
    save_unfinished(store, "a", 150)
    (store / ".work" / "leases").mkdir()
    assert Progress.of(store, cache) == seen[-1]


def test_a_damaged_checkpoint_is_no_progress_and_no_fault(tmp_path: Path) -> None:
    save_unfinished(tmp_path, "a", 100)
    (tmp_path / ".work" / "a" / "checkpoint.safetensors").write_bytes(b"no safetensors")
    assert Progress.of(tmp_path, None) == Progress(0, 0, 0)


def test_attempts_that_get_on_are_unlimited_and_those_that_do_not_are_bounded(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / "attempts.json", 2)
    for step in range(50):
        attempts.begin("n1", Progress(0, step, 0))
    attempts.begin("n1", Progress(0, 49, 0))  # a first one that changed nothing
    attempts.begin("n1", Progress(0, 49, 0))
    with pytest.raises(FruitlessError, match=r"3 times without any progress.*n1.*checkpoint_every"):
        attempts.begin("n1", Progress(0, 49, 0))
    attempts.begin("n1", Progress(0, 50, 0))  # somebody else got on
    assert len(attempts.all()) == 53
