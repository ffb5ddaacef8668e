"""The paper: its numbers, its claims as data, and the verdicts that our runs give on them."""

from analysis.paper.ablation import PaperAblation, paper_ablation

__all__ = ["PaperAblation", "paper_ablation"]
