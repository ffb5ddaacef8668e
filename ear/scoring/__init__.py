"""Scoring rules: one interface, one file per rule."""

from ear.config.schema import HyvarinenConfig, ScoringConfig
from ear.scoring.base import ScoringRule
from ear.scoring.energy import EnergyRule
from ear.scoring.hyvarinen import HyvarinenRule

__all__ = ["ScoringRule", "build_rule"]


def build_rule(config: ScoringConfig, condition_dim: int, token_dim: int) -> ScoringRule:
    """Build the configured scoring rule, for conditions of width W and tokens of D values."""
    if isinstance(config, HyvarinenConfig):
        return HyvarinenRule(config, condition_dim, token_dim)
    return EnergyRule(config, condition_dim, token_dim)
