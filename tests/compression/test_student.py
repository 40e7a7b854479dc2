"""Students: what is left of a model, what takes its place, and what hidden tensors of two networks share."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression import runtime
from compression.errors import CompressionError
from compression.graph import hints, student
from compression.inspection import TensorSpec
from compression.interchange import misfit
from compression.model import Model
from compression.samples import first, made_up
from tests.compression.channel_networks import CHANNEL_NETWORKS, Net
from tests.compression.conftest import EXAMPLES
from tests.compression.networks import F, cnn, lstm, transformer


def samples(model: onnx.ModelProto, count: int = 1) -> list[dict[str, np.ndarray]]:
    opened = Model(model)
    return list(first(made_up(opened, 0).split, opened.inputs, count))


def outputs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return runtime.run(runtime.session(model), feeds)


def residual(strengths: tuple[float, ...]) -> onnx.ModelProto:
    """A block for each strength: x + strength * f(x)."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 16))
    for strength in strengths:
        branch = b.conv(b.op("Relu", b.conv(x, 16, 16)), 16, 16, bias=False)
        weight = next(tensor for tensor in b.weights if tensor.name == f"{branch}.weight")
        weight.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(strength), weight.name)
        )
        x = b.op("Add", branch, x)
    b.classes(x, 16)
    return b.done()


@pytest.mark.parametrize("network", CHANNEL_NETWORKS)
def test_every_group_is_narrowed_alike(network: str) -> None:
    model = CHANNEL_NETWORKS[network]()
    (feeds,) = samples(model)
    small, kept = student.narrow(model, feeds, 0.5)
    onnx.checker.check_model(small, full_check=True)
    before, after = Model(model), Model(small)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert after.inspect().params < 0.8 * before.inspect().params
    assert all(len(units) >= 1 for units in kept.values())
    assert {name: value.shape for name, value in outputs(small, feeds).items()} == {
        name: value.shape for name, value in outputs(model, feeds).items()
    }


def test_many_channels_are_kept_in_eights_and_few_as_they_are() -> None:
    (feeds,) = samples(transformer())
    _, kept = student.narrow(transformer(), feeds, 0.4)
    assert {name: len(units) for name, units in kept.items()} == {"query.weight": 2, "ffn.weight": 24}
    _, kept = student.narrow(transformer(), feeds, 0.1)
    assert {name: len(units) for name, units in kept.items()} == {"query.weight": 1, "ffn.weight": 6}


def test_the_largest_weights_are_inherited() -> None:
    model = cnn()
    large = [1, 4, 9, 16, 25, 30, 31, 2]
    stem = next(tensor for tensor in model.graph.initializer if tensor.name == "stem.weight")
    values = numpy_helper.to_array(stem).copy()
    values[large] *= 100
    stem.CopyFrom(numpy_helper.from_array(values, stem.name))
    small, kept = student.narrow(model, samples(model)[0], 0.25)
    assert kept == {"stem.weight": sorted(large)}
    (cut,) = (tensor for tensor in small.graph.initializer if tensor.name == "stem.weight")
    np.testing.assert_array_equal(numpy_helper.to_array(cut), values[sorted(large)])


def test_blocks_that_change_least_are_left_out() -> None:
    model = residual((1.0, 1e-3, 0.3, 2e-3))
    some = samples(model, 4)
    small, dropped = student.shallow(model, some, 0.5)
    adds = [node.output[0] for node in model.graph.node if node.op_type == "Add"]
    assert dropped == [adds[1], adds[3]]
    np.testing.assert_allclose(
        outputs(small, some[0])["y"], outputs(model, some[0])["y"], rtol=0.05, atol=0.02
    )
    assert sum(node.op_type == "Conv" for node in small.graph.node) == 5


def test_the_example_at_an_eighth_of_its_multiplications() -> None:
    model = onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx")
    small, details = student.derive(model, samples(model, 2), 0.5, 0.25)
    assert len(details["dropped"]) == 3
    assert 7.5 < (Model(model).inspect().macs or 0) / (Model(small).inspect().macs or 1) < 9


@pytest.mark.parametrize(("width", "depth"), [(0.5, 1.0), (1.0, 0.5), (0.5, 0.5)])
def test_nothing_to_remove(width: float, depth: float) -> None:
    with pytest.raises(CompressionError, match="no_student"):
        student.derive(lstm(), samples(lstm()), width, depth)


def linear(**names: str) -> onnx.ModelProto:
    """Two inputs and two outputs, with other tensors called `first` and `sum`, one of them in a subgraph."""
    names = {"a": "a", "b": "b", "sum": "sum", "picked": "picked"} | names
    a, b = names["a"], names["b"]
    inner = helper.make_graph(
        [helper.make_node("Neg", [a], ["first"])],
        "inner",
        [],
        [helper.make_tensor_value_info("first", F, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", [b], ["absolute"])],
        "other",
        [],
        [helper.make_tensor_value_info("absolute", F, None)],
    )
    nodes = [
        helper.make_node("Add", [a, b], [names["sum"]]),
        helper.make_node("If", ["yes"], [names["picked"]], then_branch=inner, else_branch=other),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(name, F, ["n", 4]) for name in (a, b)],
        [helper.make_tensor_value_info(names[name], F, ["n", 4]) for name in ("sum", "picked")],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"a": "left", "b": "right", "sum": "one", "picked": "two"},
        {"a": "sum", "b": "first_", "sum": "a", "picked": "b"},
        {"a": "first_", "b": "yes_", "sum": "absolute_", "picked": "x"},
    ],
)
def test_a_student_gets_the_names_of_the_model(names: dict[str, str]) -> None:
    model = linear(a="first_", b="yes_", sum="absolute_")
    renamed = student.stand_in(linear(**names), model)
    onnx.checker.check_model(renamed, full_check=True)
    assert (Model(renamed).inputs, Model(renamed).outputs) == (Model(model).inputs, Model(model).outputs)
    feeds = {
        name: np.random.default_rng(0).standard_normal((2, 4), np.float32) for name in ("first_", "yes_")
    }
    for name, value in outputs(model, feeds).items():
        np.testing.assert_array_equal(outputs(renamed, feeds)[name], value)


def test_a_name_that_something_else_has_is_taken_from_it() -> None:
    model = linear(a="first", b="absolute")
    # `first` and `absolute` are tensors inside the student's branches
    renamed = student.stand_in(linear(), rename(model))
    feeds = {name: np.ones((1, 4), np.float32) * at for at, name in enumerate(("first", "absolute"), 1)}
    np.testing.assert_array_equal(outputs(renamed, feeds)["picked"], -np.ones((1, 4), np.float32))


def rename(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the branch whose tensors would have the inputs' names."""
    del model.graph.node[1:]
    model.graph.node.append(helper.make_node("Neg", ["first"], ["picked"]))
    return model


def spec(*shape: int | str | None, name: str = "x", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


class Declared:
    def __init__(self, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ([spec("batch", 3)], [spec("batch", 10, name="y")], None),
        ([spec("n", None, name="image")], [spec(None, None, name="scores")], None),
        (
            [spec(1, 3)],
            [spec(1, 10)],
            "its input 'x' is float32 [1, 3] where the model's 'x' is float32 [batch, 3]",
        ),
        (
            [spec("n", 4)],
            [spec("n", 10)],
            "its input 'x' is float32 [n, 4] where the model's 'x' is float32 [batch, 3]",
        ),
        (
            [spec("n", 3)],
            [spec("n", 7, name="z")],
            "its output 'z' is float32 [n, 7] where the model's 'y' is float32 [batch, 10]",
        ),
        ([spec("n", 3)], [spec("n", 10, 1)], "its output 'x' is float32 [n, 10, 1] where the model's"),
        (
            [spec("n", 3, dtype="float16")],
            [spec("n", 10)],
            "its input 'x' is float16 [n, 3] where the model's",
        ),
        ([spec("n", 3), spec("n", 3, name="w")], [spec("n", 10)], "it has 2 inputs where the model has 1"),
    ],
)
def test_what_cannot_take_the_place(
    inputs: list[TensorSpec], outputs: list[TensorSpec], reason: str | None
) -> None:
    model = Declared([spec("batch", 3)], [spec("batch", 10, name="y")])
    told = misfit(model, Declared(inputs, outputs))
    assert told == reason if reason is None else str(told).startswith(reason)


def test_equal_names_are_paired_whatever_their_order() -> None:
    one = [spec("n", 3, name="a"), spec("n", 4, name="b")]
    assert misfit(Declared(one, []), Declared(one[::-1], [])) is None
    assert misfit(Declared(one, []), Declared([one[1], spec("n", 3, name="c")], [])) is not None


def test_a_misfit_is_refused() -> None:
    with pytest.raises(CompressionError, match=r"student_misfit.*\[batch, 7\].*\[batch, 10\]"):
        student.stand_in(cnn(classes=7), cnn())


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_maps_are_the_energy_of_channels(opset: int) -> None:
    model = cnn(opset)
    (feeds,) = samples(model)
    maps = hints.Maps(model, feeds)
    opened = maps.with_outputs(["stem.relu", "residual"])
    assert Model(opened).outputs[:1] == Model(model).outputs
    hidden = outputs(maps.with_outputs([]), feeds)
    assert list(hidden) == ["logits"]
    values = outputs(opened, feeds)
    stem = runtime.run(_showing(model, "stem.relu"), feeds)["stem.relu"]
    np.testing.assert_allclose(values["hint_0"], np.square(stem).sum(1), rtol=1e-5)
    assert values["hint_1"].shape == (1, 12, 12)
    assert hints.without_outputs(opened, 2).SerializeToString() == model.SerializeToString()


def test_maps_of_half_precision_do_not_overflow() -> None:
    b = Net()
    x = b.op("Mul", b.op("Cast", "x", to=TensorProto.FLOAT16), b.constant("large", np.float16(500)))
    b.classes(b.op("Cast", x, to=TensorProto.FLOAT), 3)
    model = b.done()
    opened = hints.Maps(model, {"x": np.ones((1, 3, 8, 8), np.float32)}).with_outputs([x])
    values = outputs(opened, {"x": np.ones((2, 3, 8, 8), np.float32)})
    np.testing.assert_array_equal(values["hint_0"], np.full((2, 8, 8), 750_000, np.float32))


def _showing(model: onnx.ModelProto, name: str) -> "runtime.ort.InferenceSession":
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return runtime.session(shown)


def test_stages_are_matched_by_the_size_of_their_maps() -> None:
    model = onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx")
    (feeds,) = samples(model)
    feeds = {"image": np.random.default_rng(0).uniform(0, 255, (1, 1, 28, 28)).astype(np.float32)}
    small, _ = student.derive(model, [feeds], 0.5, 0.25)
    found = hints.matching(hints.Maps(model, feeds), hints.Maps(small, feeds))
    assert [hint.teacher for hint in found] == ["relu_4", "relu_8", "relu_12"]
    made = {name for node in small.graph.node for name in node.output}
    assert {hint.student for hint in found} <= made


@pytest.mark.parametrize(
    "hint", [("stem.relu", "features"), ("nothing", "stem.relu"), ("pool", "pool"), ("logits", "logits")]
)
def test_hints_without_a_common_map_are_refused(hint: tuple[str, str]) -> None:
    maps = hints.Maps(cnn(), samples(cnn())[0])
    with pytest.raises(CompressionError, match="unfit_hint"):
        hints.check([hints.Hint(*hint)], maps, maps)
