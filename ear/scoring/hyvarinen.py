"""The Hyvarinen score as a training objective: MAR's diffusion loss (Li et al. 2024).

The Hyvarinen score |grad log p(y)|^2 / 2 + laplacian log p(y) of a density smoothed by Gaussian noise is, up to a
constant of the data, the squared error of predicting from the noisy token the noise in it (denoising score matching,
Vincent 2011): the best prediction is minus the noise's deviation times grad log p. Summed over noise levels this is the
loss of diffusion models, and the gradients of those levels are enough to sample (Song & Ermon 2019).
"""

import torch
from torch import Tensor

from ear.config.schema import HyvarinenConfig, SamplingConfig
from ear.errors import UserError
from ear.scoring.base import ScoringRule
from ear.scoring.denoiser import Denoiser
from ear.scoring.diffusion import GaussianDiffusion


class HyvarinenRule(ScoringRule):
    """Trains a denoiser on all levels of a noise schedule; samples by walking back from noise to a token.

    Classifier-free guidance acts on the predicted noise of every denoising step,
    eps = eps_null + cfg (eps_class - eps_null); the variance is the one with the class.

    Dimensions: N rows, W condition width, D values a token, M noise levels a row, S denoising steps.
    """

    def __init__(self, config: HyvarinenConfig, condition_dim: int, token_dim: int) -> None:
        super().__init__()
        self.token_dim = token_dim
        self.diffusion_steps = config.diffusion_steps
        self.repeats = config.repeats
        self.denoiser = Denoiser(config.denoiser, condition_dim, token_dim)
        self._diffusions: dict[tuple[int, torch.device, torch.dtype], GaussianDiffusion] = {}

    def initialise(self, generator: torch.Generator) -> None:
        self.denoiser.initialise(generator)

    def training_noise(self, rows: int, generator: torch.Generator) -> Tensor:
        """[M, N, 1 + D]: uniform on [0, 1), which picks the noise level, then the standard normal noise."""
        shape, device = (self.repeats, rows), generator.device
        level = torch.rand(*shape, 1, generator=generator, device=device)
        noise = torch.randn(*shape, self.token_dim, generator=generator, device=device)
        return torch.cat([level, noise], dim=-1)

    def loss(self, z: Tensor, target: Tensor, noise: Tensor, *, train_temperature: float = 1.0) -> Tensor:
        """Mean over the M noise levels of: the noise's squared error, mean over D, plus the variational bound's term.

        The bound trains the variance only (Nichol & Dhariwal 2021, section 3.1), here with weight 1 as in MAR.
        """
        assert train_temperature == 1.0, "the schema admits no other"
        diffusion = self._diffusion(self.diffusion_steps, target)
        # Below diffusion_steps in float32 too, for the draws stay below 1 - 2^-24.
        step_MN = (noise[..., 0] * self.diffusion_steps).long()
        noise_MND = noise[..., 1:]
        noisy_MND = diffusion.add_noise(target, noise_MND, step_MN)
        time_MNG = self.denoiser.embed_time(step_MN)
        predicted_MND, v_MND = self.denoiser(noisy_MND, time_MNG, self.denoiser.embed_condition(z))
        error_MND = predicted_MND - noise_MND
        bound_MN = diffusion.variational_bound(error_MND.detach(), v_MND, target, step_MN)
        loss_MN: Tensor = error_MND.square().mean(dim=-1) + bound_MN
        return loss_MN.mean(dim=0)

    def sampling_noise(self, rows: int, generator: torch.Generator, settings: SamplingConfig) -> Tensor:
        """[N, S + 1, D], see `GaussianDiffusion.sample`.

        Raises:
            UserError: the schedule that was trained can't be walked in that many steps.
        """
        steps = settings.denoising_steps
        if not 2 <= steps <= self.diffusion_steps:
            raise UserError(
                f"sampling.denoising_steps: {steps}, but the denoiser was trained on scoring.diffusion_steps: "
                f"{self.diffusion_steps}; set sampling.denoising_steps to between 2 and {self.diffusion_steps}."
            )
        return torch.randn(rows, steps + 1, self.token_dim, generator=generator, device=generator.device)

    @torch.no_grad()
    def sample(
        self,
        z: Tensor,
        noise: Tensor,
        *,
        z_null: Tensor | None = None,
        cfg: float | Tensor = 1.0,
        infer_temperature: float | Tensor = 1.0,
    ) -> Tensor:
        """The number of steps is the noise's: S = noise.shape[1] - 1."""
        diffusion = self._diffusion(noise.shape[1] - 1, noise)
        time_SG = self.denoiser.embed_time(diffusion.steps)
        # With guidance one pass over [2, N] rows; what does not depend on the class is broadcast over the 2.
        condition = self.denoiser.embed_condition(z if z_null is None else torch.stack([z_null, z]))

        def predict(noisy: Tensor, step: int) -> tuple[Tensor, Tensor]:
            predicted, v = self.denoiser(noisy, time_SG[step], condition)
            if z_null is None:
                return predicted, v
            return torch.lerp(predicted[0], predicted[1], cfg), v[1]

        return diffusion.sample(noise, predict, infer_temperature=infer_temperature)

    def _diffusion(self, steps: int, like: Tensor) -> GaussianDiffusion:
        """The process over this many of the trained steps, its tables where `like` is; made once."""
        key = (steps, like.device, torch.promote_types(like.dtype, torch.float32))
        if key not in self._diffusions:
            self._diffusions[key] = GaussianDiffusion.cosine(
                self.diffusion_steps, steps, device=like.device, dtype=key[2]
            )
        return self._diffusions[key]
