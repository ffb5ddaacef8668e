"""The stage tree of a sweep: every distinct training stage once, with the evaluations that follow it.

stage 1: alpha 1.0, seed 0         a node: one training stage, identified by the store key of its result
  stage 2: train temperature 1.0   a child: starts from its parent's weights
    evaluations                    of a node that is the last stage of some run
  stage 2: train temperature 0.95
    evaluations
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ear.config import RunConfig
from ear.config.reach import ParameterReach, parameter_reach
from ear.store import RunKeys
from sweeps.spec.naming import shown
from sweeps.spec.runs import PlannedRun


@dataclass
class TrainingNode:
    """One training stage, shared by all runs that need it."""

    key: str
    parent: str | None  # key of the previous stage
    stage: int  # counted from 0
    config: RunConfig  # of some run that contains the stage; the runs below differ only in what comes later
    label: str  # for people
    children: list[str] = field(default_factory=list)
    evaluations: dict[str, PlannedRun] = field(default_factory=dict)  # by key, of runs that end here

    @property
    def steps(self) -> int:
        """Optimizer steps of this stage alone."""
        return self.config.stage_steps[self.stage]

    @property
    def end_step(self) -> int:
        """Steps done at its end, counted from the start of training."""
        return sum(self.config.stage_steps[: self.stage + 1])


class StageTree:
    """The training nodes and runs of a sweep. Grows as runs are added; never shrinks."""

    def __init__(
        self, runs: Iterable[PlannedRun] = (), keys_of: Callable[[PlannedRun], RunKeys] = lambda run: run.keys
    ) -> None:
        self._keys_of = keys_of
        self._reach: dict[str, ParameterReach] = {}
        self.nodes: dict[str, TrainingNode] = {}
        self.runs: dict[str, PlannedRun] = {}  # by the key of their evaluation
        for run in runs:
            self.add(run)

    def add(self, run: PlannedRun) -> bool:
        """Adds a run; returns False if an equal run is already there."""
        keys = self._keys_of(run)
        if keys.evaluation in self.runs:
            return False
        self.runs[keys.evaluation] = run
        parent: str | None = None
        for stage, key in enumerate(keys.stages):
            if key not in self.nodes:
                self.nodes[key] = TrainingNode(key, parent, stage, run.config, self._label(run, stage))
                if parent is not None:
                    self.nodes[parent].children.append(key)
            parent = key
        self.nodes[keys.training].evaluations[keys.evaluation] = run
        return True

    def _label(self, run: PlannedRun, stage: int) -> str:
        """The parameters that reach this stage, and which stage it is: `alpha=1.25 seed=0 stage 1/2`."""
        values = [
            f"{run.names[name]}={shown(value)}"
            for name, value in run.parameters.items()
            if self._reaches(name, run, stage)
        ]
        stages = len(run.config.training.stages)
        return " ".join([*values, f"seed={run.seed}", *([f"stage {stage + 1}/{stages}"] if stages > 1 else [])])

    def _reaches(self, parameter: str, run: PlannedRun, stage: int) -> bool:
        if parameter not in self._reach:
            self._reach[parameter] = parameter_reach(parameter, run.config)
        return self._reach[parameter].needs_training and self._reach[parameter].stage <= stage

    def roots(self) -> list[TrainingNode]:
        """Returns the first stages."""
        return [node for node in self.nodes.values() if node.parent is None]

    def below(self, key: str) -> Iterator[TrainingNode]:
        """Yields the node and all its descendants."""
        waiting = [key]
        while waiting:
            node = self.nodes[waiting.pop()]
            yield node
            waiting += node.children

    def runs_below(self, key: str) -> list[PlannedRun]:
        """Returns the runs that end at the node or at a descendant."""
        return [run for node in self.below(key) for run in node.evaluations.values()]

    @property
    def trainings(self) -> list[TrainingNode]:
        """The nodes that are the last stage of some run."""
        return [node for node in self.nodes.values() if node.evaluations]


@dataclass(frozen=True)
class Steps:
    """Training steps that a set of runs needs under three degrees of sharing."""

    without_sharing: int  # every run trains from scratch
    evaluation_sharing_only: int  # runs that differ only in evaluation share a training
    full_sharing: int  # equal stages are trained once

    @classmethod
    def of(cls, tree: StageTree) -> "Steps":
        """Counts the steps of a tree's runs."""
        return cls(
            without_sharing=sum(run.config.total_steps for run in tree.runs.values()),
            evaluation_sharing_only=sum(node.config.total_steps for node in tree.trainings),
            full_sharing=sum(node.steps for node in tree.nodes.values()),
        )
