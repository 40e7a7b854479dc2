from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from compression import runtime
from compression.dataset import Dataset, Split
from compression.engine import Engine, Role, normalise
from compression.errors import CompressionError
from compression.graph import qdq, quantization, weights
from compression.graph.fake_quantization import quantizers
from compression.graph.plan import Plan
from compression.inspection import Trait
from compression.model import Model
from compression.qat.scales import LearntScales, sizes
from compression.qat.training import trained
from compression.technique import Applied, Context
from compression.techniques.quantization_aware_training import QuantizationAwareTraining
from compression.training.zeros import HeldZeros
from tests.compression.networks import cnn, transformer
from tests.compression.test_static_quantization import mobile

SAMPLES = 192
Arrays = Mapping[str, np.ndarray]


def images(seed: int, channels: int = 1, side: int = 12) -> np.ndarray:
    """Smooth, so that there is something to compute from them."""
    noise = np.random.default_rng(seed).normal(0, 1, (SAMPLES, channels, side, side))
    return np.asarray(noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3), np.float32)


def tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 50, (SAMPLES, 9))


CASES = {
    "cnn": (cnn, {"image": images(0)}, {"image": images(1)}),
    "mobile": (lambda: mobile().model, {"image": images(0, 3, 16)}, {"image": images(1, 3, 16)}),
    "transformer": (transformer, {"tokens": tokens(0)}, {"tokens": tokens(1)}),
}


class Bench:
    """Trains on the calibration split, unlabelled, and measures on samples that were not seen."""

    def __init__(self, case: str, scratch: Path) -> None:
        build, self.seen, self.unseen = CASES[case]
        self.model = Model(build())
        self.data = Dataset({f"calibration/{name}": value for name, value in self.seen.items()}, 0)
        self.scratch = scratch

    def context(self, **fields: Any) -> Context:
        return replace(Context(self.data, 0, self.scratch), **fields)

    def apply(self, context: Context | None = None, epochs: float = 0, **parameters: Any) -> Applied:
        training = {"epochs": epochs, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.005}
        training |= parameters.pop("training", {})
        step = QuantizationAwareTraining.model_validate({"keep": "none", "training": training} | parameters)
        return step.apply(self.model, context or self.context())

    def plan(self, weight_bits: int, activation_bits: int, exclude: int = 0) -> Plan:
        """As the technique makes it, with the first layers in floats."""
        ready = normalise(self.model)
        layers = [node.name for node in ready.proto.graph.node if node.op_type in qdq.WEIGHTED]
        options = quantization.Options(
            scheme=qdq.Scheme(weight_bits, activation_bits),
            ranges="auto",
            percentile=99.99,
            equalization=True,
            bias_correction=True,
            exclude=layers[:exclude],
            operators=qdq.OPERATORS,
            keep="none",
            samples=64,
        )
        using = quantization.Resources(Split(self.seen, None), self.scratch, 1, lambda *_: None)
        return quantization.decide(ready.proto, options, using)

    def outputs(self, model: Model, *, optimise: bool = False) -> np.ndarray:
        session = runtime.session(model.proto, optimise=optimise)
        (found,) = runtime.run(session, self.unseen).values()
        return found

    def sqnr(self, model: Model) -> float:
        return decibels(self.outputs(model, optimise=True), self.outputs(self.model))


def decibels(found: np.ndarray, wanted: np.ndarray) -> float:
    noise = np.square(found - wanted, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(wanted, dtype=np.float64).sum() / max(noise, 1e-30)))


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(getattr(request, "param", "cnn"), tmp_path)


def integers(model: Model) -> list[np.ndarray]:
    """The stored weights; biases are int32."""
    tensors = [
        tensor for tensor in weights.weights(model.proto.graph) if tensor.data_type == TensorProto.INT8
    ]
    return [numpy_helper.to_array(tensor) for tensor in tensors if len(tensor.dims) > 1]


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 8), (4, 8), (3, 5)])
@pytest.mark.parametrize("exclude", [False, True], ids=["all", "first layer in floats"])
@pytest.mark.parametrize("bench", CASES, indirect=True)
def test_what_the_engine_trains_is_what_onnx_runtime_computes_from_the_file(
    bench: Bench, exclude: bool, weight_bits: int, activation_bits: int
) -> None:
    """Also after scales, weights and biases have moved."""
    plan = bench.plan(weight_bits, activation_bits, exclude=int(exclude))
    engine = Engine.from_model(Model(plan.trainable())).eval()
    generator = torch.Generator().manual_seed(0)
    for name, value in engine.values().items():
        if engine.roles[name].trained or engine.roles[name] == "quantization_scale":
            value.data *= torch.empty_like(value).uniform_(0.97, 1.03, generator=generator)
    with torch.no_grad():
        given = {name: torch.from_numpy(value) for name, value in bench.unseen.items()}
        (found,) = (value.numpy() for value in engine(given).values())
    assert decibels(found, bench.outputs(Model(trained(plan, engine).write()))) > 60


@pytest.mark.parametrize("ranges", ["lsq", "ema"])
@pytest.mark.parametrize("bench", CASES, indirect=True)
def test_training_brings_low_bits_nearer_to_the_original(bench: Bench, ranges: str) -> None:
    before = bench.apply(weight_bits=3, ranges=ranges)
    after = bench.apply(weight_bits=3, ranges=ranges, epochs=8)
    assert bench.sqnr(after.model) > bench.sqnr(before.model) + 0.7
    history = after.details["training"]["history"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    onnx.checker.check_model(after.model.proto, full_check=True)
    assert Trait.QUANTIZED in after.model.inspect().traits
    assert {tensor.name for tensor in after.model.outputs} == {tensor.name for tensor in bench.model.outputs}


def test_learnt_scales_alone_lower_the_loss(bench: Bench) -> None:
    """All too small at first: much is clipped."""
    engine, scheme = Engine.from_model(Model(bench.plan(4, 8).trainable())), qdq.Scheme(4, 8)
    given = {"image": torch.from_numpy(bench.seen["image"][:64])}
    found = list(quantizers(engine.model.proto.graph))
    learnt = LearntScales(engine, found, sizes(engine, {"image": given["image"][:1]}), scheme)
    scales = [value for _, value in engine.parameters_by_role(Role.QUANTIZATION_SCALE)]
    assert len(scales) == len({one.scale for one in found})
    for value in scales:
        value.data *= 0.6
    optimizer = torch.optim.Adam(scales, 2e-3)
    wanted = torch.from_numpy(
        runtime.run(runtime.session(bench.model.proto), {"image": bench.seen["image"][:64]})["logits"]
    )
    losses = []
    for step in range(15):
        loss = torch.nn.functional.mse_loss(engine(given)["logits"], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learnt.after_step(step, 15)
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


def test_scales_stay_positive(bench: Bench) -> None:
    made = bench.apply(epochs=2, training={"optimizer": "sgd", "learning_rate": 10, "gradient_clip": None})
    stored = {tensor.name: tensor for tensor in made.model.proto.graph.initializer}
    scales = [numpy_helper.to_array(tensor) for name, tensor in stored.items() if name.endswith("_scale")]
    assert len(scales) > 8
    assert min(scale.min() for scale in scales) > 0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_no_weight_needs_more_than_its_bits(bench: Bench, bits: int) -> None:
    made = bench.apply(weight_bits=bits, epochs=1)
    stored = integers(made.model)
    assert len(stored) == 4
    assert max(np.abs(weight.astype(int)).max() for weight in stored) <= 2 ** (bits - 1) - 1


def test_weights_alone(bench: Bench) -> None:
    before = bench.apply(weight_bits=3, activation_bits=None)
    made = bench.apply(weight_bits=3, activation_bits=None, epochs=8)
    operators = {node.op_type for node in made.model.proto.graph.node}
    assert not operators & {"QuantizeLinear", "DequantizeLinear"}
    assert made.details["quantized"] == []
    assert bench.sqnr(made.model) > bench.sqnr(before.model) + 0.7


def test_frozen_ranges_are_those_of_calibration(bench: Bench) -> None:
    """The weights of the first layer read the data: the scale of the input can only come from it."""
    before, frozen, moved = (
        Model(bench.apply(ranges="ema", freeze_after=share, epochs=epochs).model.proto).initializer(
            "image_scale"
        )
        for share, epochs in ((1.0, 0), (0.0, 2), (1.0, 2))
    )
    assert before == frozen
    assert moved != before


@pytest.mark.parametrize("preserve", [True, False])
def test_zeros_of_a_pruned_model_stay_zeros(bench: Bench, preserve: bool) -> None:
    pruned = bench.model.copy()
    for tensor in pruned.graph.initializer:
        weight = numpy_helper.to_array(tensor)
        if weight.ndim > 1:
            kept = np.where(np.abs(weight) < np.median(np.abs(weight)), 0, weight)
            tensor.CopyFrom(numpy_helper.from_array(kept, tensor.name))
    bench.model = Model(pruned)
    before, after = (
        bench.apply(epochs=epochs, preserve_sparsity=preserve, training={"learning_rate": 0.03})
        for epochs in (0, 4)
    )
    zeros = [weight == 0 for weight in integers(before.model)]
    held = [
        bool((weight[where] == 0).all()) for weight, where in zip(integers(after.model), zeros, strict=True)
    ]
    assert all(held) == preserve


def test_the_same_seed_gives_the_same_bytes(bench: Bench) -> None:
    first, second = (bench.apply(weight_bits=4, epochs=1).model.serialized for _ in range(2))
    other = bench.apply(bench.context(seed=1), weight_bits=4, epochs=1).model.serialized
    assert first == second
    assert first != other


class Killed(BaseException):
    """As abrupt as a signal."""


@pytest.mark.parametrize("ranges", ["lsq", "ema"])
def test_a_resumed_training_gives_the_same_bytes_and_does_not_measure_again(
    bench: Bench, ranges: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compression.training.loop.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(
        "compression.graph.exclusion.choose", lambda _bench, nodes: (nodes - {"logits_node"}, {"all": 2.0})
    )
    checkpoint = tmp_path / "checkpoint"
    parameters = {"weight_bits": 4, "keep": "auto", "ranges": ranges, "epochs": 3}
    undisturbed = bench.apply(**parameters)

    def kill(_extension: HeldZeros, step: int, _steps: int) -> None:
        if step == 8:
            raise Killed

    with monkeypatch.context() as during:
        during.setattr(HeldZeros, "before_step", kill)
        with pytest.raises(Killed):
            bench.apply(bench.context(checkpoint=checkpoint), **parameters)
    monkeypatch.setattr("compression.graph.exclusion.choose", lambda *_: pytest.fail("measured again"))
    resumed = bench.apply(bench.context(resume=checkpoint, checkpoint=checkpoint), **parameters)
    assert resumed.model.serialized == undisturbed.model.serialized
    assert {**resumed.details, "training": {}} == {**undisturbed.details, "training": {}}
    assert resumed.details["training"]["history"] == undisturbed.details["training"]["history"]
    assert resumed.details["kept_float"] == ["logits"]


def test_what_it_needs() -> None:
    step = QuantizationAwareTraining.model_validate({"training": {"loss": "labels"}})
    assert step.required() - QuantizationAwareTraining().required() == {"labels"}
    with pytest.raises(CompressionError, match="no_calibration"):
        step.apply(Model(cnn()), Context(None, 0, Path()))
