"""The baseline of the benchmarks: the same mathematics as one writes it down, in eager PyTorch.

It follows the official code's structure and names. Training: a DataLoader of images, cut into patches batch by batch;
an order shuffled image by image; the mask ratio from scipy; the generator at every position for one sample after the
other, with a mask that picks what counts; PyTorch's defaults for optimizer and clipping; an average updated tensor by
tensor. Sampling: the trunk at every position, boolean masks that pick and put the tokens of a step.
"""

import math
from collections.abc import Iterator

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ear.data import ImageDataset, to_unit_range
from ear.official import official_name
from ear.training.optimizer import LR_SCALE
from ear.training.schedule import learning_rate, stage_at
from ear.training.trainer import Trainer


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        qkv = self.qkv(x).reshape(batch, positions, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).reshape(batch, positions, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, noise: Tensor, temperature: float) -> Tensor:
        shift, scale, gate = self.adaLN_modulation(noise).chunk(3, dim=-1)
        shift = shift if self.training else shift * temperature
        return x + gate * self.mlp(self.in_ln(x) * (1 + scale) + shift)


class FinalLayer(nn.Module):
    def __init__(self, width: int, token_dim: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, token_dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(noise).chunk(2, dim=-1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class Generator(nn.Module):
    def __init__(self, condition: int, width: int, depth: int, noise_channels: int, token_dim: int) -> None:
        super().__init__()
        self.noise_embed = nn.Linear(noise_channels, width)
        self.input_proj = nn.Linear(condition, width)
        self.res_blocks = nn.ModuleList(ResBlock(width) for _ in range(depth))
        self.final_layer = FinalLayer(width, token_dim)

    def forward(self, z: Tensor, noise: Tensor, temperature: float = 1.0) -> Tensor:
        x, noise = self.input_proj(z), self.noise_embed(noise)
        for block in self.res_blocks:
            x = block(x, noise, temperature)
        return self.final_layer(x, noise)


class PlainModel(nn.Module):
    """For two samples and alpha = 1."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        model, generator = trainer.config.model, trainer.config.scoring.generator
        self.buffer_size, self.noise_channels = model.buffer_tokens, generator.noise_channels
        tokens, token_dim, width = trainer.tokenizer.tokens, trainer.tokenizer.token_dim, model.width
        self.z_proj = nn.Linear(token_dim, width)
        self.class_emb = nn.Embedding(trainer.data.classes, width)
        self.fake_latent = nn.Parameter(torch.empty(width))
        self.mask_token = nn.Parameter(torch.empty(width))
        self.decoder_pos_embed_learned = nn.Parameter(torch.empty(model.buffer_tokens + tokens, width))
        self.decoder_blocks = nn.ModuleList(
            Block(width, model.heads, int(width * model.mlp_ratio)) for _ in range(model.depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        net = Generator(width, generator.width, generator.depth, generator.noise_channels, token_dim)
        self.scoreloss = nn.ModuleDict({"net": net})
        self.load_state_dict({official_name(name): value for name, value in trainer.model.state_dict().items()})

    def trunk(self, tokens: Tensor, mask: Tensor, classes: Tensor) -> Tensor:
        """Conditions at every position, [B, L, W]."""
        x = torch.where(mask.unsqueeze(-1).bool(), self.mask_token, self.z_proj(tokens))
        x = torch.cat([classes.unsqueeze(1).repeat(1, self.buffer_size, 1), x], dim=1)
        x = x + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, self.buffer_size :]

    def forward(
        self, tokens: Tensor, labels: Tensor, mask: Tensor, dropped: Tensor, noise: list[Tensor], temperature: float
    ) -> Tensor:
        classes = self.class_emb(labels)
        drop = dropped.unsqueeze(-1).float()
        classes = drop * self.fake_latent + (1 - drop) * classes
        z = self.trunk(tokens, mask, classes).flatten(0, 1)
        target = tokens.flatten(0, 1)
        one, other = (self.scoreloss["net"](z, sample_noise) for sample_noise in noise)
        loss = (one - target).norm(dim=-1) + (other - target).norm(dim=-1) - temperature * (one - other).norm(dim=-1)
        weight = mask.flatten()
        return (loss * weight).sum() / weight.sum()

    @torch.no_grad()
    def sample(
        self, labels: Tensor, orders: Tensor, steps: int, cfg: float, temperature: float, token_dim: int
    ) -> Tensor:
        """Tokens [B, L, D] with the linear guidance schedule."""
        images, length = orders.shape
        tokens, mask = torch.zeros(images, length, token_dim), torch.ones(images, length)
        for step in range(steps):
            known = tokens.clone()
            classes, seen, hidden = self.class_emb(labels), tokens, mask
            if cfg != 1:
                classes = torch.cat([classes, self.fake_latent.expand(images, -1)])
                seen, hidden = torch.cat([tokens, tokens]), torch.cat([mask, mask])
            z = self.trunk(seen, hidden, classes)
            ratio = np.cos(math.pi / 2 * (step + 1) / steps)
            left = torch.Tensor([np.floor(length * ratio)])
            left = torch.maximum(torch.Tensor([1]), torch.minimum(mask.sum(dim=-1, keepdim=True) - 1, left))
            still = torch.zeros(images, length).scatter(1, orders[:, : int(left[0].item())], 1.0)
            now = mask.bool() if step == steps - 1 else torch.logical_xor(mask.bool(), still.bool())
            mask = still
            if cfg != 1:
                z_class, z_null = (half[now.nonzero(as_tuple=True)] for half in z.chunk(2))
                scale = 1 + (cfg - 1) * (length - left[0].item()) / length
                picked = scale * z_class + (1 - scale) * z_null
            else:
                picked = z[now.nonzero(as_tuple=True)]
            noise = torch.rand(len(picked), self.noise_channels) - 0.5
            known[now.nonzero(as_tuple=True)] = self.scoreloss["net"](picked, noise, temperature)
            tokens = known.clone()
        return tokens


class PlainTraining:
    """Trains on a trainer's dataset, from its initial weights."""

    def __init__(self, trainer: Trainer, images: ImageDataset) -> None:
        self.config = trainer.config
        self.step = 0
        self.model = PlainModel(trainer)
        self.tokenizer = trainer.tokenizer
        self.length = trainer.tokenizer.tokens
        dataset = TensorDataset(to_unit_range(images.train.images), images.train.labels)
        self.loader = DataLoader(dataset, self.config.training.batch_size, shuffle=True, drop_last=True)
        self.batches = self.endless_batches()
        training = self.config.training
        self.ratio = scipy.stats.truncnorm(
            (training.mask_ratio_min - 1) / training.mask_ratio_std, 0, loc=1, scale=training.mask_ratio_std
        )
        parameters = dict(self.model.named_parameters())
        names = {parameter: official_name(name) for name, parameter in trainer.model.named_parameters()}
        groups = [
            {
                "params": [parameters[names[parameter]] for parameter in group["params"]],
                "weight_decay": group["weight_decay"],
                LR_SCALE: group[LR_SCALE],
            }
            for group in trainer.optimizer.param_groups
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=self.config.optimizer.betas)
        self.averages = [parameter.detach().clone() for parameter in self.model.parameters()]

    def endless_batches(self) -> Iterator[list[Tensor]]:
        while True:
            yield from self.loader

    def random_orders(self, images: int) -> Tensor:
        orders = []
        for _ in range(images):
            order = np.arange(self.length)
            np.random.shuffle(order)
            orders.append(order)
        return torch.from_numpy(np.array(orders))

    def random_mask(self, images: int) -> Tensor:
        orders = self.random_orders(images)
        masked = int(np.ceil(self.length * self.ratio.rvs(1)[0]))
        mask = torch.zeros(images, self.length)
        return mask.scatter(1, orders[:, :masked], 1.0)

    def train_step(self) -> float:
        pixels, labels = next(self.batches)
        images = len(labels)
        rows = images * self.length
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step) * group[LR_SCALE]
        loss = self.model(
            self.tokenizer.encode(pixels),
            labels,
            mask=self.random_mask(images),
            dropped=torch.rand(images) < self.config.training.label_drop,
            noise=[torch.rand(rows, self.model.noise_channels) - 0.5 for _ in range(2)],
            temperature=stage_at(self.config, self.step).train_temperature,
        )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        decay = self.config.optimizer.ema_decay
        for average, parameter in zip(self.averages, self.model.parameters(), strict=True):
            average.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
        self.step += 1
        return loss.item()
