"""Precision of each layer within limits: chosen by what each alone loses and how long it takes, written,
measured as a whole, and corrected until the limits hold.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.graph import qdq, quantization
from compression.graph.precision import FLOAT
from compression.graph.quantization import Resources
from compression.model import Model
from compression.sensitivity.choosing import Chooser, Limits, Mix, Objective
from compression.sensitivity.judging import Judge, Verdict
from compression.sensitivity.losses import measure
from compression.sensitivity.options import Using
from compression.sensitivity.pace import Pace

TRIES = 8
"""Models that are written and measured: noise of layers does not quite add up."""
START_DB = 10.0
"""Noise that a limit of the metric alone begins with."""
STEP = 2.0
"""By which the noise allowed shrinks at least where the metric loses too much: 3 dB."""
SLOWER = 0.97
"""Of the original's speed: less than that is not what the clock makes of two equal models."""


@dataclass(frozen=True)
class Budget:
    minimise: Objective
    min_sqnr_db: float | None
    max_metric_drop: float | None
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


def mix(model: Model, request: Request, judge: Judge, using: Using) -> tuple[Model, dict[str, Any]]:
    """The model with the precision that was chosen, measured as a whole: the budget holds.

    Errors: CompressionError `target_unreachable`, `nothing_to_quantize`, `nothing_to_gain`, those of `scan`
    and `quantize`.
    """
    losses = measure(model, request.bits, request.samples, request.exclude, using)
    pace = Pace(model, losses.integers, request.exclude, using)
    chooser = Chooser(losses, pace, request.budget.minimise)
    limits = _limits(model, request.budget, losses.elements)
    verdict = None
    for attempt in range(TRIES):
        using.report(0.6 + 0.05 * attempt, "choosing, writing and measuring")
        mixed = chooser.choose(limits)
        if mixed is None or all(own == FLOAT for own in mixed.bits.values()):
            break
        made, details = _written(model, mixed, pace.kept_float(mixed.integers), request, using)
        verdict = judge.verdict(made, using.threads)
        if not _broken(made.size, verdict, request.budget):
            found = {**_told(mixed, pace), **verdict.json, "attempts": attempt + 1, **details}
            return made, found | _never_slower(made, pace, request.budget)
        limits = _tighter(limits, made.size, verdict, request.budget)
    raise _unreachable(request.budget, verdict)


def _limits(model: Model, budget: Budget, elements: int) -> Limits:
    noise = 10 ** (-(START_DB if budget.min_sqnr_db is None else budget.min_sqnr_db) / 10)
    if budget.max_bytes is None:
        return Limits(noise, None)
    return Limits(noise, budget.max_bytes - (model.size - elements * FLOAT // 8))


def _written(
    model: Model, mixed: Mix, kept_float: Collection[str], request: Request, using: Using
) -> tuple[Model, dict[str, Any]]:
    options = quantization.Options(
        scheme=qdq.Scheme(),
        ranges="auto",
        percentile=99.99,
        equalization=True,
        bias_correction=True,
        exclude=(*request.exclude, *kept_float),
        operators=None,
        keep="none",
        samples=request.calibration,
        bits=mixed.bits,
    )
    resources = Resources(using.split, using.scratch, using.threads, lambda *_: None)
    written, details = quantization.quantize(model.proto, options, resources)
    return Model(written), {
        "float_layers": details["float_layers"],
        "kept_float": list(kept_float),
        "ranges": details["ranges"],
        "tables": details["tables"],
    }


def _told(mixed: Mix, pace: Pace) -> dict[str, Any]:
    counts = Counter(str(own) for own in mixed.bits.values())
    return {
        "bits": mixed.bits,
        "layers": dict(sorted(counts.items(), key=lambda own: int(own[0]))),
        "placement": mixed.name,
        "speeds": {name: round(speed, 3) for name, speed in mixed.speeds.items()},
        "optimality_gap": mixed.gap,
        "integer_nodes": len(mixed.integers & pace.nodes),
    }


def _never_slower(made: Model, pace: Pace, budget: Budget) -> dict[str, float]:
    """Measured twice before it is held against a model."""
    speed = pace.of(made.proto)
    if speed < SLOWER:
        speed = max(speed, pace.of(made.proto))
    if speed < SLOWER and budget.minimise == "latency" and not pace.is_short:
        raise CompressionError(
            "nothing_to_gain",
            f"every choice within the limits is slower than the model is, the best {speed:.2f}x as fast",
            ErrorKind.UNSUPPORTED,
            suggestions=[Suggestion("Make it smaller only", {"minimise": "bytes"})],
        )
    return {"speed": round(speed, 3)}


def _broken(size: int, verdict: Verdict, budget: Budget) -> bool:
    too_large = budget.max_bytes is not None and size > budget.max_bytes
    return too_large or _noisy(verdict, budget) or _drops(verdict, budget)


def _noisy(verdict: Verdict, budget: Budget) -> bool:
    return verdict.sqnr_db is None or verdict.sqnr_db < (budget.min_sqnr_db or 0.0)


def _drops(verdict: Verdict, budget: Budget) -> bool:
    limit = budget.max_metric_drop
    return limit is not None and (verdict.drop is None or verdict.drop > limit)


def _tighter(limits: Limits, size: int, verdict: Verdict, budget: Budget) -> Limits:
    """Layers are given back until what was measured fits."""
    factor = 1.0
    if _noisy(verdict, budget):
        beyond = 10 ** (((budget.min_sqnr_db or 0.0) - (verdict.sqnr_db or 0.0)) / 10)
        factor = min(max(1.2 * beyond, STEP if verdict.sqnr_db is None else 1.0), 100.0)
    if _drops(verdict, budget):
        measured = 1.0 if verdict.sqnr_db is None else limits.noise * 10 ** (verdict.sqnr_db / 10)
        factor = max(factor, STEP, STEP * measured)
    tightened = replace(limits, noise=limits.noise / factor)
    if budget.max_bytes is None or limits.bytes is None or size <= budget.max_bytes:
        return tightened
    return replace(tightened, bytes=limits.bytes - 1.5 * (size - budget.max_bytes) - budget.max_bytes / 200)


def _unreachable(budget: Budget, nearest: Verdict | None) -> CompressionError:
    limits = []
    if budget.min_sqnr_db is not None:
        limits.append(f"{budget.min_sqnr_db:g} dB")
    if budget.max_metric_drop is not None:
        limits.append(f"a drop of at most {budget.max_metric_drop:g}")
    if budget.max_bytes is not None:
        limits.append(f"a file of at most {budget.max_bytes} bytes")
    detail = f"no choice of bits gives {' and '.join(limits)}"
    if nearest is not None and nearest.sqnr_db is not None:
        detail += f"; the last that was tried had {nearest.sqnr_db:.1f} dB"
        if nearest.drop is not None:
            detail += f" and lost {nearest.drop:.4f}"
    way = Suggestion("Allow every width, and more noise", {"bits": [4, 8, 16, 32], "min_sqnr_db": 10})
    return CompressionError("target_unreachable", detail, ErrorKind.UNSUPPORTED, suggestions=[way])
