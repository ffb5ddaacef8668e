"""What a parameter can influence, as declared at the schema's fields."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ear.config.loading import INDEX, models_in
from ear.config.schema import Reach, RunConfig
from ear.errors import UserError


@dataclass(frozen=True)
class ParameterReach:
    """What a parameter can influence."""

    reach: Reach
    stage: int = 0  # the first training stage that it influences, if it influences training
    defines_loss: bool = False  # training losses at different values can't be compared

    @property
    def needs_training(self) -> bool:
        """Whether another value needs another training."""
        return self.reach in (Reach.TRAINING, Reach.STAGE, Reach.EVERYTHING)


def parameter_reach(parameter: str, config: RunConfig) -> ParameterReach:
    """The reach of a dotted parameter (`training.stages.-1.train_temperature`) of runs like `config`.

    Raises:
        UserError: the schema has no such parameter.
    """
    sections: list[type[BaseModel]] = [RunConfig]
    found = ParameterReach(Reach.TRAINING)
    for part in parameter.split("."):
        if INDEX.fullmatch(part):
            if found.reach is Reach.STAGE:
                found = ParameterReach(Reach.STAGE, int(part) % len(config.training.stages), found.defines_loss)
            continue
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if not fields:
            raise UserError(f"There is no parameter {parameter!r}: `ear schema run` lists all of them.")
        found = _declared(fields[0], found)
        sections = [model for field in fields for model in models_in(field.annotation)]
    return found


def _declared(field: FieldInfo, above: ParameterReach) -> ParameterReach:
    extra: Any = field.json_schema_extra or {}
    return ParameterReach(
        Reach(extra["reach"]) if "reach" in extra else above.reach,
        above.stage,
        extra.get("defines_loss", above.defines_loss),
    )
