"""What a user may set of a training. Part of the recipe of every technique that trains."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Augmentation(BaseModel):
    """Random changes of images [N, C, H, W], another one each time a sample is seen."""

    model_config = _FROZEN
    horizontal_flip: bool = Field(default=False, description="mirror half of the images")
    shift: int = Field(
        default=0, ge=0, le=1024, description="pixels up to which an image moves, filled with 0"
    )

    @property
    def active(self) -> bool:
        return self.horizontal_flip or self.shift > 0


class Training(BaseModel):
    """How weights are trained: on the train split or, where there is none, the calibration split."""

    model_config = _FROZEN
    epochs: float = Field(default=3, ge=0, le=1000, description="passes over the samples; 0 trains nothing")
    batch_size: int = Field(default=128, ge=1, le=65536, description="samples of a step")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd: with Nesterov momentum")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="at its highest; null: 0.01 for sgd, 0.0003 for adamw",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=1e-4, ge=0, le=1, description="of matrices and kernels only")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="after the warm-up")
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the steps in which the rate rises")
    gradient_clip: float | None = Field(default=1.0, gt=0, le=1e6, description="largest norm of the gradient")
    average: float | None = Field(
        default=None,
        ge=0.5,
        lt=1,
        description="decay of a moving average of the weights, which is the result",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="stop after so many epochs without a lower loss on samples held out, and take the best",
    )
    validation: int = Field(
        default=1000, ge=0, le=1_000_000, description="samples held out, at most a tenth of all"
    )
    loss: Literal["auto", "labels", "distillation"] = Field(
        default="auto",
        description="auto: by the labels and the original model's outputs, or by the latter alone where the "
        "samples have no labels",
    )
    temperature: float = Field(default=4.0, ge=0.1, le=100, description="softens both sides of distillation")
    alpha: float = Field(default=0.9, ge=0, le=1, description="share of distillation in the loss")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the loss by labels of classes")
    batchnorm: Literal["auto", "train", "frozen"] = Field(
        default="auto",
        description="train: statistics of the batches, and BatchNormalization put back where it was folded "
        "away; auto: that for networks that were cut or start afresh, given batches of 64 and 20 steps",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: the faster one here, measured; weights stay float32"
    )
    augmentation: Augmentation = Field(default=Augmentation(), description="random changes of images")

    @property
    def peak_rate(self) -> float:
        return self.learning_rate or {"sgd": 0.01, "adamw": 3e-4}[self.optimizer]
