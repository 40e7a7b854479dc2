"""Fine-tuning: trains the weights that are there a little further."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compression.inspection import Trait
from compression.technique import Applied, Context, Need, Stage, Technique
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.model import Model


class Finetune(Technique):
    """Weights are trained a little further, by the original model's outputs and by labels, if any."""

    needs: ClassVar = frozenset({Need.CALIBRATION})
    refuses: ClassVar = {
        Trait.QUANTIZED: "the model is quantized; fine-tune before that, or use quantization_aware_training",
        Trait.HALF_PRECISION: "the model is in half precision; fine-tune the float32 original instead",
    }
    trains: ClassVar[bool] = True
    stage: ClassVar[Stage] = Stage.STRUCTURE
    guidance: ClassVar[str] = (
        "Recovers what another step lost, or adapts a model to the data set. The techniques that prune and "
        "distil fine-tune by themselves: this one is for a longer or different training after them. Without "
        "the original as a teacher (loss: labels) a well-trained network easily gets worse. Makes nothing "
        "smaller or faster."
    )

    technique: Literal["finetune"] = "finetune"
    training: Training = Field(default=Training(), description="how the weights are trained")

    def required(self) -> frozenset[Need]:
        return self.needs | ({Need.LABELS} if self.training.loss == "labels" else set())

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression.training.tuning import fine_tune

        return Applied(*fine_tune(model, self.training, context))
