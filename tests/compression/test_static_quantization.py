from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.graph import exclusion, packing, weights
from compression.inspection import Trait
from compression.model import Model
from compression.technique import Applied, Context
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.conftest import Normalise, Pack
from tests.compression.networks import Builder, cnn

F = TensorProto.FLOAT


class Case(NamedTuple):
    model: onnx.ModelProto
    arrays: Mapping[str, np.ndarray]


def mobile(opset: int = 17, side: int = 16) -> Case:
    """Inverted residuals with ReLU6, a hard swish as exporters write it, squeeze and excitation, a mean and a
    Gemm.
    """
    b = Builder(3)
    bounds = [b.constant("zero", np.float32(0)), b.constant("six", np.float32(6))]
    three = b.constant("three", np.float32(3))

    def conv(source: str, name: str, ins: int, outs: int, kernel: int = 1, group: int = 1) -> str:
        weight = b.weight(f"{name}.weight", outs, ins // group, kernel, kernel)
        spread = np.geomspace(0.05, 2, outs).astype(np.float32)
        values = numpy_helper.to_array(b.weights[-1]) * spread[:, None, None, None]
        b.weights[-1].CopyFrom(numpy_helper.from_array(values, weight))
        inputs = [source, weight, b.weight(f"{name}.bias", outs, scale=0.1)]
        return b.node("Conv", inputs, f"{name}.out", pads=[kernel // 2] * 4, group=group)

    def hard_swish(x: str) -> str:
        gate = b.node("Clip", [b.node("Add", [x, three], f"{x}.add"), *bounds], f"{x}.clip")
        return b.node("Div", [b.node("Mul", [x, gate], f"{x}.mul"), "six"], f"{x}.swish")

    stem = b.node("Clip", [conv("image", "stem", 3, 16, 3), *bounds], "stem.relu6")
    deep = b.node("Clip", [conv(stem, "deep", 16, 16, 3, 16), *bounds], "deep.relu6")
    joined = b.node("Add", [conv(deep, "project", 16, 16), stem], "joined")
    wide = hard_swish(conv(joined, "wide", 16, 32))
    gate = b.node(
        "HardSigmoid", [conv(b.node("GlobalAveragePool", [wide], "squeeze"), "gate", 32, 32)], "excite"
    )
    gated = b.node("Mul", [wide, gate], "gated")
    mean = b.node("ReduceMean", [gated], "mean", axes=[2, 3], keepdims=1)
    flat = b.node("Flatten", [mean], "flat")
    b.node("Gemm", [flat, b.weight("head.weight", 32, 5), b.weight("head.bias", 5, scale=0.1)], "logits")
    image = helper.make_tensor_value_info("image", F, ["batch", 3, side, side])
    model = b.model([image], [helper.make_tensor_value_info("logits", F, ["batch", 5])], opset)
    random = np.random.default_rng(0)
    images = {
        split: random.normal(0, 1, (24, 3, side, side)).astype(np.float32)
        for split in ("calibration", "test")
    }
    return Case(model, {f"{split}/image": values for split, values in images.items()})


def residual(opset: int = 17) -> Case:
    random = np.random.default_rng(0)
    arrays = {
        f"{split}/image": random.integers(0, 256, (24, 1, 12, 12), np.uint8)
        for split in ("calibration", "test")
    }
    return Case(cnn(opset), arrays)


CASES = {"mobile": mobile, "residual": residual}


class Bench:
    """Applies the technique to files as the service has them, and runs what comes out."""

    def __init__(self, normalise: Normalise, pack: Pack, scratch: Path) -> None:
        self.normalise, self.pack, self.scratch = normalise, pack, scratch

    def apply(self, case: Case, **parameters: Any) -> Applied:
        source = Model.open(self.normalise(case.model))
        data = Dataset.open(self.pack(case.arrays))
        technique = StaticQuantization.model_validate({"keep": "none", **parameters})
        assert technique.check(source.inspect()) is None
        return technique.apply(source, Context(data, 0, self.scratch))

    def sqnr(self, case: Case, made: Applied, *, optimise: bool = True) -> float:
        image = case.arrays["test/image"].astype(np.float32)
        (reference,) = runtime.run(runtime.session(case.model), {"image": image}).values()
        session = runtime.session(made.model.proto, optimise=optimise)
        (found,) = runtime.run(session, {"image": image}).values()
        noise = np.square(found - reference, dtype=np.float64).sum()
        return float(10 * np.log10(np.square(reference, dtype=np.float64).sum() / noise))


@pytest.fixture
def bench(normalise: Normalise, pack: Pack, tmp_path: Path) -> Bench:
    (tmp_path / "scratch").mkdir()
    return Bench(normalise, pack, tmp_path / "scratch")


def kernels(made: Applied, folder: Path) -> set[str]:
    """Operators that the runtime executes, all optimisations on."""
    session = runtime.session(made.model.proto, profile=folder / "kernels")
    spec = session.get_inputs()[0]
    runtime.run(
        session,
        {spec.name: np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], np.float32)},
    )
    text = Path(session.end_profiling()).read_text()
    return {kernel for kernel in ("QLinearConv", "QGemm", "QLinearAdd", "FusedConv") if f'"{kernel}"' in text}


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("name", CASES)
def test_layers_run_in_integers_and_stay_near(name: str, opset: int, bench: Bench, tmp_path: Path) -> None:
    case = CASES[name](opset)
    made = bench.apply(case)
    onnx.checker.check_model(made.model.proto, full_check=True)
    assert bench.sqnr(case, made) > 22
    assert {"QLinearConv", "QGemm", "QLinearAdd"} <= kernels(made, tmp_path)
    assert made.details["float_layers"] == []
    assert Trait.QUANTIZED in made.model.inspect().traits


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "entropy", "mse"])
def test_every_range_method(ranges: str, bench: Bench) -> None:
    made = bench.apply(residual(), ranges=ranges)
    assert set(made.details["ranges"]) == {ranges}
    assert bench.sqnr(residual(), made) > 12


@pytest.mark.parametrize(
    "parameters",
    [
        {"per_channel": False},
        {"symmetric_activations": True},
        {"equalization": False, "bias_correction": False},
    ],
)
def test_every_switch(parameters: dict[str, bool], bench: Bench) -> None:
    assert bench.sqnr(residual(), bench.apply(residual(), **parameters)) > 18


def integers(made: Applied) -> dict[str, np.ndarray]:
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in weights.weights(made.model.proto.graph)
        if tensor.data_type == TensorProto.INT8
    }


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_fewer_weight_bits_are_fewer_levels(bits: int, bench: Bench) -> None:
    made = bench.apply(residual(), weight_bits=bits)
    found = integers(made).values()
    assert len(found) == 4
    for weight in found:
        assert np.abs(weight.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert f"{bits}" in made.details["stored_as"]


@pytest.mark.parametrize("exclude", [(), ("pointwise.conv",)], ids=["integers", "floats"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_packed_weights_take_their_bits_and_change_nothing(
    bits: int, exclude: tuple[str, ...], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = {"weight_bits": bits, "exclude": exclude}
    packed = bench.apply(residual(), **parameters)
    monkeypatch.setattr("compression.graph.packing.pack", lambda *_: None)
    plain = bench.apply(residual(), **parameters)
    onnx.checker.check_model(packed.model.proto, full_check=True)
    for optimise in (True, False):
        assert bench.sqnr(residual(), packed, optimise=optimise) == bench.sqnr(
            residual(), plain, optimise=optimise
        )
    assert kernels(packed, tmp_path) == kernels(plain, tmp_path)
    assert packed.model.inspect().params == plain.model.inspect().params
    assert packed.model.inspect().traits == plain.model.inspect().traits
    first, second = integers(packed), integers(plain)
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    stored = {tensor.name: len(tensor.raw_data) for tensor in packed.model.proto.graph.initializer}
    assert sum(size for name, size in stored.items() if name.endswith("_packed")) == sum(
        weight.size * (2 if bits == 2 else 4) // 8
        for weight in second.values()
        if weight.size >= packing.FEWEST
    )


def test_unpacking_is_folded_when_a_session_is_made(bench: Bench, tmp_path: Path) -> None:
    made = bench.apply(residual(), weight_bits=4)
    assert "Gather" in {node.op_type for node in made.model.proto.graph.node}
    path = tmp_path / "optimised.onnx"
    options = runtime.ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    runtime.ort.InferenceSession(made.model.serialized, options, providers=["CPUExecutionProvider"])
    assert not {"Gather", "Cast"} & {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("bits", [3, 5])
def test_fewer_activation_bits_are_fewer_levels(bits: int, bench: Bench) -> None:
    case = residual()
    made = bench.apply(case, activation_bits=bits)
    exposed = made.model.copy()
    names = [node.output[0] for node in exposed.graph.node if node.op_type == "QuantizeLinear"]
    exposed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in names
    )
    image = case.arrays["test/image"].astype(np.float32) * 3  # beyond what was calibrated
    found = runtime.run(runtime.session(exposed, optimise=False), {"image": image}, names)
    assert all(len(np.unique(values)) <= 2**bits for values in found.values())
    assert bench.sqnr(case, bench.apply(case, activation_bits=8)) > bench.sqnr(case, made)


def test_bits_and_noise_go_together(bench: Bench) -> None:
    found = [bench.sqnr(residual(), bench.apply(residual(), weight_bits=bits)) for bits in (3, 5, 8)]
    assert found == sorted(found)


def test_exclusions_are_honoured_by_node_and_by_tensor(bench: Bench) -> None:
    case = mobile()
    made = bench.apply(case, exclude=["wide.out_node", "deep.out"])
    assert set(made.details["float_layers"]) == {"wide.out_node", "deep.out_node"}
    names = {tensor.name for tensor in made.model.proto.graph.initializer}
    assert {"wide.weight_int8", "deep.weight_int8"} <= names
    assert bench.sqnr(case, made) > 22


def test_activations_in_a_row_share_a_range(bench: Bench) -> None:
    case = residual()
    relu = next(node for node in case.model.graph.node if node.output[0] == "residual.relu")
    relu.input[0] = "stem.relu"
    assert bench.sqnr(case, bench.apply(case)) > 22


def test_an_unknown_exclusion_is_refused(bench: Bench) -> None:
    with pytest.raises(CompressionError, match="unknown_node"):
        bench.apply(residual(), exclude=["nothing"])


def test_operators_limit_what_is_quantized(bench: Bench, tmp_path: Path) -> None:
    made = bench.apply(residual(), operators=["Gemm"])
    assert kernels(made, tmp_path) & {"QLinearConv", "QGemm"} == {"QGemm"}


def test_float_layers_with_integer_weights_are_folded_when_a_session_is_made(
    bench: Bench, tmp_path: Path
) -> None:
    case = residual()
    layers = [node.name for node in case.model.graph.node if node.op_type == "Conv"]
    made = bench.apply(case, exclude=layers)
    path = tmp_path / "optimised.onnx"
    options = runtime.ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    runtime.ort.InferenceSession(made.model.serialized, options, providers=["CPUExecutionProvider"])
    left = [node.op_type for node in onnx.load(path).graph.node]
    assert "Cast" not in left
    assert len(made.model.serialized) < 0.6 * case.model.ByteSize()


def test_auto_quantizes_all_or_nothing_of_a_model_that_is_too_short_for_profiles(bench: Bench) -> None:
    made = bench.apply(residual(), keep="auto")
    speeds, everything = made.details["speeds"], bench.apply(residual()).details["quantized"]
    assert "split" not in speeds
    pays = "none" not in speeds or speeds["all"] > exclusion.LEAST_GAIN * speeds["none"]
    assert made.details["quantized"] == (everything if pays else [])


def test_auto_keeps_in_floats_what_integers_slow_down(bench: Bench) -> None:
    made = bench.apply(mobile(side=112), keep="auto")
    speeds = made.details["speeds"]
    assert "all" in speeds
    replayed = bench.apply(mobile(side=112), exclude=made.details["kept_float"])
    assert replayed.model.serialized == made.model.serialized


def test_one_sample_is_enough(bench: Bench) -> None:
    case = residual()
    single = {
        "calibration/image": case.arrays["calibration/image"][:1],
        "test/image": case.arrays["test/image"],
    }
    assert bench.sqnr(case, bench.apply(Case(case.model, single))) > 10


def test_a_fixed_batch_is_filled(bench: Bench) -> None:
    case = residual()
    for value in (*case.model.graph.input, *case.model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 16
    made = bench.apply(case)
    assert made.model.inputs[0].shape[0] == 16


def test_the_dead_weights_of_a_broken_model_are_named(bench: Bench) -> None:
    case = residual()
    weight = next(t for t in case.model.graph.initializer if t.name == "pointwise.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(CompressionError, match=r"E_NUMERIC.*pointwise\.weight"):
        bench.apply(case)


def test_infinite_activations_are_told(bench: Bench) -> None:
    b = Builder()
    hot = b.node("Exp", [b.node("Conv", ["image", b.weight("w", 4, 1, 3, 3, scale=1e4)], "hot")], "exp")
    b.node("Conv", [hot, b.weight("v", 2, 4, 3, 3)], "out")
    image = helper.make_tensor_value_info("image", F, ["batch", 1, 12, 12])
    model = b.model([image], [helper.make_tensor_value_info("out", F, ["batch", 2, 8, 8])])
    with pytest.raises(CompressionError, match="E_NUMERIC"):
        bench.apply(Case(model, residual().arrays))


def test_integer_inputs_and_what_cannot_be_quantized(bench: Bench) -> None:
    b = Builder()
    b.node("MatMul", [b.node("Cast", ["image"], "floats", to=F), b.weight("w", 12, 6)], "out")
    image = helper.make_tensor_value_info("image", TensorProto.INT64, ["batch", 1, 12, 12])
    model = b.model([image], [helper.make_tensor_value_info("out", F, ["batch", 1, 12, 6])])
    made = bench.apply(Case(model, residual().arrays))
    assert made.details["quantized"] == ["out_node"]
    bare = Builder()
    bare.node("Relu", ["image"], "out")
    image = helper.make_tensor_value_info("image", F, ["batch", 1, 12, 12])
    model = bare.model([image], [helper.make_tensor_value_info("out", F, ["batch", 1, 12, 12])])
    with pytest.raises(CompressionError, match="nothing_to_quantize"):
        bench.apply(Case(model, residual().arrays))


def test_a_quantized_model_is_refused(bench: Bench) -> None:
    made = bench.apply(residual())
    assert StaticQuantization().check(made.model.inspect()) == StaticQuantization.refuses[Trait.QUANTIZED]
