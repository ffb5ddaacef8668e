"""The processes of a trial on several GPUs: one per GPU, all on the trial's node, training and evaluating together.

The trial's own process has rank 0 and makes all decisions. Before it starts an operation, it sends the operation to
its helpers as a line of JSON on their standard input, so that all processes enter the same collectives:

    ["train", REQUEST]          create the trainer, from the checkpoint that rank 0 chooses
    ["advance"]                 train up to the next record
    ["evaluate", REQUEST, KEY]  run this evaluation of the request

Helpers have no state worth saving. If an operation fails in any process, the helpers are killed, and the next
operation starts new ones.

torchrun does not fit: it starts all processes of a training, and here rank 0 is the actor that Tune starts and reuses.
Ray actors as helpers would need bundles of the trial's placement group and a way to kill an actor that hangs in a
collective; rank 0 can simply kill its children, and they end with it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from traceback import print_exc

import torch.distributed as dist

from ear.files.temporary import temporary_folder
from ear.process.code import code_environment, require_same_code
from ear.process.distributed import MEETING_FILE, Processes, joined_processes
from ear.process.interrupt import end_with_parent
from ear.run import Run
from ear.store import Store
from ear.training.trainer import Trainer
from sweeps.trial.log import output_to, say
from sweeps.trial.messages import TaskRequest

READY = "ready"  # a helper's only output on stdout: its imports are done
POLL_SECONDS = 1.0  # between two checks that the helpers live
CHECKS_BEFORE_EXIT = 10  # checks that find a helper dead before the trial kills itself
EXIT_SECONDS = 1.0  # from the loss of a process's connections to its exit


class TrialProcesses:
    """Rank 0's view of a trial's processes: itself and its helpers, which it starts, commands and kills."""

    def __init__(self, count: int) -> None:
        self.own = Processes(0, count)
        self._helpers: list[subprocess.Popen[str]] = []
        self._connection = ExitStack()
        self._acting = False
        self._over = Event()  # set when the helpers are killed

    @contextmanager
    def act(self, *words: str) -> Iterator[None]:
        """Makes the helpers run the operation `words` while this process runs it in the context.

        Raises:
            RuntimeError: a helper died.
        """
        if self.own.count == 1:
            yield
            return
        self._acting = True
        try:
            self._tell(words)
            yield
        except BaseException as error:
            lost = self._lost(EXIT_SECONDS) if isinstance(error, RuntimeError | OSError) else None
            self.end()
            if lost is not None:
                raise RuntimeError(lost) from error
            raise
        finally:
            self._acting = False

    def _tell(self, words: tuple[str, ...]) -> None:
        if words[0] != "advance" and self._lost() is not None:  # died between two tasks: new helpers take over
            self.end()
        if not self._helpers:
            self._start()
        for helper in self._helpers:
            assert helper.stdin is not None
            print(json.dumps(words), file=helper.stdin, flush=True)

    def _start(self) -> None:
        # A file, not a port: any user of the machine could connect to a port, and no token protects it.
        folder = self._connection.enter_context(temporary_folder())
        meeting = {"WORLD_SIZE": str(self.own.count), MEETING_FILE: str(folder / "meeting")}
        for rank in range(1, self.own.count):
            helper = subprocess.Popen(
                [sys.executable, "-P", "-m", "sweeps.trial.helper_processes", str(os.getpid())],
                env={**os.environ, **code_environment(), **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._helpers.append(helper)
        self._over = Event()
        Thread(target=self._watch, args=(self._over,), daemon=True).start()
        for helper in self._helpers:
            assert helper.stdout is not None
            if helper.stdout.readline().strip() != READY:
                raise RuntimeError("a helper did not start")
        os.environ |= {**meeting, "RANK": "0", "LOCAL_RANK": "0"}
        self._connection.enter_context(joined_processes())
        say(f"{self.own.count} processes: {os.getpid()}, helped by {[helper.pid for helper in self._helpers]}")

    def _lost(self, patience: float = 0.0) -> str | None:
        """How the first helper died that is found dead within `patience` seconds; None if all live."""
        deadline = time.monotonic() + patience
        while True:
            for rank, helper in enumerate(self._helpers, 1):
                if (code := helper.poll()) is not None:
                    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
                    return f"The trial's process {rank + 1} of {self.own.count} {how}; see the end of its log."
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)

    def _watch(self, over: Event) -> None:
        """Kills this process if a helper is dead and the operation hangs.

        On CPUs a collective fails at once when a process is gone; on GPUs it waits forever. Ray tells the driver that
        this process died, and the driver tries the task again in a new one.
        """
        checks = 0
        while not over.wait(POLL_SECONDS):
            lost = self._lost() if self._acting else None
            checks = checks + 1 if lost is not None else 0
            if checks == CHECKS_BEFORE_EXIT:
                say(f"{lost} This process can't continue without it and exits too.")
                os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        """Kills the helpers, whatever they are doing."""
        self._over.set()
        for helper in self._helpers:
            helper.kill()
        for helper in self._helpers:
            helper.communicate()  # waits for its exit and closes its pipes
        self._helpers = []
        if dist.group.WORLD is not None:
            dist.group.WORLD.abort()  # a clean shutdown would wait for the others
        self._connection.close()


def help_out(requests: Iterable[str], processes: Processes) -> None:
    """Runs the requested operations in a helper, until the end of its input."""
    trainer: Trainer | None = None
    for line in requests:
        words = json.loads(line)
        if words[0] != "advance":
            trainer = None  # freed first, since it may fill a GPU
            request = TaskRequest.loads(words[1])
            store = Store(request.root)
        with output_to(request.log):
            try:
                require_same_code(request.code)
                match words:
                    case ["train", _]:
                        trainer = Run(request.training, store, processes=processes).trainer()
                        say(f"process {processes.rank + 1} joins the training at step {trainer.step}")
                    case ["advance"]:
                        assert trainer is not None
                        trainer.advance()
                    case ["evaluate", _, key]:
                        say(f"process {processes.rank + 1} joins the evaluation")
                        Run(request.evaluations[key], store, processes=processes).evaluate()
            except Exception:
                print_exc()
                sys.stdout.flush()
                os._exit(1)  # a clean exit would wait for the others


def main(parent: int) -> None:
    """Runs a helper; `parent` is the id of the process that started it, with which it exits."""
    end_with_parent()
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(READY, flush=True)
    os.dup2(2, 1)
    with joined_processes() as processes:
        help_out(sys.stdin, processes)


if __name__ == "__main__":
    main(int(sys.argv[1]))
