"""Waiting evaluations, grouped into the batches that drivers lease."""

from collections import Counter

from sweeps.spec.runs import PlannedRun

BATCH = 8  # evaluations; beyond that, a second process with its own copy of the model pays off


class Batches:
    """The evaluations of each training in the sweep's order, `BATCH` to a batch.

    A driver leases a batch by its key. The first batch has the training's own key, so the driver that trains also
    evaluates it. All drivers of a grid form the same batches. Other sweeps and searches may not: then two drivers may
    run the same evaluation, which only costs time.
    """

    def __init__(self) -> None:
        self._known: Counter[str] = Counter()  # evaluations, by training
        self._batch: dict[str, str] = {}  # by evaluation
        self._waiting: dict[str, dict[str, dict[str, PlannedRun]]] = {}  # by training, batch and evaluation

    def add(self, run: PlannedRun) -> None:
        """Registers a new run, whether or not it needs an evaluation. The run does not wait yet."""
        training = run.keys.training
        number = self._known[training] // BATCH
        self._known[training] += 1
        self._batch[run.keys.evaluation] = f"{training}-{number}" if number else training

    def put(self, run: PlannedRun) -> None:
        """Marks the run's evaluation as waiting."""
        batch = self._batch[run.keys.evaluation]
        self._waiting.setdefault(run.keys.training, {}).setdefault(batch, {})[run.keys.evaluation] = run

    def drop(self, run: PlannedRun) -> None:
        """Removes the run's evaluation from those that wait; does nothing if it does not wait."""
        batches = self._waiting.get(run.keys.training, {})
        batch = self._batch[run.keys.evaluation]
        batches.get(batch, {}).pop(run.keys.evaluation, None)
        if not batches.get(batch, True):
            del batches[batch]

    def of(self, training: str) -> dict[str, list[PlannedRun]]:
        """Returns the waiting runs of a training by batch key."""
        return {batch: list(runs.values()) for batch, runs in self._waiting.get(training, {}).items()}
