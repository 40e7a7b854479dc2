"""Training from labels, also from scratch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compression.inspection import Trait
from compression.technique import Applied, Context, Need, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.model import Model


class TrainingByLabels(Training):
    """From the start, by the labels alone."""

    epochs: float = Field(default=10, ge=0, le=1000, description="passes over the samples; 0 trains nothing")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="at its highest; null: 0.05 for sgd, 0.001 for adamw",
    )
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="of matrices and kernels only")
    loss: Literal["labels"] = Field(default="labels", description="by the labels alone")

    @property
    def peak_rate(self) -> float:
        return self.learning_rate or {"sgd": 0.05, "adamw": 1e-3}[self.optimizer]


class Train(Technique):
    """The network is trained by the labels alone, from its weights or, if asked to, from random ones."""

    needs: ClassVar = frozenset({Need.CALIBRATION, Need.LABELS})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; train before that, or use quantization_aware_training",
        Trait.HALF_PRECISION: "the model is in half precision; train the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE
    guidance: ClassVar[str] = (
        "For a network that is not trained yet, or for other labels than it was trained on; and to see what "
        "distillation is worth, by training the same student without a teacher. To compress a trained model, "
        "take another technique."
    )

    technique: Literal["train"] = "train"
    from_scratch: bool = Field(
        default=False, description="start from random weights (He et al. 2015), not from those of the model"
    )
    training: TrainingByLabels = Field(default=TrainingByLabels(), description="how the weights are trained")

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.engine import normalise
        from compression.engine.initialization import initialise
        from compression.training.tuning import fine_tune, statistics

        start = model
        if self.from_scratch:
            ready = normalise(model)
            start = initialise(ready, context.seed, next(statistics(ready, context)))
        return Applied(*fine_tune(start, self.training, context, renormalise=True))
