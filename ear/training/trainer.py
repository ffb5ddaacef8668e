"""The training loop, and nothing that is not the loop.

Dimensions: B images a step, L tokens, n masked tokens an image, D values a token.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ear.config import RunConfig
from ear.data import ImageDataset, to_unit_range
from ear.errors import UserError
from ear.model import ImageModel, build_model, random_orders
from ear.model.masking import masked_count, sample_mask_ratio
from ear.random import stream_generator, stream_seed
from ear.tokenizers import Tokenizer, build_tokenizer
from ear.training.callbacks import Callback
from ear.training.checkpoint import (
    CheckpointHeader,
    load_header,
    load_part,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from ear.training.data_order import EpochOrder
from ear.training.divergence import DivergenceGuard
from ear.training.ema import ExponentialMovingAverage
from ear.training.history import TrainingRecord, from_tensors, to_tensors
from ear.training.optimizer import build_optimizer, set_learning_rate
from ear.training.schedule import learning_rate, stage_at, stage_ends


@dataclass(frozen=True)
class StepRandomness:
    """Everything random about one step, keyed by (seed, step), drawn on the CPU."""

    orders: Tensor  # [B, L]
    masked: int  # n
    dropped: Tensor  # [B] bool
    noise: Tensor  # the rule's, for B * n rows


class Trainer:
    """Trains one configuration, in as many pieces as the caller likes.

    Equal configurations give equal weights on a CPU, whether or not the training was interrupted in between.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: ImageDataset,
        *,
        device: torch.device | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.config = config
        self.callbacks = list(callbacks)
        self.device = device or torch.device("cpu")
        self.dataset_hash = dataset.content_hash()
        self.tokenizer: Tokenizer = build_tokenizer(config.tokenizer, dataset)
        self.tokens = self.tokenizer.encode(to_unit_range(dataset.train.images)).to(self.device)
        self.labels = dataset.train.labels.to(self.device)
        self.model: ImageModel = build_model(config, self.tokenizer.tokens, self.tokenizer.token_dim, dataset.classes)
        self.model.to(self.device).train()
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.ema = ExponentialMovingAverage(self.model.named_parameters(), config.optimizer.ema_decay)
        self.guard = DivergenceGuard(self.device)
        self.order = EpochOrder(len(self.labels), config.training.batch_size, config.seed)
        self.step = 0
        self.diverged_at: int | None = None  # counted from 1
        self.seconds = 0.0  # of training since the run's beginning, interruptions left out
        self.history: list[TrainingRecord] = []
        self._has_dropout = config.model.attention_dropout > 0 or config.model.projection_dropout > 0

    @property
    def finished(self) -> bool:
        return self.diverged_at is not None or self.step == self.config.training.total_steps

    @property
    def stage(self) -> int:
        """Index of the stage that the next step belongs to."""
        return sum(end <= self.step for end in stage_ends(self.config.training))

    def advance(self) -> None:
        """Trains up to the next record of the curve: a multiple of `execution.log_every` steps, or the stage's end."""
        assert not self.finished
        stage, stage_end = self.stage, stage_ends(self.config.training)[self.stage]
        log_every = self.config.execution.log_every
        target = min(stage_end, (self.step // log_every + 1) * log_every)
        started = time.perf_counter()
        loss_sum, norm_sum = torch.zeros(2, device=self.device)
        steps = target - self.step
        while self.step < target:
            loss, norm = self._train_step()
            loss_sum += loss
            norm_sum += norm
            self.step += 1
        self.diverged_at = self.guard.diverged_at()  # waits for the device, once for all these steps
        self.seconds += time.perf_counter() - started
        if self.diverged_at is not None:
            self.step = self.diverged_at - 1
            self._call("on_divergence", self.diverged_at)
            return
        record = TrainingRecord(
            step=self.step,
            loss=loss_sum.item() / steps,
            gradient_norm=norm_sum.item() / steps,
            learning_rate=learning_rate(self.config, self.step - 1),
            seconds=self.seconds,
        )
        self.history.append(record)
        self._call("on_record", record)
        if self.step == stage_end:
            self._call("on_stage_end", stage)

    def _train_step(self) -> tuple[Tensor, Tensor]:
        """One update. Returns the loss and the gradient's norm before clipping, scalars on the device."""
        stage = stage_at(self.config.training, self.step)
        set_learning_rate(self.optimizer, learning_rate(self.config, self.step))
        indices = self.order.batch(self.step).to(self.device)
        random = self.step_randomness(self.step)
        if self._has_dropout:  # attention's dropout draws from torch's global generator and can't be given another
            torch.manual_seed(stream_seed(self.config.seed, "dropout", self.step))
        loss = self.model.loss(
            self.tokens[indices],
            self.labels[indices],
            orders=random.orders.to(self.device),
            masked=random.masked,
            dropped=random.dropped.to(self.device),
            noise=random.noise.to(self.device),
            train_temperature=stage.train_temperature,
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        self.guard.observe(loss.detach(), norm)
        # A fused optimizer takes what a gradient scaler would hand it in these attributes: the number that it divides
        # gradients by, which clips them without a pass of its own, and the flag to skip the update.
        self.optimizer.grad_scale = (norm / self.config.optimizer.clip_norm).clamp(min=1)  # type: ignore[attr-defined]
        self.optimizer.found_inf = self.guard.diverged  # type: ignore[attr-defined]
        self.optimizer.step()
        self.ema.update(self.guard.alive)
        return loss.detach(), norm

    def step_randomness(self, step: int) -> StepRandomness:
        """What step `step` draws; it depends on the seed and the step only."""
        training = self.config.training
        generator = stream_generator(self.config.seed, "step", step)
        ratio = sample_mask_ratio(training.mask_ratio_min, training.mask_ratio_std, generator)
        masked = masked_count(self.tokenizer.tokens, ratio)
        return StepRandomness(
            orders=random_orders(training.batch_size, self.tokenizer.tokens, generator),
            masked=masked,
            dropped=torch.rand(training.batch_size, generator=generator) < training.label_drop,
            noise=self.model.rule.training_noise(training.batch_size * masked, generator),
        )

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def save(self, path: Path) -> None:
        """Writes a checkpoint that `restore` goes on from."""
        save_checkpoint(
            path,
            CheckpointHeader(self.config, self.step, self.dataset_hash),
            {
                "model": self.model.state_dict(),
                "ema": self.ema.averages,
                "optimizer": optimizer_tensors(self.optimizer, dict(self.model.named_parameters())),
                "tokenizer": self.tokenizer.state_dict(),
                "history": to_tensors(self.history),
            },
        )

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint of this configuration, or of one that agrees with it up to the checkpoint's step.

        Raises:
            UserError: the checkpoint is damaged, or was trained on other data.
        """
        header = load_header(path)
        if header.dataset_hash != self.dataset_hash:
            raise UserError(f"{path} was trained on other data than {self.config.data.name} is now.")
        self.model.load_state_dict(load_part(path, "model"))
        for name, average in load_part(path, "ema").items():
            self.ema.averages[name].copy_(average)
        restore_optimizer(self.optimizer, dict(self.model.named_parameters()), load_part(path, "optimizer"))
        self.history = from_tensors(load_part(path, "history"))
        self.seconds = self.history[-1].seconds if self.history else 0.0
        self.step = header.step
        self.guard = DivergenceGuard(self.device, self.step)
