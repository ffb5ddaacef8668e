"""How much each setting of `execution` changes a training's numbers: the table of docs/reproducibility.md.

    python tests/benchmarks/numerics.py     some ten minutes, most of it compilation

Largest relative difference of a step's loss from the plain run's on digits, within 10, 30 and 60 steps.
"""

import torch

from ear.config import load_config
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer

STEPS = 60
DROPOUT = ("model.attention_dropout=0.1", "model.projection_dropout=0.1")
BFLOAT16 = "execution.precision=bfloat16"
VARIANTS = {
    "the same again": (),
    "two threads": ("execution.threads=2",),
    "micro_batch 16": ("execution.micro_batch=16",),
    "activation_checkpointing": ("execution.activation_checkpointing=true",),
    "compile": ("execution.compile=true",),
    "bfloat16": (BFLOAT16,),
}


def losses(*overrides: str) -> torch.Tensor:
    """Of every step, float64."""
    torch._dynamo.reset()
    short = (f"training.stages.0.steps={STEPS}", "training.stages.1.steps=1", "optimizer.warmup_steps=5")
    config = load_config("digits", [*short, "execution.log_every=1", *overrides])
    torch.set_num_threads(config.execution.threads)
    trainer = Trainer(config, load_token_data(config))
    for _ in range(STEPS):
        trainer.advance()
    return torch.tensor([record.loss for record in trainer.history], dtype=torch.float64)


def show(title: str, found: torch.Tensor, plain: torch.Tensor) -> None:
    differences = (found / plain - 1).abs()
    print(f"{title:50}", *(f"{differences[:steps].max():8.1e}" for steps in (10, 30, STEPS)), flush=True)


def main() -> None:
    for title, base in (("", ()), ("dropout, ", DROPOUT)):
        plain = losses(*base)
        for name, overrides in VARIANTS.items():
            show(f"{title}{name}", losses(*base, *overrides), plain)
        low = losses(*base, BFLOAT16)
        for name in ("two threads", "compile"):
            show(f"{title}bfloat16, {name} against bfloat16", losses(*base, BFLOAT16, *VARIANTS[name]), low)


if __name__ == "__main__":
    main()
