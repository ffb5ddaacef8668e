"""The verdicts of our runs on the paper's claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from pydantic import BaseModel

from analysis.paper import decisions
from analysis.paper.claims import (
    HIGHER_IS_BETTER,
    BestAt,
    Claim,
    Collapses,
    Diverges,
    Faster,
    LowerThan,
    Ordered,
    Outcome,
)
from analysis.paper.decisions import Decision, Labelled, PairedTest, decide, decide_by_seed
from analysis.paper.evidence import Evidence, NotTestedError, Side
from analysis.paper.implemented import is_implemented
from analysis.reproduction import fallen, gone
from analysis.tables import COLUMNS
from ear.config import RunConfig

SECONDS = "seconds an image"


@dataclass(frozen=True)
class Verdict:
    """What our runs say of one claim, and what it rests on."""

    claim: Claim
    base: str
    outcome: Outcome
    test: str = ""  # which tests found what; empty if none was made
    quantity: str = ""  # what `sides` measure: `FID`; empty if nothing was measured
    sides: tuple[Side, ...] = ()
    tests: tuple[PairedTest, ...] = ()
    seeds_needed: str = ""  # of an undecided claim, for 80% power: `8`, `more than 100`; empty if it can't be said
    todo: str = ""  # of a claim that is not tested: the command, or what is missing
    why: str = ""  # a note on this verdict on this dataset

    @property
    def seeds(self) -> tuple[int, ...]:
        """The training seeds behind the numbers."""
        return tuple(sorted({seed for side in self.sides for seed in side.values}))

    @property
    def keys(self) -> tuple[str, ...]:
        """The store keys of the evaluations behind the numbers, and of the stages of diverged runs."""
        return tuple(sorted({key for side in self.sides for key in side.keys}))


def judge(claims: Sequence[Claim], evidence: Evidence, schema: type[BaseModel] = RunConfig) -> list[Verdict]:
    """Returns a verdict on each claim; `schema` says what the code can do."""
    return [judge_one(claim, evidence, schema) for claim in claims]


def judge_one(claim: Claim, evidence: Evidence, schema: type[BaseModel] = RunConfig) -> Verdict:
    """Returns the verdict on a claim."""
    verdict = partial(Verdict, claim, evidence.base)
    if not is_implemented(claim.needs, schema):
        return verdict("not yet implemented", todo=", ".join(f"{name}: {value}" for name, value in claim.needs.items()))
    try:
        quantity, sides, decision = tested(claim, evidence)
    except NotTestedError as error:
        return verdict("not tested", todo=str(error))
    return verdict(
        decision.outcome,
        decision.test,
        quantity,
        tuple(sides),
        decision.tests,
        decision.seeds_needed,
        why=claim.why.get(Path(evidence.base).stem, {}).get(decision.outcome, ""),
    )


def tested(claim: Claim, evidence: Evidence) -> tuple[str, list[Side], Decision]:
    """Returns what a claim's statistic measures, on each side, and what follows.

    Raises:
        NotTestedError: runs are missing.
    """
    match claim.statistic:
        case Ordered() as said:
            metric = COLUMNS[said.metric][0]
            sides = [side for _, side in evidence.along(said, said.along, said.metric, said.labels)]
            tests = decisions.ordered([labelled(side) for side in sides], said.direction == "rises", metric)
            return metric, sides, decide(tests)
        case BestAt() as said:
            metric = COLUMNS[said.metric][0]
            sides, best, others = apart(evidence, said)
            higher = said.metric in HIGHER_IS_BETTER
            tests = decisions.best_at(labelled(best), [labelled(side) for side in others], higher, metric)
            return metric, sides, decide(tests)
        case LowerThan() as said:
            metric = COLUMNS[said.metric][0]
            evidence.require_measured_alike(claim.sweeps)
            sides = [evidence.measured(arm.label, arm, said.metric) for arm in (said.one, said.other)]
            if unstable := only_one_trains(*sides):
                return metric, sides, unstable
            one, other = map(labelled, sides)
            return metric, sides, decide(decisions.lower_than(one, other, metric))
        case Faster() as said:
            sides = [evidence.side(arm.label, arm, evidence.seconds_an_image) for arm in (said.one, said.other)]
            evidence.require_same_machine(sides)
            one, other = map(labelled, sides)
            return SECONDS, sides, decide(decisions.faster(one, other), "paired t-test of the logarithms")
        case Collapses() as said:
            metric = COLUMNS[said.metric][0]
            sides, place, others = apart(evidence, said)
            values = pd.DataFrame({at: pd.Series(side.values) for at, side in enumerate([place, *others])}, dtype=float)
            held = (gone if said.metric == "recall" else fallen)(values, 0)
            what = "below a tenth of the best elsewhere" if said.metric == "recall" else "below half of every other"
            return metric, sides, decide_by_seed(held, f"{metric} is {what}")
        case Diverges() as said:
            sides = [side for _, side in evidence.along(said, said.along, "fid")]
            return "FID", sides, diverges(sides)


def labelled(side: Side) -> Labelled:
    """Returns what the decisions need of a side."""
    return side.label, side.values


def apart(evidence: Evidence, said: BestAt | Collapses) -> tuple[list[Side], Side, list[Side]]:
    """Returns all sides in order, the one at the value that a claim singles out, and the others.

    Raises:
        NotTestedError: runs are missing.
    """
    found = evidence.along(said, said.along, said.metric)
    here = [side for value, side in found if value == said.value]
    others = [side for value, side in found if value != said.value]
    if not here or not others:
        raise NotTestedError(f"no run of {said.sweep} has ended at {said.along} {said.value}, or none elsewhere")
    return [side for _, side in found], here[0], others


def only_one_trains(one: Side, other: Side) -> Decision | None:
    """Decides that one side is better where every training of the other diverges; None if both train.

    Null hypothesis: both sides are stable. No test is made, as in `decide_by_seed`.
    """
    trains = [len(side.values) for side in (one, other)]
    diverged = [set(side.ends) == {"diverged"} and side.ends["diverged"] for side in (one, other)]
    if min(trains[0], diverged[1]) >= 2:
        return Decision("reproduces", f"every training with {other.label} diverged, and none with {one.label}")
    if min(trains[1], diverged[0]) >= 2:
        return Decision("contradicted", f"every training with {one.label} diverged, and none with {other.label}")
    return None


def diverges(sides: Sequence[Side]) -> Decision:
    """Decides that all trainings diverge: all of at least two at each value.

    Null hypothesis: trainings are stable. No test is made, as in `decide_by_seed`.
    """
    diverged = [side.ends.get("diverged", 0) for side in sides]
    ended = [diverged[at] + side.ends.get("finished", 0) for at, side in enumerate(sides)]
    steps = [side.diverged_at for side in sides if side.diverged_at is not None]
    first = f", the first at step {min(steps)}" if steps else ""
    test = f"{sum(diverged)} of {sum(ended)} trainings diverged{first}"
    if min(ended) < 2:
        return Decision("undecided", test, "2")
    if diverged == ended:
        return Decision("reproduces", test)
    return Decision("contradicted" if not any(diverged) else "undecided", test)
