"""A trial on several GPUs: a process for each, all on its node, that train and evaluate together.

The trial's own process, of rank 0, decides everything. Helpers do what it does: it tells them every act, as a line of
JSON on their standard input, before it begins the act itself, so that all of them meet in the same collectives.

    ["train", REQUEST]          make the trainer, with the checkpoint that rank 0 chooses
    ["advance"]                 train up to the next record
    ["evaluate", REQUEST, KEY]  carry this evaluation of the request out

A helper has nothing that is worth saving. So whatever an act fails with, in whichever process, ends the helpers, and
the next act begins with new ones.
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

READY = "ready"  # a helper's only answer: it has imported everything
POLL_SECONDS = 1.0  # at whether the helpers live
CHECKS_BEFORE_EXIT = 10  # before a trial ends that does not notice
SECONDS_TO_DIE = 1.0  # between a process's connections and itself


class TrialProcesses:
    """The processes as rank 0 sees them: itself and its helpers, which live as long as it does."""

    def __init__(self, count: int) -> None:
        self.own = Processes(0, count)
        self._helpers: list[subprocess.Popen[str]] = []
        self._connection = ExitStack()
        self._acting = False
        self._over = Event()  # the helpers are ended

    @contextmanager
    def act(self, *words: str) -> Iterator[None]:
        """What this process does within, the helpers do as well.

        Raises:
            RuntimeError: a helper is gone.
        """
        if self.own.count == 1:
            yield
            return
        self._acting = True
        try:
            self._tell(words)
            yield
        except BaseException as error:
            lost = self._lost(SECONDS_TO_DIE) if isinstance(error, RuntimeError | OSError) else None
            self.end()
            if lost is not None:
                raise RuntimeError(lost) from error
            raise
        finally:
            self._acting = False

    def _tell(self, words: tuple[str, ...]) -> None:
        if words[0] != "advance" and self._lost() is not None:  # between two tasks: nothing is lost with it
            self.end()
        if not self._helpers:
            self._start()
        for helper in self._helpers:
            assert helper.stdin is not None
            print(json.dumps(words), file=helper.stdin, flush=True)

    def _start(self) -> None:
        # A file, not a port: any user of the machine could connect to that, and no token would stop him.
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
        """What became of the first helper that is gone within so many seconds; None where all live."""
        deadline = time.monotonic() + patience
        while True:
            for rank, helper in enumerate(self._helpers, 1):
                if (code := helper.poll()) is not None:
                    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
                    return f"The trial's process {rank + 1} of {self.own.count} {how}; its last words are in the log."
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)

    def _watch(self, over: Event) -> None:
        """Ends this very process when a helper is gone and an act goes on all the same.

        On CPUs a collective fails at once when a process is gone; on GPUs it waits for ever. The driver hears from Ray
        that this process died, and tries the task again in a new one.
        """
        looks = 0
        while not over.wait(POLL_SECONDS):
            lost = self._lost() if self._acting else None
            looks = looks + 1 if lost is not None else 0
            if looks == CHECKS_BEFORE_EXIT:
                say(f"{lost} This one can't go on without it, and ends too.")
                os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        """Ends the helpers, whatever they are doing."""
        self._over.set()
        for helper in self._helpers:
            helper.kill()
        for helper in self._helpers:
            helper.communicate()  # waits for its end, and closes its pipes
        self._helpers = []
        if dist.group.WORLD is not None:
            dist.group.WORLD.abort()  # to leave it in good order would wait for the others
        self._connection.close()


def help_out(requests: Iterable[str], processes: Processes) -> None:
    """Does what a helper is told, to the end of its input."""
    trainer: Trainer | None = None
    for line in requests:
        words = json.loads(line)
        if words[0] != "advance":
            trainer = None  # before anything else, since it may fill a GPU
            request = TaskRequest.loads(words[1])
            store = Store(request.root)
        with output_to(request.log):
            try:
                require_same_code(request.code)
                match words:
                    case ["train", _]:
                        trainer = Run(request.training, store, processes=processes).trainer()
                        say(f"process {processes.rank + 1} trains along, at step {trainer.step}")
                    case ["advance"]:
                        assert trainer is not None
                        trainer.advance()
                    case ["evaluate", _, key]:
                        say(f"process {processes.rank + 1} evaluates along")
                        Run(request.evaluations[key], store, processes=processes).evaluate()
            except Exception:
                print_exc()
                sys.stdout.flush()
                os._exit(1)  # to leave the others in good order would wait for them


def main(parent: int) -> None:
    """A helper's life, from its start by the process with this id."""
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
