"""The training loop.

Dimensions: B images per step, L tokens, n masked tokens per image, D values per token.
"""

import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ear.config import RunConfig
from ear.config.hashed import trained_differently
from ear.config.hashing import file_digest
from ear.errors import UserError
from ear.model import ImageModel, build_model
from ear.process.distributed import ALONE, Processes
from ear.process.execution import autocast, keep_compiled_code_private, to_device
from ear.random import stream_seed
from ear.tokenizers import Tokenizer
from ear.training.callbacks import Callback
from ear.training.checkpoint import (
    CheckpointHeader,
    load_header,
    load_part,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from ear.training.data_order import EpochOrder
from ear.training.divergence import DivergenceGuard
from ear.training.draws import step_draws
from ear.training.ema import ExponentialMovingAverage
from ear.training.fine_tuning import load_initial_weights
from ear.training.history import TrainingRecord, from_tensors, to_tensors
from ear.training.optimizer import build_optimizer, set_learning_rate
from ear.training.schedule import learning_rate, stage_at, stage_ends
from ear.training.token_data import TokenData
from ear.weights.faults import require_finite


class Trainer:
    """Trains one configuration, in one process or as one of several.

    `advance` trains up to the next record, so the caller can stop, save and restore in between. On a CPU, equal
    configurations give equal weights, interrupted or not. Several processes and gradient accumulation give the same
    weights up to rounding, except for dropout masks.
    """

    def __init__(
        self,
        config: RunConfig,
        data: TokenData,
        *,
        device: torch.device | None = None,
        processes: Processes = ALONE,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Build the model, optimizer and EMA for a training from its first step.

        Raises:
            UserError: there are more processes than images in a step, or the initial checkpoint does not fit.
        """
        if processes.count > config.training.batch_size:
            raise UserError(
                f"{processes.count} processes exceed the {config.training.batch_size} images of a step "
                "(training.batch_size): start fewer processes."
            )
        self.config = config
        self.data = data
        self.callbacks = list(callbacks)
        self.device = device or torch.device("cpu")
        self.processes = processes
        self.tokenizer: Tokenizer = data.tokenizer
        self.model: ImageModel = build_model(config, self.tokenizer.tokens, self.tokenizer.token_dim, data.classes)
        self._initial_hash = ""
        if config.training.initial_checkpoint is not None:
            initial = Path(config.training.initial_checkpoint)
            for note in load_initial_weights(self.model, initial, config, data.tokenizer_hash):
                if processes.is_main:
                    warnings.warn(note, stacklevel=2)
            self._initial_hash = file_digest(initial)
        self.model.to(self.device).train()
        self.model.trunk.recompute = config.execution.activation_checkpointing
        if config.execution.compile:
            keep_compiled_code_private()
            self.model.compile_parts()
        self._replica: nn.Module = DistributedDataParallel(self.model) if processes.count > 1 else self.model
        self.optimizer = build_optimizer(self.model, config.optimizer)
        self.ema = ExponentialMovingAverage(self.model.named_parameters(), config.optimizer.ema_decay)
        self.guard = DivergenceGuard(self.device)
        self.order = EpochOrder(len(data), config.training.batch_size, config.seed)
        self.step = 0
        self.diverged_at: int | None = None  # counted from 1
        self.seconds = 0.0  # of training since the run began, without interruptions
        self.history: list[TrainingRecord] = []
        self._has_dropout = config.model.attention_dropout > 0 or config.model.projection_dropout > 0

    @property
    def finished(self) -> bool:
        """Whether all steps are done or the training diverged."""
        return self.diverged_at is not None or self.step == self.config.total_steps

    @property
    def stage(self) -> int:
        """Index of the stage that the next step belongs to."""
        return sum(end <= self.step for end in stage_ends(self.config))

    def advance(self) -> None:
        """Train up to the next record of the curve: a multiple of `execution.log_every` steps, or the stage's end."""
        assert not self.finished
        stage, stage_end = self.stage, stage_ends(self.config)[self.stage]
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
        self.diverged_at = self.guard.diverged_at()  # waits for the device, once for all of these steps
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
        """Do one update. Returns the loss and the gradient norm before clipping, scalars on the device."""
        set_learning_rate(self.optimizer, learning_rate(self.config, self.step))
        self.optimizer.zero_grad()
        loss = self.processes.sum_(self._accumulate_gradients())
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        self.guard.observe(loss, norm)
        # A fused optimizer reads these attributes, which are meant for a gradient scaler: the number to divide the
        # gradients by, which clips them without an extra pass, and the flag to skip the update.
        self.optimizer.grad_scale = (norm / self.config.optimizer.clip_norm).clamp(min=1)  # type: ignore[attr-defined]
        self.optimizer.found_inf = self.guard.diverged  # type: ignore[attr-defined]
        self.optimizer.step()
        self.ema.update(self.guard.alive)
        return loss, norm

    def _accumulate_gradients(self) -> Tensor:
        """Compute the gradients of the step's mean loss over all processes. Returns this process's share of it."""
        batch = self.config.training.batch_size
        share = self.processes.share(batch)
        size = self.config.execution.micro_batch or len(share)
        parts = [share[start : start + size] for start in range(0, len(share), size)]
        total = torch.zeros((), device=self.device)
        for part in parts:
            # Gradients are all-reduced once per step, in the backward pass of the last part.
            exchange = part is parts[-1] or not isinstance(self._replica, DistributedDataParallel)
            with nullcontext() if exchange else cast(DistributedDataParallel, self._replica).no_sync():
                loss = self._loss(part) / batch
                scaled = loss * self.processes.count  # DDP averages over processes, but the loss is a sum
                scaled.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss(self, images: range) -> Tensor:
        """The sum of the losses of a range of the step's images."""
        step, device = self.step, self.device
        indices = self.order.batch(step)[images.start : images.stop]
        groups = step_draws(self.config, self.model.rule, self.data, step, images, device)
        augmentation = tuple(torch.cat(parts) for parts in zip(*(group.augmentation for group in groups), strict=True))
        if self._has_dropout:  # attention dropout can only draw from torch's global generator
            torch.manual_seed(
                stream_seed(self.config.seed, "dropout", step * self.config.training.batch_size + images.start)
            )
        with autocast(self.config.execution, device):
            loss: Tensor = self._replica(
                self.data.tokens(indices, augmentation, device),
                to_device(self.data.labels[indices], device),
                orders=to_device(torch.cat([group.orders for group in groups]), device),
                masked=[(len(group), group.masked) for group in groups],
                dropped=to_device(torch.cat([group.dropped for group in groups]), device),
                noise=torch.cat([group.noise for group in groups], dim=1),
                train_temperature=stage_at(self.config, step).train_temperature,
            )
        return loss

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, *arguments)

    def save(self, path: Path) -> None:
        """Write a checkpoint for `restore`. Only the main process writes."""
        if not self.processes.is_main:
            return
        save_checkpoint(
            path,
            CheckpointHeader(
                self.config, self.step, self.data.content_hash, self.data.tokenizer_hash, self._initial_hash
            ),
            {
                "model": self.model.state_dict(),
                "ema": self.ema.averages,
                "optimizer": optimizer_tensors(self.optimizer, dict(self.model.named_parameters())),
                "tokenizer": self.tokenizer.saved_state(),
                "history": to_tensors(self.history),
            },
        )

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint of this configuration, or of one that is equal up to the checkpoint's step.

        Raises:
            UserError: the checkpoint is damaged, or was trained by another configuration or on other data.
        """
        header = load_header(path)
        self._require_own(path, header)
        load_weights(self.model, path, "model")
        averages = load_part(path, "ema")
        require_finite(averages, f"{path}, ema,")
        for name, average in averages.items():
            self.ema.averages[name].copy_(average)
        restore_optimizer(self.optimizer, dict(self.model.named_parameters()), load_part(path, "optimizer"))
        self.history = from_tensors(load_part(path, "history"))
        self.seconds = self.history[-1].seconds if self.history else 0.0
        self.step = header.step
        self.guard = DivergenceGuard(self.device, self.step)

    def _require_own(self, path: Path, header: CheckpointHeader) -> None:
        """Check that this trainer would have produced the checkpoint.

        Raises:
            UserError: its configuration up to its step, its data, autoencoder or initial checkpoint are others.
        """
        begun = sum(start < header.step for start in [0, *stage_ends(header.config)[:-1]])
        if differing := trained_differently(header.config, self.config, begun):
            raise UserError(
                f"{path} was trained with other values of {', '.join(differing)}: restore them, or delete the "
                "checkpoint to train from the beginning."
            )
        if header.dataset_hash != self.data.content_hash:
            raise UserError(f"{path} was trained on other data: {self.config.data.name} has changed since.")
        if header.tokenizer_hash not in ("", self.data.tokenizer_hash):
            raise UserError(
                f"{path} was trained on latents of another autoencoder ({header.tokenizer_hash[:12]}) than "
                f"data.latents has ({self.data.tokenizer_hash[:12]}): set data.latents to the cache of that training."
            )
        if header.initial_hash not in ("", self._initial_hash):
            raise UserError(
                f"{path} was fine-tuned from another checkpoint: {self.config.training.initial_checkpoint} has changed "
                "since. Restore it (training.initial_checkpoint)."
            )
