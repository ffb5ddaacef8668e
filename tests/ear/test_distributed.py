"""Several processes: the same training and the same evaluation as one (killed and resumed: test_imagenet_path)."""

import json
import multiprocessing
import os
import pickle
import re
import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import torch.distributed as dist
from closeness import assert_close
from in_process import ear
from processes import together
from torch import Tensor

from ear.errors import UserError
from ear.process import distributed
from ear.process.distributed import ALONE, INTERFACES, MEETING_FILE, TIMEOUT, Processes, joined_processes
from ear.training.checkpoint import load_part

SETTINGS = [
    "training.stages.0.steps=30",
    "training.stages.1.steps=10",
    "training.mask_group=24",
    "execution.log_every=5",
]


def settings(*more: str) -> list[str]:
    return [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]


def model_of(printed: str) -> dict[str, Tensor]:
    return load_part(Path(json.loads(printed)["checkpoint"]), "model")


def in_two_processes(act: Callable[..., None], folder: Path, *arguments: Any, seconds: int = 120) -> list[Any]:
    """What two of them write: `act(rank, answer, *arguments)`, JSON into the file `answer`."""
    fork = multiprocessing.get_context("fork")  # since to import torch anew takes seconds
    answers = [folder / "answer of 0", folder / "answer of 1"]
    pair = [fork.Process(target=act, args=(rank, answers[rank], *arguments), daemon=True) for rank in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(seconds)
        process.kill()
    assert all(answer.exists() for answer in answers)
    return [json.loads(answer.read_text()) for answer in answers]


def meeting_in(file: Path) -> dict[str, str]:
    return {MEETING_FILE: str(file), "WORLD_SIZE": "2"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_shares_are_contiguous_and_complete() -> None:
    for total, count in ((64, 2), (7, 3), (2, 4)):
        shares = [Processes(rank, count).share(total) for rank in range(count)]
        assert [number for share in shares for number in share] == list(range(total))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_everything_is_the_identity() -> None:
    value = torch.tensor(3.0)
    assert ALONE.sum_(value) is value
    assert ALONE.any(True)
    assert not ALONE.any(False)
    assert ALONE.from_main("value") == "value"
    assert ALONE.is_main


def exchange(rank: int, answer: Path, meeting: dict[str, str]) -> None:
    """What each of two processes does in the next test; without pickles, which nobody is to need."""
    os.environ |= {**meeting, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    with joined_processes("cpu") as processes, pytest.MonkeyPatch.context() as patch:
        for name in ("dumps", "loads", "Pickler", "Unpickler"):
            patch.setattr(pickle, name, None)
        rows = processes.gather_rows(torch.arange(2.0 + 2 * rank, dtype=torch.float64).view(-1, 2) + 10 * rank)
        given: list[Any] = ["kl\u00e9", True, None] if rank == 0 else [None] * 3
        shared = [processes.from_main(value) for value in given]
        ports = psutil.Process().net_connections("inet")
        listening = [port.laddr[0] for port in ports if port.status == psutil.CONN_LISTEN]
        answer.write_text(json.dumps([rows.tolist(), str(rows.dtype), shared, listening]))


@pytest.mark.parametrize("by_file", [True, False])
def test_what_two_processes_exchange_is_no_pickle_and_no_port_is_open_to_all(by_file: bool, tmp_path: Path) -> None:
    """A pickle would run whatever somebody on the way put into it."""
    if by_file:
        meeting = {MEETING_FILE: str(tmp_path / "meeting"), "GLOO_SOCKET_IFNAME": "eth0"}
    else:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}
        meeting["LOCAL_WORLD_SIZE"] = "2"
    for rows, dtype, shared, listening in in_two_processes(exchange, tmp_path, meeting):
        assert rows == [[0, 1], [10, 11], [12, 13]]
        assert dtype == "torch.float64"
        assert shared == ["kl\u00e9", True, None]
        assert set(listening) == {"127.0.0.1"}


def meet(rank: int, answer: Path, addresses: tuple[str, str], port: int) -> None:
    """What each of two processes of two machines does in the next test, with little patience."""
    distributed.TIMEOUT = timedelta(seconds=20)
    os.environ |= {"MASTER_ADDR": addresses[rank], "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    with joined_processes("cpu") as processes:
        answer.write_text(json.dumps(processes.any(rank == 1)))


@pytest.mark.parametrize("own", ["127.0.0.1", "localhost"])
def test_a_first_node_that_knows_only_its_loopback_is_reached_by_another_address(own: str, tmp_path: Path) -> None:
    """127.0.0.2 stands for what the other node calls it; Debian has a machine call itself 127.0.1.1."""
    assert in_two_processes(meet, tmp_path, (own, "127.0.0.2"), free_port(), seconds=40) == [True, True]


@pytest.mark.parametrize(
    ("host", "variables", "alone"),
    [
        ("127.0.0.1", {"LOCAL_WORLD_SIZE": "2"}, True),
        ("localhost", {"LOCAL_WORLD_SIZE": "2"}, True),
        ("127.0.0.1", {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ("127.0.0.1", {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1"}, False),  # a shell of srun's
        ("127.0.0.1", {"LOCAL_WORLD_SIZE": "1"}, False),
        ("127.0.0.1", {}, False),
        ("::1", {"LOCAL_WORLD_SIZE": "1"}, False),
        ("localhost", {}, False),
        ("198.51.100.1", {"LOCAL_WORLD_SIZE": "2"}, False),  # nobody's: ports of a container are passed on
        ("no.such.host.invalid", {"LOCAL_WORLD_SIZE": "2"}, False),
    ],
)
def test_where_the_first_process_listens(
    host: str, variables: dict[str, str], alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    listening = distributed._listen(host, free_port(), 2)
    assert (listening is not None) == alone
    if listening is not None:
        assert listening.getsockname()[0] in ("127.0.0.1", "::1")
        listening.close()


def test_an_address_that_all_nodes_know_by_its_number_is_listened_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [address.address for each in psutil.net_if_addrs().values() for address in each if address.family == 2]
    if not (public := [number for number in numbers if not number.startswith("127.")]):
        pytest.skip("this machine has its loopback alone")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    with distributed._listen(public[0], free_port(), 2) or socket.socket() as listening:
        assert listening.getsockname()[0] == public[0]


@pytest.mark.parametrize("local", ["2", "1"])
def test_a_port_that_is_taken_is_named(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MEETING_FILE, raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with socket.create_server(("", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(UserError, match=rf"MASTER_PORT {taken.getsockname()[1]} .*in use"):
            distributed._store(0, 2)


def test_the_store_waits_as_long_as_a_collective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of itself, a file's gives up after 5 minutes, in which the first process may still write a checkpoint."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.delenv(MEETING_FILE, raising=False)
    assert distributed._store(0, 2).timeout == TIMEOUT
    monkeypatch.setenv(MEETING_FILE, str(tmp_path / "meeting"))
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "eth0")
    assert distributed._store(0, 2).timeout == TIMEOUT


def join_twice(rank: int, answer: Path, meetings: tuple[Path, Path], before: str | None) -> None:
    """What each of two processes does in the next test."""
    os.environ |= {} if before is None else dict.fromkeys(INTERFACES, before)
    seen: list[Any] = []
    for meeting in meetings:
        os.environ |= {**meeting_in(meeting), "RANK": str(rank), "LOCAL_RANK": str(rank)}
        with joined_processes("cpu") as processes:
            seen.append([os.environ["GLOO_SOCKET_IFNAME"], processes.any(rank == 1)])
        seen.append([os.environ.get(name) for name in INTERFACES])
    answer.write_text(json.dumps(seen))


@pytest.mark.parametrize("before", [None, "eth0"])
def test_the_interface_of_one_connection_is_not_the_next_one_s(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray uses a trial's process again."""
    for name in (*INTERFACES, "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    expected = [[distributed.LOOPBACK, True], [before, before]] * 2
    assert in_two_processes(join_twice, tmp_path, (tmp_path / "one", tmp_path / "other"), before) == [expected] * 2


def test_two_processes_train_as_one_does(digits_store: Path, tmp_path: Path) -> None:
    """Batch 64 over two processes, in accumulated parts of 20, against one process; then an evaluation of both."""
    training = ("train", "digits", "--json", *settings())
    shutil.copytree(digits_store, tmp_path / "one" / "store")
    one = model_of(ear(*training, "--root", tmp_path / "one").stdout)
    parts = ("--set", "execution.micro_batch=20")
    assert_close(model_of(together(2, *training, *parts, "--root", str(tmp_path / "two"))), one)

    more = ("evaluation.images=101", "evaluation.null_images=100")
    again = ("train", "digits", *settings(*more), "--evaluate", "--json", "--root")
    shutil.copytree(tmp_path / "one", tmp_path / "shared")  # so that the model need not be trained again
    alone = json.loads(ear(*again, tmp_path / "one").stdout.splitlines()[-1])
    training_of_two, evaluation_of_two = map(json.loads, together(2, *again, str(tmp_path / "shared")).splitlines())
    assert training_of_two["reused"]
    assert evaluation_of_two["metrics"].keys() == alone["metrics"].keys()
    for name, value in alone["metrics"].items():
        assert evaluation_of_two["metrics"][name] == pytest.approx(value, rel=1e-3, abs=0.011), name


def test_more_processes_than_images_in_a_step_are_refused(tmp_path: Path) -> None:
    few = settings("training.batch_size=1", "execution.micro_batch=1")
    messages = together(2, "train", "digits", *few, "--root", str(tmp_path), code=2)
    assert "2 processes exceed the 1 images of a step (training.batch_size): start fewer processes." in messages


@pytest.mark.parametrize(
    ("device", "gpus", "backend"),
    [("auto", True, "nccl"), ("cuda", True, "nccl"), ("cpu", True, "gloo"), ("auto", False, "gloo")],
)
def test_gpus_are_connected_by_nccl(device: str, gpus: bool, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus)
    assert distributed._backend(device) == backend


def connect_cpus(rank: int, answer: Path, meeting: Path) -> None:
    """What each of two processes does in the next test."""
    os.environ |= {**meeting_in(meeting), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.cuda.is_available = lambda: True
    with joined_processes("cpu") as processes:
        total = processes.sum_(torch.tensor(float(rank + 1)))
        answer.write_text(json.dumps([processes.rank, processes.count, dist.get_backend(), total.item()]))


def test_what_computes_on_cpus_is_connected_without_gpus_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with GPUs, which is pretended here."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert in_two_processes(connect_cpus, tmp_path, tmp_path / "meeting") == [[0, 2, "gloo", 3.0], [1, 2, "gloo", 3.0]]


def test_a_launcher_without_a_meeting_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", MEETING_FILE):
        monkeypatch.delenv(name, raising=False)
    assert re.search("MASTER_ADDR.*torchrun --nproc-per-node", ear("train", "digits", code=2).stderr)
