"""How an exported file ran in its own runtime. Declared without loading any (ADR 0001)."""

from pydantic import BaseModel, ConfigDict, Field

from compression.measurement import Latency, Metric, Ratio


class ExportCheck(BaseModel):
    """What the file does in its own runtime. Plain JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str
    filename: str
    bytes: int
    runtime: str
    runtime_version: str
    samples: int
    difference: float = Field(
        description="largest difference of an output from ONNX Runtime's on the source model, relative to "
        "the largest value of that output"
    )
    agreement: float = Field(description="share of samples decided as by ONNX Runtime on the source model")
    source_metric: Metric | None = Field(
        default=None, description="task metric of the source on these samples; null where nothing is labelled"
    )
    metric: Metric | None = Field(default=None, description="of the exported file on the same samples")
    latency_ms: Latency
    latency: Ratio = Field(description="ONNX Runtime on the source model divided by this, interleaved")
    warnings: tuple[str, ...] = ()
