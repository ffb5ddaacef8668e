"""A pre-norm transformer block (ViT, Dosovitskiy et al. 2021).

Dimensions: B images, S positions, Q of them wanted, W width, H heads, E = W / H channels per head.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ear.config.schema import ModelConfig
from ear.model.masking import gather_positions

LAYER_NORM_EPS = 1e-6  # as in the paper


class Attention(nn.Module):
    """Bidirectional multi-head self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.attention_dropout = config.attention_dropout
        self.dropout = nn.Dropout(config.projection_dropout)

    def forward(self, x: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Map [B, S, W] to [B, S, W], or to [B, Q, W] if only the positions `wanted` [B, Q] are needed."""
        q_BSW, k_BSW, v_BSW = self.qkv(x).chunk(3, dim=-1)
        if wanted is not None:
            q_BSW = gather_positions(q_BSW, wanted)
        q_BHQE, k_BHSE, v_BHSE = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q_BSW, k_BSW, v_BSW)
        )
        dropout = self.attention_dropout if self.training else 0.0
        y_BHQE = F.scaled_dot_product_attention(q_BHQE, k_BHSE, v_BHSE, dropout_p=dropout)
        return cast(Tensor, self.dropout(self.output(y_BHQE.transpose(1, 2).flatten(2))))


class MLP(nn.Module):
    """The two-layer MLP of a block, with GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.expand = nn.Linear(config.width, hidden)
        self.contract = nn.Linear(hidden, config.width)
        self.dropout = nn.Dropout(config.projection_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., W] to [..., W]."""
        return cast(Tensor, self.dropout(self.contract(self.dropout(F.gelu(self.expand(x))))))


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each with a residual connection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Map [B, S, W] to [B, S, W], or to [B, Q, W] if only the positions `wanted` [B, Q] are needed."""
        residual = x if wanted is None else gather_positions(x, wanted)
        x = residual + self.attention(self.attention_norm(x), wanted)
        return cast(Tensor, x + self.mlp(self.mlp_norm(x)))
