"""The baseline computes what it is compared with."""

import torch
from plain import PlainModel

from ear.config import load_config
from ear.training.draws import step_draws
from ear.training.token_data import load_token_data
from ear.training.trainer import Trainer


def test_same_draws_same_loss() -> None:
    config = load_config("digits")
    trainer = Trainer(config, load_token_data(config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    indices = trainer.order.batch(0)
    (draws,) = step_draws(config, trainer.model.rule, trainer.data, 0, range(64), trainer.device)
    tokens, labels = trainer.data.tokens(indices, (), trainer.device), trainer.data.labels[indices]
    ours = trainer.model(
        tokens,
        labels,
        orders=draws.orders,
        masked=[(64, draws.masked)],
        dropped=draws.dropped,
        noise=draws.noise,
        train_temperature=0.9,
    )
    mask = torch.zeros(64, 16).scatter(1, draws.orders[:, : draws.masked], 1.0)
    noises = [torch.zeros(64, 16, 8), torch.zeros(64, 16, 8)]
    for everywhere, drawn in zip(noises, draws.noise, strict=True):
        positions = draws.orders[:, : draws.masked].unsqueeze(2).expand(-1, -1, 8)
        everywhere.scatter_(1, positions, drawn.view(64, draws.masked, 8))
    plain = PlainModel(trainer)(
        tokens,
        labels,
        mask=mask,
        dropped=draws.dropped,
        noise=[noise.flatten(0, 1) for noise in noises],
        temperature=0.9,
    )
    torch.testing.assert_close(plain, ours / 64)
