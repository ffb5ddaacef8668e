"""The masked-autoregressive transformer: known tokens and a class in, a condition vector at each wanted position out.

Dimensions: B images, L tokens, n of them wanted, P class tokens in front ("buffer"), D values a token, W width.
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
    """MAR's decoder-only variant (Li et al. 2024), as EAR uses it."""

    def __init__(self, config: ModelConfig, tokens: int, token_dim: int, classes: int) -> None:
        super().__init__()
        self.buffer_tokens = config.buffer_tokens
        self.recompute = False  # the blocks' activations in the backward pass, instead of keeping them
        self.token_embedding = nn.Linear(token_dim, config.width)
        self.class_embedding = nn.Embedding(classes, config.width)
        self.null_class = nn.Parameter(torch.empty(config.width))
        self.mask_token = nn.Parameter(torch.empty(config.width))
        self.position_embedding = nn.Parameter(torch.empty(config.buffer_tokens + tokens, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)

    def initialise(self, generator: torch.Generator) -> None:
        """Draws every weight: embeddings from normal(0, 0.02), matrices Xavier-uniform, biases 0, norms 1."""
        for embedding in (self.class_embedding.weight, self.null_class, self.mask_token, self.position_embedding):
            nn.init.normal_(embedding, std=INITIAL_STD, generator=generator)
        initialise_linears(self, generator)

    def embed_classes(self, labels: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Labels [B] -> embeddings [B, W], the null class's where `dropped` [B] is True."""
        embedding = self.class_embedding(labels)
        if dropped is None:
            return cast(Tensor, embedding)
        return torch.where(dropped.unsqueeze(1), self.null_class, embedding)

    def embed_null(self, images: int) -> Tensor:
        """The unconditional condition, [images, W]."""
        return self.null_class.expand(images, -1)

    def forward(self, tokens: Tensor, mask: Tensor, class_embedding: Tensor, positions: Tensor) -> Tensor:
        """Condition vectors at the positions that are to be predicted.

        Args:
            tokens: [B, L, D]; what stands at masked positions has no influence.
            mask: [B, L] bool, True where a token is to be predicted.
            class_embedding: [B, W].
            positions: [B, n] int64, whose conditions are wanted; the last block leaves out the work of the others.

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
