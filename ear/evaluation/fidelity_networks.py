"""torch-fidelity's feature extractors: the Inception network of FID papers, DINOv2, CLIP, VGG16."""

from pathlib import Path
from typing import cast
from urllib.error import URLError

import torch
from torch import Tensor, nn

from ear.config.hashing import array_digest
from ear.config.schema import EvaluationConfig
from ear.errors import UserError, import_extra
from ear.evaluation.measurable import WITH_CLASSES
from ear.weights.torch_files import first_line, read_torch_file


class FidelityNetwork(nn.Module):
    """Wraps an extractor: uint8 images [N, 1 or 3, H, W] -> features [N, F] and logits [N, K], None without classes."""

    def __init__(self, extractor: nn.Module, has_logits: bool) -> None:
        super().__init__()
        self.extractor = extractor
        self.has_logits = has_logits

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and, if the network has classes, logits of uint8 images."""
        outputs = self.extractor(images.expand(-1, 3, -1, -1))
        return outputs[0], outputs[1] if self.has_logits else None

    def weights_hash(self) -> str:
        """SHA-256 of all weights."""
        state = self.extractor.state_dict()
        return array_digest(*(state[name].cpu().numpy() for name in sorted(state)))


def load_fidelity_network(config: EvaluationConfig) -> FidelityNetwork:
    """Load the configured extractor, with weights from `evaluation.extractor_weights` or torch-fidelity's download.

    Features are those that torch-fidelity uses for FID: for Inception the 2,048 of the last pooling layer. Its logits
    have no bias, as in the original inception score.

    Raises:
        UserError: the weights are missing, belong to another network or can't be downloaded.
    """
    import_extra("torchvision", "evaluation")
    registry = import_extra("torch_fidelity.registry", "evaluation").FEATURE_EXTRACTORS_REGISTRY
    kind = registry[config.extractor]
    layers = [kind.get_default_feature_layer_for_metric("fid")]
    has_logits = config.extractor in WITH_CLASSES
    if has_logits:
        layers.append(kind.get_default_feature_layer_for_metric("isc"))
    if config.extractor_weights is not None:
        # torch-fidelity unpickles anything in the file, so refuse files with more than weights first.
        read_torch_file(Path(config.extractor_weights), device="meta")
    try:
        extractor = cast(nn.Module, kind(config.extractor, layers, config.extractor_weights, verbose=False))
    except NotImplementedError as error:
        raise UserError(
            f"evaluation.extractor_weights: torch-fidelity takes no file for {config.extractor}, which torch.hub loads:"
            f" run it once on a machine with internet access and copy that machine's {torch.hub.get_dir()} here."
        ) from error
    except (URLError, OSError) as error:
        raise UserError(
            f"The weights of {config.extractor} can't be downloaded ({error}). Download them on a machine with "
            f"internet access ({_url(config.extractor)}) and copy the file to "
            f"{Path(torch.hub.get_dir()) / 'checkpoints'}, or give it with --set evaluation.extractor_weights=FILE."
        ) from error
    except (RuntimeError, AttributeError, TypeError, KeyError) as error:
        source = config.extractor_weights or config.extractor
        raise UserError(f"{source}: these are not the weights of {config.extractor}: {first_line(error)}") from error
    return FidelityNetwork(extractor, has_logits)


def _url(extractor: str) -> str:
    modules = {"inception-v3-compat": "inceptionv3", "vgg16": "vgg16"}
    if extractor not in modules:
        return "by running this command there"
    module = import_extra(f"torch_fidelity.feature_extractor_{modules[extractor]}", "evaluation")
    return str(next(value for name, value in vars(module).items() if name.startswith("URL_")))
