"""The schema of a run's configuration. Every section is frozen, refuses unknown keys and states its units.

Each field declares what it can influence (`Reach`), which decides the keys it is hashed into: `training` into the key
of the training, `evaluation` into that of the evaluation, `everything` into both, `nothing` into none
(`ear.config.hashed`). `defines_loss` marks fields that change what the training loss measures: losses of runs that
differ there can't be compared. Both apply to everything below a field unless a field below declares otherwise
(`ear.config.reach`). `rule` marks a field that only one scoring rule reads.
"""

import warnings
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ear.config.numbers import MOST_EPOCHS, Blocks, Count, Flag, NonNegative, Number, Parallel, Probability


class Reach(Enum):
    """What a section of the configuration can influence."""

    TRAINING = "training"  # the weights, from the first step on
    STAGE = "stage"  # the weights, from its own stage on
    EVALUATION = "evaluation"  # only what is measured on finished weights
    EVERYTHING = "everything"  # the weights, and what is measured on them
    NOTHING = "nothing"  # only how the run is executed; recorded, not hashed


class Section(BaseModel):
    """A frozen section of the configuration, which refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


Location = Annotated[str | None, AfterValidator(_absolute), Field(json_schema_extra={"reach": "nothing"})]
"""A path, resolved against the working directory and kept absolute, since workers start in other directories. Keys
contain the hash of the content at this path, not the path."""


class DigitsData(Section):
    """The 1,797 grayscale images of 8x8 pixels in 10 classes that come with scikit-learn."""

    name: Literal["digits"] = "digits"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 10

    @property
    def images(self) -> int:
        """Number of training images."""
        return 1297

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return 1, 8, 8


class FashionMnistData(Section):
    """Zalando's 70,000 grayscale images of 28x28 pixels in 10 classes (Xiao et al. 2017), as idx files."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    path: Location = None
    """Folder of the four idx files, gzipped or not. Default: where Debian's dataset-fashion-mnist installs them."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return 10

    @property
    def images(self) -> int:
        """Number of training images."""
        return 60_000

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return 1, 28, 28


class ImageFolderData(Section):
    """RGB images with one folder per class (ImageNet's layout). Training reads cached latents of them."""

    name: Literal["image_folder"] = "image_folder"
    path: Location = None
    """The folder of class folders, read by `ear encode` and by evaluations that compare with its images."""
    latents: Location = None
    """The folder of cached latents that `ear encode` writes and `ear train` reads."""
    size: Count = 256
    """Side of the cropped images in pixels."""
    exif_orientation: Flag = False
    """Rotate images by their EXIF orientation before cropping. ADM and its followers ignore it."""
    classes: Count
    images: Count
    """Number of training images, which make one epoch. Images that can't be decoded do not count."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return 3, self.size, self.size


DataConfig = Annotated[DigitsData | FashionMnistData | ImageFolderData, Field(discriminator="name")]


class PatchTokenizerConfig(Section):
    """Square patches of pixels, standardised per dimension."""

    name: Literal["patch"] = "patch"
    patch_size: Count = 2
    """Side of a patch in pixels; must divide the side of the image."""
    components: Count | None = None
    """Number of principal components of a patch to keep, each of unit variance. Default: all pixels, without PCA."""


class KLTokenizerConfig(Section):
    """Latents of a variational autoencoder (LDM, Rombach et al. 2022; KL-16 as trained for MAR)."""

    name: Literal["kl"] = "kl"
    checkpoint: Location = None
    """A checkpoint in LDM's layout, or a folder in diffusers' format. Needed to encode and decode, not to train."""
    patch_size: Count = 1
    """Side of a token in latents."""
    latent_channels: Count = 16
    stride: Count = 16
    """Pixels per latent, in each direction."""
    scale: Annotated[Number, Field(gt=0)] = 0.2325
    """Factor that brings latents to about unit variance; `ear encode --measure-scale` measures it."""


TokenizerConfig = Annotated[PatchTokenizerConfig | KLTokenizerConfig, Field(discriminator="name")]


class ModelConfig(Section):
    """The masked-autoregressive transformer."""

    width: Count
    """Embedding width; must be divisible by `heads`."""
    depth: Blocks
    """Transformer blocks."""
    heads: Count
    mlp_ratio: Annotated[Number, Field(gt=0, le=1000)] = 4.0
    """Hidden width of a block's MLP as a multiple of `width`."""
    buffer_tokens: Count = 1
    """Copies of the class embedding that precede the image's tokens (64 in the paper)."""
    attention_dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    projection_dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self


class GeneratorConfig(Section):
    """The MLP generator that replaces the softmax."""

    width: Count
    depth: Blocks
    """Residual blocks."""
    noise_channels: Count
    """Channels of the uniform noise on [-0.5, 0.5] that drives it."""


class EnergyConfig(Section):
    """The energy score, estimated from samples of the generator."""

    name: Literal["energy"] = "energy"
    alpha: Annotated[Number, Field(gt=0, le=2)] = 1.0
    """Exponent of the distance. Strictly proper for 0 < alpha < 2 (energy score, Gneiting & Raftery 2007)."""
    samples: Annotated[Count, Field(ge=2)] = 2
    """Samples per position for the unbiased estimate. The paper's formula uses one pair, 2; the official commands use
    two pairs, 4."""
    epsilon: Annotated[Number, Field(ge=0)] = 0.0
    """Added under the root of every distance: sqrt(|x|^2 + epsilon). Needed for alpha < 1; 0 otherwise."""
    generator: Annotated[GeneratorConfig, Field(json_schema_extra={"defines_loss": False})]

    @model_validator(mode="after")
    def _warn_of_improper_alpha(self) -> Self:
        if self.alpha == 2:
            warnings.warn(
                "scoring.alpha = 2: the energy score is proper but not strictly proper (it compares only means), so "
                "samples collapse to the conditional mean; the paper ablates it for that reason.",
                stacklevel=2,
            )
        elif self.alpha < 1 and self.epsilon == 0:
            warnings.warn(
                f"scoring.alpha = {self.alpha}: below 1 the gradient is NaN where two samples coincide, as all do at "
                "the first step, so training diverges; set scoring.epsilon (1e-6 works) to train anyway.",
                stacklevel=2,
            )
        return self


class DenoiserConfig(Section):
    """MAR's MLP that predicts the noise in a token from its condition and the diffusion time."""

    width: Count
    depth: Blocks
    """Residual blocks."""


class HyvarinenConfig(Section):
    """The Hyvarinen score, as MAR's diffusion loss estimates it (Li et al. 2024)."""

    name: Literal["hyvarinen"] = "hyvarinen"
    diffusion_steps: Annotated[Count, Field(ge=2)] = 1000
    """Steps of the cosine noise schedule that the denoiser is trained on."""
    repeats: Count = 4
    """Noise levels drawn per position in a training step (4 in MAR)."""
    denoiser: Annotated[DenoiserConfig, Field(json_schema_extra={"defines_loss": False})]


ScoringConfig = Annotated[EnergyConfig | HyvarinenConfig, Field(discriminator="name")]


class OptimizerConfig(Section):
    """AdamW, with warm-up, gradient clipping and the moving average of the weights."""

    betas: tuple[Probability, Probability] = (0.9, 0.95)
    weight_decay: Annotated[Number, Field(ge=0)] = 0.02
    """Applies to the trunk's matrices and embeddings, not to biases, norms or the scoring rule's head."""
    generator_lr_scale: Annotated[Number, Field(gt=0)] = 0.25
    """Learning rate of the head's matrices as a multiple of the trunk's (0.25 in the paper). As in the official code,
    the head's biases and norms use the full rate."""
    warmup_steps: NonNegative | None = None
    """Steps over which the learning rate rises linearly from 0. Alternative: `warmup_epochs`. Default: no warm-up."""
    warmup_epochs: Annotated[Number, Field(ge=0, le=MOST_EPOCHS)] | None = None
    clip_norm: Annotated[Number, Field(gt=0)] = 3.0
    """Global gradient norm above which gradients are scaled down."""
    ema_decay: Annotated[Number, Field(ge=0, lt=1)] = 0.9999
    """Decay per step of the exponential moving average (EMA) that sampling and evaluation use."""

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.warmup_steps is not None and self.warmup_epochs is not None:
            raise ValueError("give warmup_steps or warmup_epochs, not both")
        return self


class StageConfig(Section):
    """A stage of training with its own length, train temperature and learning rate."""

    steps: Count | None = None
    """Length in optimizer steps. Alternative: `epochs`."""
    epochs: Annotated[Number, Field(gt=0, le=MOST_EPOCHS)] | None = None
    """Length in passes over the training images, rounded to whole steps."""
    learning_rate: Annotated[Number, Field(gt=0)] | None = None
    """Learning rate of the trunk. Alternative: `learning_rate_per_256`."""
    learning_rate_per_256: Annotated[Number, Field(gt=0)] | None = None
    """Learning rate of the trunk per 256 images of batch size; scales with `batch_size` (Goyal et al. 2017)."""
    train_temperature: Annotated[Number, Field(gt=0, le=1, json_schema_extra={"defines_loss": True})] = 1.0
    """Weight of the energy score's diversity term; below 1 trades diversity for fidelity."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for names in (("steps", "epochs"), ("learning_rate", "learning_rate_per_256")):
            if sum(getattr(self, name) is not None for name in names) != 1:
                raise ValueError(f"give exactly one of {' and '.join(names)}")
        return self


class TrainingConfig(Section):
    """Batches, masking, learning rate schedule and stages of training."""

    batch_size: Count
    """Images per step, over all processes."""
    label_drop: Annotated[Probability, Field(json_schema_extra={"defines_loss": True})] = 0.1
    """Probability of replacing an image's class by the null class, which makes guidance possible."""
    mask_ratio_min: Annotated[Number, Field(gt=0, le=1, json_schema_extra={"defines_loss": True})] = 0.7
    """Minimum of the mask ratio, which is drawn from normal(1, mask_ratio_std) truncated to [mask_ratio_min, 1]."""
    mask_ratio_std: Annotated[Number, Field(gt=0, json_schema_extra={"defines_loss": True})] = 0.25
    mask_group: Count | None = None
    """Number of images in a step that share one mask ratio (32 in the paper). Default: the whole batch."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or falling to 0 over each stage along half a cosine."""
    initial_checkpoint: Location = None
    """Checkpoint whose EMA weights initialise the model, for fine-tuning. Default: random weights."""
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1, json_schema_extra={"reach": "stage"})]


class SamplingConfig(Section):
    """How images are generated from finished weights."""

    steps: Count = 64
    """Autoregressive steps; more steps than tokens have no effect."""
    cfg: Annotated[Number, Field(ge=1)] = 1.0
    """Classifier-free guidance scale at the last step; 1 means no guidance."""
    cfg_schedule: Literal["linear", "constant"] = "linear"
    infer_temperature: Annotated[Number, Field(ge=0)] = 1.0
    """`energy`: multiplies the shift of the generator's residual blocks (0.7 in the paper). `hyvarinen`: multiplies
    the noise of each denoising step."""
    denoising_steps: Annotated[Count, Field(json_schema_extra={"rule": "hyvarinen"})] = 100
    """`hyvarinen` only: denoising steps per token."""


class EvaluationConfig(Section):
    """Feature extractor, reference images and number of generated images of an evaluation."""

    extractor: Literal[
        "classifier",
        "inception-v3-compat",
        "vgg16",
        "clip-vit-b-32",
        "clip-vit-l-14",
        "dinov2-vit-b-14",
        "dinov2-vit-l-14",
    ] = "classifier"
    """Network whose features FID, precision and recall compare, and whose class probabilities IS uses. `classifier` is
    a small network trained on the dataset itself and kept in the store. The others are torch-fidelity's; ImageNet
    papers use inception-v3-compat."""
    extractor_weights: Location = None
    """File of the extractor's weights. Default: torch-fidelity downloads them."""
    reference: Literal["train", "test"] = "test"
    """Split of real images to compare with. ImageNet papers compute FID against the training split."""
    statistics: Location = None
    """An npz file that replaces `reference`: `mu` and `sigma` of the real features (ADM's layout) for FID and,
    optionally, real images under `arr_0` [N, H, W, 3] uint8 for precision and recall. With `arr_0` alone, FID's
    statistics are computed from these images."""
    images: Annotated[Count, Field(ge=20)] = 2000
    """Number of images generated with class labels, balanced over classes; IS uses ten splits of them."""
    null_images: Annotated[Count, Field(ge=20)] = 1000
    """Number of images generated without a label."""
    neighbours: Count = 3
    """k of the k-nearest-neighbour balls of precision and recall."""
    seed: NonNegative = 0
    """Seed of the generation orders and the noise of the evaluated images; equal seeds give common random numbers."""


def _refuse_auto(precision: Any) -> Any:
    if precision == "auto":
        raise ValueError(
            "`auto` meant bfloat16 on a GPU and float32 on a CPU, which give different results: choose one"
        )
    return precision


class ExecutionConfig(Section):
    """How the run is executed. It is recorded but, except for `precision`, not hashed into keys: the other values
    change at most the rounding, or which noise a seed draws (docs/reproducibility.md)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[Parallel, Field(gt=0)] = 1
    """CPU threads of torch. With the same number of threads and the same kind of CPU, results are bit-identical."""
    precision: Annotated[
        Literal["float32", "bfloat16"], BeforeValidator(_refuse_auto), Field(json_schema_extra={"reach": "everything"})
    ] = "float32"
    """Precision of matrix products in training and sampling. bfloat16 (autocast) is meant for GPUs; most CPUs are
    slower with it. It changes results, so it is hashed into the keys of trainings and evaluations. float32 is float32
    on a GPU too: TF32 is off."""
    micro_batch: Count | None = None
    """Images per forward pass of a process; gradients are accumulated over its share of the batch. Default: the whole
    share at once."""
    compile: Flag = False
    """Use torch.compile for the model's blocks and head."""
    activation_checkpointing: Flag = False
    """Recompute the blocks' activations in the backward pass: less memory for up to a third more FLOPs."""
    workers: Parallel = 0
    """Worker processes that decode images."""
    batch_size: Count = 500
    """Images that are sampled, encoded or measured at once."""
    log_every: Count = 25
    """Steps between two records of the training curve."""
    checkpoint_every: Annotated[Number, Field(gt=0)] = 60.0
    """Seconds between checkpoints of an unfinished stage."""


class RunConfig(Section):
    """The full configuration of a run. docs/reproducibility.md says how equal two runs of one configuration are."""

    seed: Annotated[NonNegative, Field(json_schema_extra={"reach": "training"})] = 0
    data: Annotated[DataConfig, Field(json_schema_extra={"reach": "training", "defines_loss": True})] = DigitsData()
    tokenizer: Annotated[TokenizerConfig, Field(json_schema_extra={"reach": "training", "defines_loss": True})] = (
        PatchTokenizerConfig()
    )
    model: Annotated[ModelConfig, Field(json_schema_extra={"reach": "training"})]
    scoring: Annotated[ScoringConfig, Field(json_schema_extra={"reach": "training", "defines_loss": True})]
    optimizer: Annotated[OptimizerConfig, Field(json_schema_extra={"reach": "training"})] = OptimizerConfig()
    training: Annotated[TrainingConfig, Field(json_schema_extra={"reach": "training"})]
    sampling: Annotated[SamplingConfig, Field(json_schema_extra={"reach": "evaluation"})] = SamplingConfig()
    evaluation: Annotated[EvaluationConfig, Field(json_schema_extra={"reach": "evaluation"})] = EvaluationConfig()
    execution: Annotated[ExecutionConfig, Field(json_schema_extra={"reach": "nothing"})] = ExecutionConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if isinstance(self.scoring, HyvarinenConfig) and any(
            stage.train_temperature != 1 for stage in self.training.stages
        ):
            raise ValueError("train_temperature weights a term of the energy score: with hyvarinen it must be 1")
        if isinstance(self.tokenizer, KLTokenizerConfig) != isinstance(self.data, ImageFolderData):
            raise ValueError("the kl tokenizer needs image_folder data, and image_folder data needs the kl tokenizer")
        return self

    @property
    def stage_steps(self) -> tuple[int, ...]:
        """Optimizer steps of each stage; epochs are rounded to whole steps."""
        return tuple(stage.steps or self._steps(stage.epochs or 0) for stage in self.training.stages)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(self.stage_steps)

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps of the warm-up; 0 without one."""
        optimizer = self.optimizer
        if optimizer.warmup_epochs is not None:
            return round(optimizer.warmup_epochs * self.data.images / self.training.batch_size)
        return optimizer.warmup_steps or 0

    def peak_learning_rate(self, stage: StageConfig) -> float:
        """The trunk's learning rate in a stage, after the warm-up and before any decay."""
        if stage.learning_rate_per_256 is not None:
            return stage.learning_rate_per_256 * self.training.batch_size / 256
        assert stage.learning_rate is not None
        return stage.learning_rate

    def _steps(self, epochs: float) -> int:
        return max(1, round(epochs * self.data.images / self.training.batch_size))

    @classmethod
    def reach(cls, section: str) -> Reach:
        """The reach of a top-level section, as declared at its field."""
        extra = cls.model_fields[section].json_schema_extra
        assert isinstance(extra, dict), section
        return Reach(extra["reach"])
