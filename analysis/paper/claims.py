"""The claims of the paper as data: the schema of claims.yaml, and its loading."""

from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ear.config.loading import as_mapping, validate
from ear.config.schema import Section
from ear.config.yaml_text import parse_yaml

FILE = "claims.yaml"
HIGHER_IS_BETTER = ("is", "precision", "recall")

Metric = Literal["fid", "is", "precision", "recall"]
Words = Annotated[str, Field(min_length=1)]
Outcome = Literal["reproduces", "contradicted", "undecided", "not tested", "not yet implemented"]
"""What our runs say of a claim."""


class Place(Section):
    """Runs of one sweep. Every axis of the sweep is in `at`, in `tuned`, or is the axis that the statistic varies."""

    sweep: Words
    """A sweep of sweeps/paper/, by name."""
    at: dict[str, Any] = {}
    """Axis -> its value."""
    tuned: list[str] = []
    """Axes for which each side takes its best value with each seed, so that neither is compared at the other's."""


class Arm(Place):
    """One side of a comparison."""

    label: Words


class Ordered(Place):
    """The metric rises or falls along an axis: at every step, in this direction."""

    name: Literal["ordered"] = "ordered"
    along: Words
    metric: Metric = "fid"
    direction: Literal["rises", "falls"]
    labels: list[str] = []
    """Names of the axis' values, in order. Default: the values."""


class BestAt(Place):
    """One value of an axis has a better metric than every other value."""

    name: Literal["best_at"] = "best_at"
    along: Words
    value: Any
    metric: Metric = "fid"


class LowerThan(Section):
    """The metric of one side is lower than that of the other."""

    name: Literal["lower_than"] = "lower_than"
    metric: Metric = "fid"
    one: Arm
    other: Arm

    @model_validator(mode="after")
    def _tuned_alike(self) -> Self:
        if len(self.one.tuned) != len(self.other.tuned):
            raise ValueError("tune both sides or none: the best of several would be compared with a single one")
        return self


class Faster(Section):
    """One side takes fewer seconds an image than the other."""

    name: Literal["faster"] = "faster"
    one: Arm
    other: Arm


class Collapses(Place):
    """At one value of an axis the metric drops out, as `analysis.reproduction` defines it, seed by seed."""

    name: Literal["collapses"] = "collapses"
    along: Words
    value: Any
    metric: Literal["recall", "is"]


class Diverges(Place):
    """Every training diverges."""

    name: Literal["diverges"] = "diverges"
    tuned: Annotated[list[str], Field(max_length=0)] = []
    along: Words
    """The axis whose values all diverge."""


Statistic = Annotated[
    Ordered | BestAt | LowerThan | Faster | Collapses | Diverges,
    Field(discriminator="name"),
]


class Claim(Section):
    """A claim of the paper and how it is tested."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    words: Words
    source: Words
    """Where the paper claims it, as far as its summary says."""
    statistic: Statistic
    compared: str = ""
    """What is compared here, where the words do not say it."""
    needs: dict[str, Any] = {}
    """Configuration values that the test needs; until the schema accepts them, the claim is not yet implemented."""
    paper: dict[str, dict[str, str]] = {}
    """The paper's numbers as printed: quantity -> what it belongs to -> number. Empty where the sources give none."""
    why: dict[str, dict[Outcome, str]] = {}
    """Dataset (a configuration's name) -> verdict -> why; shown with this verdict only."""

    @property
    def sweeps(self) -> list[str]:
        """The names of the sweeps that test it."""
        statistic = self.statistic
        arms = [statistic.one, statistic.other] if isinstance(statistic, LowerThan | Faster) else [statistic]
        return list(dict.fromkeys(arm.sweep for arm in arms))


def _differ(claims: list[Claim]) -> list[Claim]:
    names = [claim.id for claim in claims]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"duplicate id: {', '.join(repeated)}")
    return claims


class Claims(Section):
    """The content of claims.yaml."""

    claims: Annotated[list[Claim], Field(min_length=1), AfterValidator(_differ)]


def read_claims(text: str, source: str = FILE) -> list[Claim]:
    """Returns the claims in a YAML text.

    Raises:
        UserError: it is not valid; one line for each fault.
    """
    return validate(Claims, as_mapping(parse_yaml(text, source), source), source).claims


def paper_claims() -> list[Claim]:
    """Returns the claims of the paper."""
    return read_claims((resources.files("analysis.paper") / FILE).read_text(encoding="utf-8"))
