"""The training of a network that was made smaller and keeps most of what it knew."""

from pydantic import Field

from compression.training.options import Training


class Recovery(Training):
    """At a higher rate and by labels as much as by the original, which a cut network need not imitate: half
    the multiply-accumulates of a CNN, labels alone 94.43 %, half and half 94.28 %, a tenth 93.90 %; the
    original 94.21 %. Labels alone agree least with the original (97.6, 98.6, 98.9 %).
    """

    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=10,
        allow_inf_nan=False,
        description="at its highest; null: 0.02 for sgd, 0.0003 for adamw",
    )
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="of matrices and kernels only")
    alpha: float = Field(default=0.5, ge=0, le=1, description="share of distillation in the loss")

    @property
    def peak_rate(self) -> float:
        return self.learning_rate or {"sgd": 0.02, "adamw": 3e-4}[self.optimizer]
