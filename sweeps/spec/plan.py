"""Compiles a sweep's YAML into runs, or into a space to search. Computes nothing."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ear.config.hashing import digest
from ear.config.loading import MOST_FAULTS, read_yaml, validate, yaml_files
from ear.errors import UserError
from ear.evaluation.measurable import unmeasured
from sweeps.spec.axis_checks import refuse_axes, refuse_measures, refuse_overlaps
from sweeps.spec.configurations import Configurations
from sweeps.spec.identity import SweepIdentity
from sweeps.spec.intermediate import IntermediateConfig
from sweeps.spec.runs import PlannedRun
from sweeps.spec.schema import SweepConfig
from sweeps.spec.search_space import check_search
from sweeps.spec.selection import selected
from sweeps.spec.settings import with_settings
from sweeps.spec.stage_tree import StageTree
from sweeps.spec.unknown_parameters import unknown_parameters


@dataclass(frozen=True)
class Plan:
    """A validated sweep: its settings, its configurations, and the runs of a grid."""

    source: Path  # the sweep's YAML
    sweep: SweepConfig
    configurations: Configurations
    runs: tuple[PlannedRun, ...]  # of a grid; empty for a search
    asked: tuple[PlannedRun, ...] = ()  # those of `runs` that `--only` selects; all of them without it

    @property
    def files(self) -> tuple[Path, ...]:
        """The YAML files that the plan was read from."""
        return self.source, *yaml_files(self.sweep.base)

    @cached_property
    def tree(self) -> StageTree:
        """The stage tree of a grid.

        Raises:
            UserError: two points of the grid are the same run, or the dataset is missing.
        """
        tree = StageTree()
        for run in self.runs:
            if not tree.add(run):
                raise self._twins(tree.runs[run.keys.evaluation], run)
        return tree

    @property
    def is_partial(self) -> bool:
        """Whether only a part of the grid was asked for."""
        return len(self.asked) < len(self.runs)

    @cached_property
    def asked_tree(self) -> StageTree:
        """The stage tree of the runs that were asked for.

        Raises:
            UserError: two points of the grid are the same run, or the dataset is missing.
        """
        return StageTree(self.asked) if self.is_partial else self.tree

    def refuse_twins(self) -> None:
        """Checks that all runs differ, without reading data or checkpoints, which may be on a cluster's nodes only.

        Raises:
            UserError: two points of the grid are the same run.
        """
        known: dict[str, PlannedRun] = {}
        for run in self.runs:
            twin = known.setdefault(run.config.model_dump_json(), run)
            if twin is not run:
                raise self._twins(twin, run)

    def _twins(self, one: PlannedRun, other: PlannedRun) -> UserError:
        return UserError(
            f"{self.source}: space: {one.label} and {other.label} are the same run; "
            "remove the axis or the value that changes nothing."
        )

    @property
    def identity(self) -> SweepIdentity:
        """The sweep's identity. Equal name and equal runs, or equal search settings, make it the same sweep."""
        searched = self.sweep.search.identity() if self.sweep.search else None
        computed = [self.configurations.digest, searched, self.sweep.seeds] if searched else list(self.tree.runs)
        return SweepIdentity(
            name=self.sweep.name,
            digest=digest([self.sweep.name, computed])[:32],
            axes=tuple(self.sweep.search.space if self.sweep.search else self.sweep.space),
            objectives=tuple(self.sweep.objectives),
            source=self.source,
            resolved=self.sweep.model_dump(mode="json"),
            description=self.sweep.description,
            tags=self.sweep.tags,
        )

    @property
    def intermediate(self) -> IntermediateConfig | None:
        """What trials measure during training for early stopping; None without it."""
        stopping = self.sweep.search.early_stopping if self.sweep.search else None
        return IntermediateConfig(stopping.every, stopping.metric, stopping.images) if stopping else None


def compile_plan(
    path: Path,
    base: str | None = None,
    settings: Sequence[str] = (),
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Plan:
    """Reads and validates a sweep and all its configurations. Computes nothing.

    Args:
        path: the sweep's YAML.
        base: a base instead of the sweep's own.
        settings: `parameter=value`, added to the sweep's `set`; they also change its name, see `with_settings`.
        only: `parameter=value`; selects the part of the grid that is asked for, see `selected`.
        seeds: seeds instead of the sweep's own.

    Raises:
        UserError: the sweep is not valid; the message names the file, the position in it and the fix.
    """
    sweep = _read_sweep(path)
    if base is not None:
        sweep = sweep.on(base)
    elif Path(sweep.base).suffix in (".yaml", ".yml"):
        sweep = sweep.model_copy(update={"base": str(path.parent / sweep.base)})
    if seeds:
        sweep = sweep.model_copy(update={"seeds": list(seeds)})
    if settings:
        sweep = with_settings(sweep, settings)
    configurations = Configurations(sweep, path)
    refuse_overlaps(sweep, configurations.base, path)
    refuse_axes(sweep, configurations, path)
    _refuse_unmeasured(sweep, configurations, path)
    if sweep.search is not None:
        if only:
            raise UserError(f"{path}: --only selects a part of a grid, but this sweep is a search.")
        check_search(sweep, configurations, path)
        return Plan(path, sweep, configurations, ())
    runs = tuple(
        configurations.run(dict(zip(sweep.space, values, strict=True)), seed)
        for values in itertools.product(*sweep.space.values())
        for seed in sweep.seeds
    )
    refuse_measures(runs, sweep.space, path)
    return Plan(path, sweep, configurations, runs, selected(runs, only))


def _read_sweep(path: Path) -> SweepConfig:
    """Reads a sweep's own settings.

    Raises:
        UserError: they are not valid, or name parameters that do not exist; one line for each fault.
    """
    values = read_yaml(path)
    unknown = [f"{path}: {sentence}" for sentence in unknown_parameters(values)]
    try:
        sweep = validate(SweepConfig, values, source=str(path))
    except UserError as error:
        raise UserError("\n".join([str(error), *unknown[:MOST_FAULTS]])) from error
    if unknown:
        raise UserError("\n".join(unknown[:MOST_FAULTS]))
    return sweep


def _refuse_unmeasured(sweep: SweepConfig, configurations: Configurations, path: Path) -> None:
    """Refuses objectives and constraints that the evaluations will not measure.

    Raises:
        UserError: a metric can't be measured.
    """
    missing = unmeasured(configurations.base.evaluation)
    for name in (*sweep.objectives, *(sweep.search.constraints if sweep.search else ())):
        if name in missing:
            raise UserError(f"{path}: {name} can't be measured: {missing[name]}.")
