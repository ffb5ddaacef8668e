"""Computes the results that all evaluations of a sweep share: the feature extractor and the real images' features.

They come before the trials, so that no two trials compute them and an evaluation that can't work fails first. The
exception is a dataset's own classifier on CPUs: another process trains it while Ray starts and trainings begin, since
it needs neither files of the user, which may be wrong, nor a GPU, whose memory a trial may fill. The process holds the
results' leases, so an evaluation that needs them earlier waits. If it fails, the evaluation computes them itself and
reports the failure.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ear.config import RunConfig
from ear.config.loading import validate
from ear.process.code import code_digest, code_environment, require_same_code
from ear.process.interrupt import end_with_parent, on_interrupt
from ear.store import Store
from ear.terminal.console import terminal
from ear.terminal.waiting import waiting_for
from sweeps.spec.plan import Plan
from sweeps.spec.runs import PlannedRun

EXIT_SECONDS = 5.0  # for the other process to release its leases


@contextmanager
def shared_results(plan: Plan, root: Path, store: Store) -> Iterator[None]:
    """Within this context the sweep's evaluations find what they share, or wait until it is computed.

    Raises:
        UserError: a dataset has changed since the plan was made, or its features can't be computed.
    """
    runs = {run.keys.reference: run for run in plan.runs or (plan.configurations.run({}, 0),)}
    later = {key: run for key, run in runs.items() if _may_come_later(run, plan, store)}
    with ExitStack() as stack:
        if later:
            stack.enter_context(computed_meanwhile(later.values(), root))
        with on_interrupt(leave), waiting_for("Loading the dataset and what its images are measured with"):
            # Imported here: they import torch, which a sweep with nothing to do does not need.
            from ear.data import load_dataset
            from ear.data.content import require_as_known
            from ear.evaluation.evaluate import prepare
            from ear.evaluation.reference import require_enough_images
            from ear.process.execution import choose_device

            for key, run in runs.items():
                choose_device(run.config.execution)  # refuses a GPU that is not there
                dataset = load_dataset(run.config.data)
                require_as_known(run.config.data, dataset)
                require_enough_images(run.config)
                if key not in later:
                    prepare(run.config, run.keys, dataset, store)
        yield


def _may_come_later(run: PlannedRun, plan: Plan, store: Store) -> bool:
    """Whether the run's extractor and reference are still to be computed, from the dataset alone and without a GPU."""
    settings = run.config.evaluation
    of_dataset = settings.extractor == "classifier" and settings.statistics is None
    exists = run.keys.extractor in store and run.keys.reference in store
    return of_dataset and not plan.sweep.resources.gpus and not exists


@contextmanager
def computed_meanwhile(runs: Iterable[PlannedRun], root: Path) -> Iterator[None]:
    """Within this context another process computes what evaluations of these runs need."""
    say = "Training the classifier that images are measured with, beside the trials (once per dataset) ..."
    terminal(stderr=True).print(say, soft_wrap=True)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sweeps.driver.shared_results", str(os.getpid())],
        env={**os.environ, **code_environment(), "CUDA_VISIBLE_DEVICES": ""},  # as in trials without a GPU
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    request = {"root": str(root), "code": code_digest(), "runs": [run.config.model_dump(mode="json") for run in runs]}
    try:
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as stream:
            json.dump(request, stream)
        yield
    finally:
        process.terminate()
        try:
            process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def leave() -> NoReturn:
    """Interrupts at once; the signal handler while there is nothing to save."""
    raise KeyboardInterrupt


def main(parent: int) -> None:
    """Runs the other process; the request is JSON on its standard input. It ends with its parent, or when told to."""
    end_with_parent(signal.SIGTERM)  # it releases its leases first
    if os.getppid() != parent:
        return
    for number in (signal.SIGINT, signal.SIGHUP):  # Ctrl-C reaches the whole group: the driver ends this process last
        signal.signal(number, signal.SIG_IGN)
    # While it imports there is no lease to release, and an import can swallow an exception.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    request = json.load(sys.stdin)
    require_same_code(request["code"])
    from ear.data import load_dataset
    from ear.evaluation.evaluate import prepare
    from ear.process.execution import set_up
    from ear.store import run_keys

    store = Store(Path(request["root"]))
    for values in request["runs"]:
        config = validate(RunConfig, values, source="the request")
        dataset = load_dataset(config.data)
        set_up(config.execution)
        keys = run_keys(config, dataset)
        signal.signal(signal.SIGTERM, lambda *_: leave())  # by an exception, which releases leases
        prepare(config, keys, dataset, store)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except KeyboardInterrupt:
        os._exit(1)  # tidying up torch's modules takes a second, for which the driver would wait
