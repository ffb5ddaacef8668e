"""The one schema of a run. Every section is frozen, refuses unknown keys and states its units.

Where a parameter sits says what it can influence (`Reach`), and the store's keys follow from that: everything that
reaches training is hashed into the training's key, everything that reaches evaluation into the evaluation's, and
`execution`, which only says how a run is carried out, into none.
"""

import warnings
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Reach(Enum):
    """What a section of the configuration can influence."""

    TRAINING = "training"  # the weights, from the first step on
    EVALUATION = "evaluation"  # only what is measured on finished weights
    NOTHING = "nothing"  # how it is carried out; recorded, not hashed


def _refuse_bool(value: Any) -> Any:
    # Pydantic reads YAML's `yes` as 1.0; a number field that was given a boolean is a mistake.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not a boolean")
    return value


Number = Annotated[float, BeforeValidator(_refuse_bool), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_refuse_bool), Field(gt=0)]
Probability = Annotated[Number, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


class DataConfig(Section):
    name: Literal["digits"] = "digits"
    """Dataset. `digits`: scikit-learn's 1,797 images of 8x8 grey pixels in 10 classes, embedded in that library."""


class TokenizerConfig(Section):
    name: Literal["patch"] = "patch"
    """`patch`: square patches of pixels, standardised per dimension; no information is lost."""
    patch_size: Count = 2
    """Side of a patch in pixels; divides the image's side."""


class ModelConfig(Section):
    """The masked-autoregressive transformer."""

    width: Count
    """Embedding width; divisible by `heads`."""
    depth: Count
    """Transformer blocks."""
    heads: Count
    mlp_ratio: Annotated[Number, Field(gt=0)] = 4.0
    """Hidden width of a block's MLP as a multiple of `width`."""
    buffer_tokens: Count = 1
    """Copies of the class embedding in front of the image's tokens (64 in the paper)."""
    attention_dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    projection_dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")
        return self


class GeneratorConfig(Section):
    """The MLP generator that takes the softmax's place."""

    width: Count
    depth: Count
    """Residual blocks."""
    noise_channels: Count
    """Channels of the uniform noise on [-0.5, 0.5] that drives it."""


class ScoringConfig(Section):
    name: Literal["energy"] = "energy"
    """Scoring rule. `energy`: the energy score, estimated from samples of the generator."""
    alpha: Annotated[Number, Field(gt=0, le=2)] = 1.0
    """Exponent of the distance. Strictly proper for 0 < alpha < 2 (energy score, Gneiting & Raftery 2007)."""
    samples: Annotated[Count, Field(ge=2)] = 2
    """Samples drawn at each position for the unbiased estimate; the paper draws 2."""
    epsilon: Annotated[Number, Field(ge=0)] = 0.0
    """Added under the root of every distance: sqrt(|x|^2 + epsilon). Needed below alpha = 1, 0 otherwise."""
    generator: GeneratorConfig

    @model_validator(mode="after")
    def _warn_of_improper_alpha(self) -> Self:
        if self.alpha == 2:
            warnings.warn(
                "scoring.alpha = 2: the energy score is then proper but not strictly proper (it only compares means), "
                "so samples collapse to the conditional mean; the paper ablates it for that reason.",
                stacklevel=2,
            )
        elif self.alpha < 1 and self.epsilon == 0:
            warnings.warn(
                f"scoring.alpha = {self.alpha}: below 1 the gradient is infinite where two samples coincide, as they "
                "all do at the first step, so training diverges; set scoring.epsilon (1e-6 works) to train anyway.",
                stacklevel=2,
            )
        return self


class OptimizerConfig(Section):
    """AdamW and what is done to gradients and weights around it."""

    betas: tuple[Probability, Probability] = (0.9, 0.95)
    weight_decay: Annotated[Number, Field(ge=0)] = 0.02
    """Applied to the trunk's matrices and embeddings; not to biases, norms or the scoring rule's head."""
    generator_lr_scale: Annotated[Number, Field(gt=0)] = 0.25
    """Learning rate of the head's matrices as a multiple of the trunk's (0.25 in the paper). As in the official code,
    the head's biases and norms train at the full rate."""
    warmup_steps: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly from 0."""
    clip_norm: Annotated[Number, Field(gt=0)] = 3.0
    """Global gradient norm above which gradients are scaled down."""
    ema_decay: Annotated[Number, Field(ge=0, lt=1)] = 0.9999
    """Decay per step of the exponential moving average that sampling and evaluation use."""


class StageConfig(Section):
    """A stretch of training with its own length, train temperature and learning rate."""

    steps: Count
    learning_rate: Annotated[Number, Field(gt=0)]
    train_temperature: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Weight of the energy score's diversity term; below 1 trades diversity for fidelity."""


class TrainingConfig(Section):
    batch_size: Count
    """Images a step."""
    label_drop: Probability = 0.1
    """Probability of replacing an image's class by the null class, which makes guidance possible."""
    mask_ratio_min: Annotated[Number, Field(gt=0, le=1)] = 0.7
    """Lower end of the masked share, drawn once a step from normal(1, mask_ratio_std) truncated to [this, 1]."""
    mask_ratio_std: Annotated[Number, Field(gt=0)] = 0.25
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


class SamplingConfig(Section):
    """How images are generated from finished weights."""

    steps: Count = 64
    """Autoregressive steps; at most the number of tokens is useful."""
    cfg: Annotated[Number, Field(ge=1)] = 1.0
    """Classifier-free guidance scale at the last step; 1 is no guidance."""
    cfg_schedule: Literal["linear", "constant"] = "linear"
    infer_temperature: Annotated[Number, Field(ge=0)] = 1.0
    """Multiplies the shift of the generator's residual blocks (0.7 in the paper)."""


class EvaluationConfig(Section):
    extractor: Literal["digits-classifier"] = "digits-classifier"
    """Network whose features FID, precision and recall compare, and whose class probabilities IS uses."""
    reference: Literal["train", "test"] = "test"
    """Real images compared with. The training split follows the FID protocol of ImageNet papers."""
    images: Annotated[Count, Field(ge=100)] = 2000
    """Images generated with class labels, balanced over classes; IS splits them in ten."""
    null_images: Annotated[Count, Field(ge=100)] = 1000
    """Images generated without a label."""
    neighbours: Count = 3
    """k of the k-nearest-neighbour balls of precision and recall."""
    seed: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0)] = 0
    """Seeds orders and noise of the evaluated images: equal seeds are common random numbers."""


class ExecutionConfig(Section):
    """How the run is carried out. It is recorded and has no influence on keys."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """CPU threads of torch. Results are bit for bit reproducible at an equal number of threads."""
    batch_size: Count = 500
    """Images generated or encoded at once."""
    log_every: Count = 25
    """Steps between two records of the training curve."""
    checkpoint_every: Annotated[Number, Field(gt=0)] = 60.0
    """Seconds between checkpoints of an unfinished stage."""


class RunConfig(Section):
    """Everything that a run is: the same RunConfig gives the same result."""

    seed: Annotated[int, BeforeValidator(_refuse_bool), Field(ge=0, json_schema_extra={"reach": "training"})] = 0
    data: Annotated[DataConfig, Field(json_schema_extra={"reach": "training"})] = DataConfig()
    tokenizer: Annotated[TokenizerConfig, Field(json_schema_extra={"reach": "training"})] = TokenizerConfig()
    model: Annotated[ModelConfig, Field(json_schema_extra={"reach": "training"})]
    scoring: Annotated[ScoringConfig, Field(json_schema_extra={"reach": "training"})]
    optimizer: Annotated[OptimizerConfig, Field(json_schema_extra={"reach": "training"})] = OptimizerConfig()
    training: Annotated[TrainingConfig, Field(json_schema_extra={"reach": "training"})]
    sampling: Annotated[SamplingConfig, Field(json_schema_extra={"reach": "evaluation"})] = SamplingConfig()
    evaluation: Annotated[EvaluationConfig, Field(json_schema_extra={"reach": "evaluation"})] = EvaluationConfig()
    execution: Annotated[ExecutionConfig, Field(json_schema_extra={"reach": "nothing"})] = ExecutionConfig()

    def part(self, reach: Reach) -> dict[str, Any]:
        """The sections with this reach, as plain JSON values."""
        names = {name for name in type(self).model_fields if self.reach(name) is reach}
        return self.model_dump(mode="json", include=names)

    @classmethod
    def reach(cls, section: str) -> Reach:
        """What the named top-level section can influence, as declared at its field."""
        extra = cls.model_fields[section].json_schema_extra
        assert isinstance(extra, dict), section
        return Reach(extra["reach"])
