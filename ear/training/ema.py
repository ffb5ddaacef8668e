"""The exponential moving average (EMA) of the weights, which sampling and evaluation use."""

from collections.abc import Iterable

import torch
from torch import Tensor


class ExponentialMovingAverage:
    """Exponential moving average of parameters, starting at their initial values.

    After each step: average <- decay * average + (1 - decay) * weights.
    """

    def __init__(self, named_parameters: Iterable[tuple[str, Tensor]], decay: float) -> None:
        self.decay = decay
        parameters = dict(named_parameters)
        self._parameters = [parameter.detach() for parameter in parameters.values()]
        self.averages = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._averages = list(self.averages.values())

    def update(self, alive: Tensor) -> None:
        """Update the average after a step. `alive` is a device scalar: 1.0, or 0.0 to skip a diverged step."""
        change = torch._foreach_sub(self._parameters, self._averages)
        torch._foreach_mul_(change, alive * (1 - self.decay))
        torch._foreach_add_(self._averages, change)
