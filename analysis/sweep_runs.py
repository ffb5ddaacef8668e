"""The runs of a sweep as rows, the same whether they were read from the store or from MLflow.

A row is one run that has ended, one training and its evaluation. Its columns:

| column | what it holds |
|---|---|
| dotted parameters | the value of each axis of the sweep |
| trial | of a search: the trial that proposed the run |
| seed | the seed of training |
| outcome | finished, diverged, pruned (stopped early) or failed |
| diverged_at | the training step, counted from 1, at which a diverged run's loss or gradient was not finite |
| fid, is, precision, recall | the metrics of a finished run, as measured on `images` images with class labels |
| fid_null, is_null, ... | the same on `null_images` images without a label |
| images, null_images | numbers of generated images |
| extractor, extractor_hash, extractor_accuracy | the network of the features, its weights and accuracy |
| reference, reference_hash, reference_images | the real images that the generated ones were compared with |
| sampling.*, evaluation.seed | settings of the evaluation that are not axes |
| train_steps, train_seconds | of all stages, whoever computed them; seconds of one process |
| evaluate_seconds | of sampling and measuring |
| key | the evaluation's key in the store |
| stages | the keys of the training stages, first to last |
| rests_on | the keys of the results that give the row's numbers |
| checkpoint | the key of the last stage that was trained, for `ear sample` and `ear evaluate`; None if none was |
| git_commit, hosts | the code and the machines that computed it |
| run_id | the MLflow run; None if the row was read from the store |
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

METRICS = ("fid", "is", "precision", "recall", "fid_null", "is_null", "precision_null", "recall_null")

Row = dict[str, Any]


@dataclass(frozen=True)
class RunOfSweep:
    """A run that has ended."""

    parameters: dict[str, Any]  # the axes' values
    role: str  # of a search: proposal, extra or confirmation; "" in a grid
    row: Row  # the columns above, without the axes'


@dataclass(frozen=True)
class SweepRuns:
    """A sweep and those of its runs that have ended."""

    axes: list[str]  # dotted parameters
    objectives: list[str]  # the metrics that rank
    settings: Mapping[str, Any]  # all settings of its YAML
    complete: bool  # whether its driver found that every run has its result
    runs: Sequence[RunOfSweep]
    earlier: list[list[str]] = field(default_factory=list)  # axes of earlier sweeps of this name, newest first
    experiment: str | None = None  # MLflow's id of its experiment, if known

    @property
    def searched(self) -> bool:
        """Whether the sweep is a search, not a grid."""
        return bool(self.settings.get("search"))

    @property
    def incomplete(self) -> str:
        """States what the sweep still lacks; empty if nothing."""
        measured = [run for run in self.runs if run.role != "confirmation"]
        if self.searched:
            trials = len({run.row["trial"] for run in measured})
            return (
                "" if self.complete else f"Incomplete: the search has not finished; {trials} of its trials have ended."
            )
        planned = math.prod(len(values) for values in self.settings["space"].values()) * len(self.settings["seeds"])
        return f"Incomplete: {len(measured)} of {planned} runs have ended." if len(measured) < planned else ""
