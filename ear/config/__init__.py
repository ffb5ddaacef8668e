"""The configuration of a run: one validated, frozen schema, read from YAML and dotted overrides."""

from ear.config.hashing import config_hash
from ear.config.loading import load_config
from ear.config.schema import Reach, RunConfig

__all__ = ["Reach", "RunConfig", "config_hash", "load_config"]
