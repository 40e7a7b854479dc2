"""Bits of each layer under a budget, by what each layer alone loses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression import runtime
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.graph import qdq, quantization
from compression.graph.precision import FLOAT, HALF
from compression.graph.quantization import Resources
from compression.kernels.allocation import Choice, cheapest
from compression.model import Model
from compression.sensitivity.evaluation import Evaluator, thinned
from compression.sensitivity.options import Options, Using
from compression.sensitivity.scan import scan

EIGHT, FOUR = 8, 4
TRIES = 5
"""Models that are written and measured: noise of layers does not quite add up."""
Bits = Mapping[str, int]
Layers = Mapping[str, Mapping[int, Choice]]
"""By name of its node and bits: bytes and noise."""


@dataclass(frozen=True)
class Budget:
    """One of the two."""

    min_sqnr_db: float | None
    max_bytes: int | None


@dataclass(frozen=True)
class Request:
    bits: Sequence[int]
    budget: Budget
    samples: int
    """That layers are compared on."""
    calibration: int
    """Samples that ranges are found from."""
    exclude: Sequence[str]


def mix(model: Model, request: Request, using: Using) -> tuple[Model, dict[str, Any]]:
    """The model with the bits that were chosen, measured as a whole: the budget holds.

    Errors: CompressionError `target_unreachable`, `nothing_to_quantize`, those of `scan` and `quantize`.
    """
    layers = _layers(model, request, using)
    judged = thinned(using.split, request.samples, model.inputs)
    evaluator = Evaluator.of(model, judged, using.task, runtime.session(model.proto, threads=using.threads))
    nearest, limit = 0.0, _limit(model, request.budget, layers)
    for attempt in range(TRIES):
        bits = _choose(layers, request.budget, limit)
        if bits is None or all(own == FLOAT for own in bits.values()):
            break
        using.report(0.6 + 0.08 * attempt, "writing and measuring")
        made, details = _written(model, bits, request, using)
        session = runtime.session(made.proto, threads=using.threads)
        sqnr = evaluator.scores(lambda feeds, own=session: runtime.run(own, feeds)).sqnr_db  # type: ignore[misc]
        beyond = _beyond(made.size, sqnr, request.budget)
        if beyond <= 1:
            counts = {str(own): count for own, count in sorted(Counter(bits.values()).items())}
            return made, {"bits": bits, "layers": counts, "sqnr_db": sqnr, "attempts": attempt + 1, **details}
        nearest, limit = sqnr or nearest, _tighter(limit, beyond, made.size, request.budget)
    raise _unreachable(request.budget, nearest)


def _layers(model: Model, request: Request, using: Using) -> Layers:
    """Noise of 4 bits is that of the weights and, as activations have 8, that of 8 bits."""
    wanted = Options(("static_quantization", "weight_quantization"), request.samples, request.exclude)
    found = scan(model, wanted, using)
    noise = {(row.layer, row.setting["bits"]): row.noise for row in found.rows}
    return {
        name: {
            bits: Choice(size * bits / 8, _noise(noise, name, bits))
            for bits in request.bits
            if bits >= HALF or (name, EIGHT) in noise
        }
        for name, size in found.sizes.items()
    }


def _noise(noise: Mapping[tuple[str, float], float], name: str, bits: int) -> float:
    if bits >= HALF:
        return 0.0 if bits == FLOAT else 2.0**-22
    return noise[name, EIGHT] + (noise[name, FOUR] if bits == FOUR else 0.0)


def _limit(model: Model, budget: Budget, layers: Layers) -> float:
    """Noise to signal, or bytes of the layers."""
    if budget.max_bytes is None:
        return float(10 ** (-(budget.min_sqnr_db or 0.0) / 10))
    floats = sum(
        choice.cost * FLOAT / bits for own in layers.values() for bits, choice in list(own.items())[:1]
    )
    return budget.max_bytes - (model.size - floats)


def _choose(layers: Layers, budget: Budget, limit: float) -> dict[str, int] | None:
    options = [list(own.items()) for own in layers.values()]
    choices = [[choice for _, choice in own] for own in options]
    if budget.max_bytes is not None:
        choices = [[Choice(loss, cost) for cost, loss in own] for own in choices]
    picked = cheapest(choices, limit)
    if picked is None:
        return None
    return {name: own[at][0] for name, own, at in zip(layers, options, picked, strict=True)}


def _written(model: Model, bits: Bits, request: Request, using: Using) -> tuple[Model, dict[str, Any]]:
    options = quantization.Options(
        scheme=qdq.Scheme(),
        ranges="auto",
        percentile=99.99,
        equalization=True,
        bias_correction=True,
        exclude=request.exclude,
        operators=None,
        keep="none",
        samples=request.calibration,
        bits=bits,
    )
    resources = Resources(using.split, using.scratch, using.threads, lambda *_: None)
    written, details = quantization.quantize(model.proto, options, resources)
    return Model(written), {name: details[name] for name in ("ranges", "tables", "kept_float")}


def _beyond(size: int, sqnr: float | None, budget: Budget) -> float:
    """By which factor the budget is exceeded; up to 1 it is not."""
    if budget.max_bytes is not None:
        return size / budget.max_bytes
    return float("inf") if sqnr is None else float(10 ** (((budget.min_sqnr_db or 0.0) - sqnr) / 10))


def _tighter(limit: float, beyond: float, size: int, budget: Budget) -> float:
    if budget.max_bytes is not None:
        return limit - 1.5 * (size - budget.max_bytes) - budget.max_bytes / 200
    return limit / min(1.2 * beyond, 100.0)


def _unreachable(budget: Budget, nearest: float) -> CompressionError:
    if budget.max_bytes is not None:
        detail = f"no choice of bits makes a file of {budget.max_bytes} bytes"
        way = Suggestion("Allow fewer bits", {"bits": [4, 8, 16, 32]})
    else:
        detail = f"no choice of bits keeps {budget.min_sqnr_db} dB; the nearest had {nearest:.1f} dB"
        way = Suggestion(
            "Ask for less, or for wider layers too", {"min_sqnr_db": int(nearest), "bits": [4, 8, 16, 32]}
        )
    return CompressionError("target_unreachable", detail, ErrorKind.UNSUPPORTED, suggestions=[way])
