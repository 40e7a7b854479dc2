"""Training from labels, also from scratch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compression.inspection import Trait
from compression.technique import Applied, Context, Need, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.model import Model

_DEFAULT = Training(epochs=10, loss="labels", learning_rate=0.05, weight_decay=5e-4)


class Train(Technique):
    """The network is trained by the labels alone, from its weights or, if asked to, from random ones."""

    needs: ClassVar = frozenset({Need.CALIBRATION, Need.LABELS})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; train before that, or use quantization_aware_training",
        Trait.HALF_PRECISION: "the model is in half precision; train the float32 original instead",
    }
    trains: ClassVar[bool] = True
    moves_outputs: ClassVar[bool] = True
    guidance: ClassVar[str] = (
        "For a network that is not trained yet, or for other labels than it was trained on; and to see what "
        "distillation is worth, by training the same student without a teacher. To compress a trained model, "
        "take another technique."
    )

    technique: Literal["train"] = "train"
    from_scratch: bool = Field(
        default=False, description="start from random weights (He et al. 2015), not from those of the model"
    )
    training: Training = Field(default=_DEFAULT, description="how the weights are trained")

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.engine import normalise
        from compression.engine.initialization import initialise
        from compression.training.tuning import fine_tune, statistics

        training = self.training.model_copy(update={"loss": "labels"})
        start = model
        if self.from_scratch:
            ready = normalise(model)
            start = initialise(ready, context.seed, next(statistics(ready, context)))
        return Applied(*fine_tune(start, training, context, renormalise=self.from_scratch))
