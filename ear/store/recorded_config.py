"""Reads the configuration that was recorded with a result."""

from ear.config import RunConfig
from ear.config.earlier import resolve_auto_precision
from ear.config.loading import read_yaml, validate
from ear.errors import UserError
from ear.store.store import Store

CONFIG = "config.yaml"  # in the folder of a training stage or an evaluation


def recorded_config(store: Store, key: str) -> RunConfig:
    """The configuration that a training stage was trained with, or an evaluation measured with.

    Raises:
        UserError: it is missing or damaged.
    """
    path = store.path(key) / CONFIG
    try:
        values = read_yaml(path)
    except UserError as error:
        raise UserError(f"{error} If the result is lost, the command that computed it computes it again.") from error
    return validate(RunConfig, resolve_auto_precision(values, "float32"), str(path), recorded=True)
