"""Measurement: the numbers that prove what was gained and lost. Plain JSON; `measure` makes them."""

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")
Interval = tuple[float, float]


class Latency(BaseModel):
    """Milliseconds of one inference at batch 1 on one thread, interleaved with the other model."""

    model_config = _FROZEN
    p50: float
    p90: float
    p99: float
    n: int


class Metric(BaseModel):
    """The task metric on the held-out split with its 95 % interval."""

    model_config = _FROZEN
    name: str
    value: float
    ci95: Interval
    n: int
    higher_is_better: bool = True


class Measurement(BaseModel):
    """One model. The last three compare it with the original and are null for the original itself."""

    model_config = _FROZEN
    bytes: int
    bytes_zstd: int = Field(description="size as downloaded with zstd -19")
    params: int
    nonzero_params: int
    macs: int | None = Field(description="multiply-accumulates of one sample")
    peak_activation_bytes: int | None = Field(
        description="largest sum of live tensors of one sample, in graph order"
    )
    latency_ms: Latency | None = None
    metric: Metric | None = None
    agreement: float | None = Field(default=None, description="share of samples decided as by the original")
    kl: float | None = Field(default=None, description="mean KL divergence of the class probabilities, nats")
    sqnr_db: float | None = Field(default=None, description="signal to quantization noise of the outputs, dB")


class Ratio(BaseModel):
    """Original divided by compressed: 2.0 is twice as small, or twice as fast."""

    model_config = _FROZEN
    value: float
    ci95: Interval | None = None


class LayerError(BaseModel):
    """SQNR at one tensor that both graphs have, in graph order."""

    model_config = _FROZEN
    tensor: str
    sqnr_db: float


class Measurements(BaseModel):
    model_config = _FROZEN
    original: Measurement
    compressed: Measurement
    ratios: dict[str, Ratio] = Field(
        description="original / compressed: bytes, bytes_zstd, params, macs, latency, …"
    )
    layers: tuple[LayerError, ...] = ()
    warnings: tuple[str, ...] = ()
