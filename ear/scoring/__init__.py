"""Scoring rules: one interface, one rule a file."""

from ear.config.schema import ScoringConfig
from ear.scoring.base import ScoringRule
from ear.scoring.energy import EnergyRule

__all__ = ["ScoringRule", "build_rule"]


def build_rule(config: ScoringConfig, condition_dim: int, token_dim: int) -> ScoringRule:
    """The rule that the configuration names, for conditions of width W and tokens of D values."""
    return EnergyRule(config, condition_dim, token_dim)
