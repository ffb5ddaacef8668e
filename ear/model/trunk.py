"""The masked-autoregressive transformer: it maps known tokens and a class to condition vectors at masked positions.

Dimensions: B images, L tokens, n of them wanted, P class tokens in front ("buffer"), D values per token, W width.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ear.config.schema import ModelConfig
from ear.initialisation import initialise_linears
from ear.model.transformer import LAYER_NORM_EPS, Block

INITIAL_STD = 0.02  # of embeddings


class MaskedAutoregressiveTransformer(nn.Module):
    """The trunk: MAR's decoder-only variant (Li et al. 2024), as used in EAR."""

    def __init__(self, config: ModelConfig, tokens: int, token_dim: int, classes: int) -> None:
        super().__init__()
        self.buffer_tokens = config.buffer_tokens
        self.recompute = False  # whether to recompute the blocks' activations in the backward pass
        self.token_embedding = nn.Linear(token_dim, config.width)
        self.class_embedding = nn.Embedding(classes, config.width)
        self.null_class = nn.Parameter(torch.empty(config.width))
        self.mask_token = nn.Parameter(torch.empty(config.width))
        self.position_embedding = nn.Parameter(torch.empty(config.buffer_tokens + tokens, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw all weights: embeddings from normal(0, 0.02), matrices Xavier-uniform, biases 0, norms 1."""
        for embedding in (self.class_embedding.weight, self.null_class, self.mask_token, self.position_embedding):
            nn.init.normal_(embedding, std=INITIAL_STD, generator=generator)
        initialise_linears(self, generator)

    def embed_classes(self, labels: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Embed labels [B] to [B, W], using the null class where `dropped` [B] is True."""
        embedding = self.class_embedding(labels)
        if dropped is None:
            return cast(Tensor, embedding)
        return torch.where(dropped.unsqueeze(1), self.null_class, embedding)

    def embed_null(self, images: int) -> Tensor:
        """The null class's embedding, [images, W]."""
        return self.null_class.expand(images, -1)

    def forward(self, tokens: Tensor, mask: Tensor, class_embedding: Tensor, positions: Tensor) -> Tensor:
        """Compute the condition vectors at the wanted positions.

        Args:
            tokens: [B, L, D]; values at masked positions have no effect.
            mask: [B, L] bool, True at masked positions.
            class_embedding: [B, W].
            positions: [B, n] int64, the wanted positions; the last block computes only these.

        Returns:
            z [B, n, W].
        """
        x_BLW = torch.where(mask.unsqueeze(2), self.mask_token, self.token_embedding(tokens))
        class_BPW = class_embedding.unsqueeze(1).expand(-1, self.buffer_tokens, -1)
        x = torch.cat([class_BPW, x_BLW], dim=1) + self.position_embedding
        *earlier, last = self.blocks
        for block in earlier:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute and self.training else block(x)
        return cast(Tensor, self.norm(last(x, positions + self.buffer_tokens)))
