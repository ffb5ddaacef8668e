"""torch-fidelity's Inception with random weights, as a file."""

from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def write_random_inception(path: Path) -> None:
    class Unfilled(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Keeps the initial weights."""

    torch.save({}, path)
    torch.manual_seed(0)
    network = Unfilled("inception-v3-compat", ["2048"], str(path))
    for name, weight in network.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(weight)
    torch.save(network.state_dict(), path)
