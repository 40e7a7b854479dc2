"""Quantization-aware training of a planned quantization: the plan again, with trained values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import onnx
import torch

from compression.clustering.members import HeldClusters, clustered
from compression.engine import Engine, Role
from compression.graph import qdq
from compression.graph.fake_quantization import quantizers
from compression.graph.index import Index
from compression.graph.plan import Plan
from compression.graph.weight_rounding import Rounding
from compression.kernels.ranges import Range
from compression.model import Model
from compression.qat.ranges import RunningRanges
from compression.qat.scales import LearntScales, sizes
from compression.technique import Context
from compression.training.loop import Extension, Stage, fit
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.tuning import samples
from compression.training.zeros import HeldZeros


@dataclass(frozen=True)
class Settings:
    training: Training
    ranges: Literal["lsq", "ema"]
    freeze_after: float
    preserve_sparsity: bool
    preserve_clusters: bool


def train(
    model: Model, plan: Plan, settings: Settings, context: Context, stage: Stage
) -> tuple[Plan, dict[str, Any]]:
    """The plan with trained weights, biases and scales, and what there is to say of the training.

    Errors: those of `training.loop.fit`; `engine_unsupported`.
    """
    split = samples(context)
    objective = Objective.of(model, split, settings.training, context)
    trainable = Model(plan.trainable())
    engine = Engine.from_model(trainable)
    sample = next(split.batches(model.inputs, 1))
    extensions = list(_extensions(engine, plan, settings, sample))
    fitted = fit(engine, objective, split, settings.training, context, extensions=extensions, stage=stage)
    return trained(plan, engine), dict(fitted.details)


def _extensions(
    engine: Engine, plan: Plan, settings: Settings, sample: Mapping[str, Any]
) -> Iterator[Extension]:
    found = list(quantizers(engine.model.proto.graph))
    if settings.ranges == "lsq":
        rounds = sizes(engine, {name: torch.tensor(value) for name, value in sample.items()})
        yield LearntScales(engine, found, rounds, plan.scheme)
    else:
        yield RunningRanges(
            engine, found, qdq.limits(plan.prepared.graph), plan.scheme, settings.freeze_after
        )
    if settings.preserve_clusters:
        yield HeldClusters(clustered(weight for _, weight in engine.parameters_by_role(Role.WEIGHT)))
    if settings.preserve_sparsity:
        yield HeldZeros(weight for _, weight in engine.parameters_by_role(Role.WEIGHT))


def trained(plan: Plan, engine: Engine) -> Plan:
    """The plan with the weights, biases and scales that the engine of its trainable graph holds."""
    values = Index(engine.write_back().proto.graph)
    prepared = onnx.ModelProto()
    prepared.CopyFrom(plan.prepared)
    for tensor in prepared.graph.initializer:
        if tensor.name in values.initializers:
            tensor.CopyFrom(values.initializers[tensor.name])
    ranges = {name: _range(name, to, values, plan.scheme) for name, to in plan.ranges.items()}
    roundings = {name: _rounding(name, how, values) for name, how in plan.roundings.items()}
    return replace(plan, prepared=prepared, ranges=ranges, roundings=roundings)


def _range(name: str, before: Range, values: Index, scheme: qdq.Scheme) -> Range:
    """Of the scale and zero point that the tensor has now, if it has its own."""
    scale, zero = values.scalar(f"{name}_scale"), values.scalar(f"{name}_zero_point")
    if scale is None or zero is None:
        return before
    return Range(-zero * scale, (2**scheme.activation_bits - 1 - zero) * scale)


def _rounding(name: str, before: Rounding, values: Index) -> Rounding:
    scales = values.constant(f"{name}_scale")
    return before if scales is None else replace(before, scales=scales.reshape(before.scales.shape))
