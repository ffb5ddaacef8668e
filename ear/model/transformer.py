"""A pre-norm transformer block with its own attention (ViT, Dosovitskiy et al. 2021).

Dimensions: B images, S positions, W width, H heads, E = W / H channels a head.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from ear.config.schema import ModelConfig

LAYER_NORM_EPS = 1e-6  # the paper's


class Attention(nn.Module):
    """Bidirectional multi-head self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.attention_dropout = config.attention_dropout
        self.dropout = nn.Dropout(config.projection_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, W] -> [B, S, W]."""
        batch, positions, width = x.shape
        qkv_BS3HE = self.qkv(x).view(batch, positions, 3, self.heads, width // self.heads)
        q_BHSE, k_BHSE, v_BHSE = qkv_BS3HE.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attention_dropout if self.training else 0.0
        y_BHSE = F.scaled_dot_product_attention(q_BHSE, k_BHSE, v_BHSE, dropout_p=dropout)
        y_BSW = y_BHSE.transpose(1, 2).reshape(batch, positions, width)
        return cast(Tensor, self.dropout(self.output(y_BSW)))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.expand = nn.Linear(config.width, hidden)
        self.contract = nn.Linear(hidden, config.width)
        self.dropout = nn.Dropout(config.projection_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., W] -> [..., W]."""
        return cast(Tensor, self.dropout(self.contract(self.dropout(F.gelu(self.expand(x))))))


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, W] -> [B, S, W]."""
        x = x + self.attention(self.attention_norm(x))
        return cast(Tensor, x + self.mlp(self.mlp_norm(x)))
