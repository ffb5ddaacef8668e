"""The Hyvarinen score as a training objective: MAR's diffusion loss (Li et al. 2024).

The Hyvarinen score |grad log p(y)|^2 / 2 + laplacian log p(y) of a density smoothed by Gaussian noise equals, up to a
constant of the data, the squared error of predicting the noise in a noisy token (denoising score matching, Vincent
2011). The best prediction is minus the noise's standard deviation times grad log p. The sum over noise levels is the
loss of diffusion models, and the gradients at these levels suffice for sampling (Song & Ermon 2019).
"""

import torch
from torch import Tensor

from ear.config.schema import HyvarinenConfig, SamplingConfig
from ear.errors import UserError
from ear.scoring.base import ScoringRule
from ear.scoring.denoiser import Denoiser
from ear.scoring.diffusion import GaussianDiffusion


class HyvarinenRule(ScoringRule):
    """Trains a denoiser on all levels of a noise schedule; samples tokens by denoising step by step.

    Classifier-free guidance acts on the predicted noise of every denoising step,
    eps = eps_null + cfg (eps_class - eps_null); the variance is that with the class.

    Dimensions: N rows, W condition width, D values per token, M noise levels per row, S denoising steps.
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
        """Draw [M, N, 1 + D]: a uniform number on [0, 1), which selects the noise level, then standard normal noise."""
        shape, device = (self.repeats, rows), generator.device
        level = torch.rand(*shape, 1, generator=generator, device=device)
        noise = torch.randn(*shape, self.token_dim, generator=generator, device=device)
        return torch.cat([level, noise], dim=-1)

    def loss(self, z: Tensor, target: Tensor, noise: Tensor, *, train_temperature: float = 1.0) -> Tensor:
        """Loss [N]: squared error of the noise (mean over D) plus the variational bound's term, mean over M levels.

        The bound trains only the variance (Nichol & Dhariwal 2021, section 3.1), with weight 1 as in MAR.
        """
        assert train_temperature == 1.0, "the schema allows no other value"
        diffusion = self._diffusion(self.diffusion_steps, target)
        # Below diffusion_steps in float32 too, since the draws stay below 1 - 2^-24.
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
        """Draw standard normal noise [N, S + 1, D] for `GaussianDiffusion.sample`.

        Raises:
            UserError: S is not between 2 and the number of steps of the trained schedule.
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
        """Sample tokens in S = noise.shape[1] - 1 denoising steps."""
        diffusion = self._diffusion(noise.shape[1] - 1, noise)
        time_SG = self.denoiser.embed_time(diffusion.steps)
        # With guidance, one pass over [2, N] rows; inputs that do not depend on the class are broadcast over the 2.
        condition = self.denoiser.embed_condition(z if z_null is None else torch.stack([z_null, z]))

        def predict(noisy: Tensor, step: int) -> tuple[Tensor, Tensor]:
            predicted, v = self.denoiser(noisy, time_SG[step], condition)
            if z_null is None:
                return predicted, v
            return torch.lerp(predicted[0], predicted[1], cfg), v[1]

        return diffusion.sample(noise, predict, infer_temperature=infer_temperature)

    def _diffusion(self, steps: int, like: Tensor) -> GaussianDiffusion:
        """The process over `steps` of the trained steps, on the device and in the precision of `like`; cached."""
        key = (steps, like.device, torch.promote_types(like.dtype, torch.float32))
        if key not in self._diffusions:
            self._diffusions[key] = GaussianDiffusion.cosine(
                self.diffusion_steps, steps, device=like.device, dtype=key[2]
            )
        return self._diffusions[key]
