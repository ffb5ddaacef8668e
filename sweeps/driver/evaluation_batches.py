"""Evaluations that wait, in the batches in which drivers share them out."""

from collections import Counter

from sweeps.spec.runs import PlannedRun

BATCH = 8  # evaluations; more of them are worth a second process and its copy of the model


class Batches:
    """The evaluations of each training, in the order in which the sweep names them, so many a batch.

    A batch's key is what is leased by who works on it: the training's own for the first one, which whoever trains does
    next. All drivers of a grid form the same batches; where they do not (other sweeps, searches) two of them may
    evaluate the same, which costs time and nothing else.
    """

    def __init__(self) -> None:
        self._known: Counter[str] = Counter()  # evaluations, by training
        self._batch: dict[str, str] = {}  # by evaluation
        self._waiting: dict[str, dict[str, dict[str, PlannedRun]]] = {}  # by training, batch and evaluation

    def add(self, run: PlannedRun) -> None:
        """A new run, whether or not its evaluation is to be done. It does not wait yet."""
        training = run.keys.training
        number = self._known[training] // BATCH
        self._known[training] += 1
        self._batch[run.keys.evaluation] = f"{training}-{number}" if number else training

    def put(self, run: PlannedRun) -> None:
        """Its evaluation waits."""
        batch = self._batch[run.keys.evaluation]
        self._waiting.setdefault(run.keys.training, {}).setdefault(batch, {})[run.keys.evaluation] = run

    def drop(self, run: PlannedRun) -> None:
        """Its evaluation does not wait (any more)."""
        batches = self._waiting.get(run.keys.training, {})
        batch = self._batch[run.keys.evaluation]
        batches.get(batch, {}).pop(run.keys.evaluation, None)
        if not batches.get(batch, True):
            del batches[batch]

    def of(self, training: str) -> dict[str, list[PlannedRun]]:
        """What waits for a training or is ready after it, by batch."""
        return {batch: list(runs.values()) for batch, runs in self._waiting.get(training, {}).items()}
