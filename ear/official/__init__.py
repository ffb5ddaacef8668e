"""Checkpoints of the official EAR project: the same weights under this program's names."""

from ear.official.checkpoint import OfficialCheckpoint, load_official, save_official
from ear.official.names import official_name, translate

__all__ = ["OfficialCheckpoint", "load_official", "official_name", "save_official", "translate"]
