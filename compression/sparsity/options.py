"""What a user may set of zeros among weights: their pattern, and when they come."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Unstructured(BaseModel):
    """Any weights."""

    model_config = _FROZEN
    kind: Literal["unstructured"] = "unstructured"


class NOfM(BaseModel):
    """n of every m weights that are neighbours along the input channels stay: 2 of 4 is what NVIDIA's sparse
    tensor cores take (Mishra et al. 2021, arXiv:2104.08378).
    """

    model_config = _FROZEN
    kind: Literal["n_m"] = "n_m"
    n: int = Field(default=2, ge=1, le=256, description="weights that stay")
    m: int = Field(default=4, ge=2, le=256, description="weights of a group")

    @model_validator(mode="after")
    def _leaves_zeros(self) -> "NOfM":
        if self.n >= self.m:
            raise ValueError("n must be smaller than m")
        return self

    @property
    def sparsity(self) -> float:
        return 1 - self.n / self.m


class Block(BaseModel):
    """Blocks of outputs x inputs, ranked by their mean; of a convolution, at each position of the kernel."""

    model_config = _FROZEN
    kind: Literal["block"] = "block"
    outputs: int = Field(default=4, ge=1, le=1024, description="output channels of a block")
    inputs: int = Field(default=1, ge=1, le=1024, description="input channels of a block")

    @property
    def shape(self) -> tuple[int, int]:
        return self.outputs, self.inputs


Pattern = Unstructured | NOfM | Block


class Constant(BaseModel):
    """All of the final sparsity at once."""

    model_config = _FROZEN
    kind: Literal["constant"] = "constant"
    begin_step: int = Field(default=0, ge=0, description="training step before which weights become zero")
    frequency: int = Field(default=10, ge=1, description="steps after which they are chosen anew")

    def sparsity(self, step: int, steps: int, final: float) -> float | None:  # noqa: ARG002
        """That before a step whose masks are made anew; None if they stay."""
        passed = step - self.begin_step
        return final if passed >= 0 and passed % self.frequency == 0 else None

    def end(self, steps: int) -> int:  # noqa: ARG002
        return self.begin_step


class PolynomialDecay(BaseModel):
    """Grows from the initial to the final sparsity s_f as s_f + (s_i - s_f) (1 - t)^power, first fast, then
    slowly (Zhu and Gupta 2017, arXiv:1710.01878).
    """

    model_config = _FROZEN
    kind: Literal["polynomial_decay"] = "polynomial_decay"
    initial_sparsity: float = Field(default=0.0, ge=0, lt=1, description="share of zeros at the beginning")
    begin_step: int = Field(default=0, ge=0, description="training step before which the first become zero")
    end_step: int | None = Field(
        default=None,
        ge=0,
        description="training step at which the final sparsity is reached; null: after half of the steps",
    )
    frequency: int = Field(default=10, ge=1, description="steps after which more become zero")
    power: float = Field(default=3.0, gt=0, le=100, description="exponent of the decay")

    @model_validator(mode="after")
    def _ends_after_its_begin(self) -> "PolynomialDecay":
        if self.end_step is not None and self.end_step < self.begin_step:
            raise ValueError(f"end_step {self.end_step} precedes begin_step {self.begin_step}")
        return self

    def sparsity(self, step: int, steps: int, final: float) -> float | None:
        """That before a step whose masks are made anew; None if they stay. As TFMOT's, and at the end step
        whatever the frequency.
        """
        end = self.end(steps)
        passed = step - self.begin_step
        if not 0 <= passed <= end - self.begin_step or (passed % self.frequency and step != end):
            return None
        left = 1 - passed / (end - self.begin_step) if end > self.begin_step else 0.0
        return final + (self.initial_sparsity - final) * math.pow(left, self.power)

    def end(self, steps: int) -> int:
        return max(self.begin_step, steps // 2) if self.end_step is None else self.end_step


Schedule = PolynomialDecay | Constant
