"""Depthwise-separable rewriting as a step: budgets, replay, recovery, refusals, quantization afterwards."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.graph import walk
from compression.inspection import Trait
from compression.model import Model
from compression.samples import difference
from compression.technique import Applied, Context, Need
from compression.techniques.depthwise_separable import DepthwiseSeparable
from compression.techniques.quantization_aware_training import QuantizationAwareTraining
from compression.techniques.static_quantization import StaticQuantization
from compression.training.checkpoint import Checkpoint
from tests.compression.channel_networks import Net
from tests.compression.conftest import EXAMPLES, Pack
from tests.compression.networks import lstm
from tests.compression.test_channel_pruning import accuracy


@pytest.fixture(scope="module")
def example() -> Model:
    return Model(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"))


@pytest.fixture
def context(pack: Pack, tmp_path: Path) -> Context:
    few = {"calibration": 96, "test": 300}
    with np.load(EXAMPLES / "fashion_mnist.npz") as whole:
        arrays = {n: whole[n][: few[n.split("/")[0]]] for n in whole.files if n[:5] != "train"}
    return Context(Dataset.open(pack(arrays)), 0, tmp_path)


def small(**attributes: object) -> Model:
    """Two dense convolutions behind the first, x [n, 3, 12, 12]; `attributes` are those of the second."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 32))
    x = b.op("Relu", b.conv(x, 32, 32))
    wide = b.weight("wide", 48, 32, 3, 3)
    x = b.op("Relu", b.op("Conv", x, wide, **{"kernel_shape": [3, 3], **attributes}))
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    b.node("MatMul", [x, b.weight("head", 48, 5, scale=0.3)], "y")
    return Model(b.done())


@pytest.fixture
def noise(pack: Pack, tmp_path: Path) -> Context:
    x = np.random.default_rng(0).standard_normal((96, 3, 8, 8)).astype(np.float32)
    return Context(Dataset.open(pack({"calibration/x": x})), 0, tmp_path)


def rewritten(model: Model, context: Context, **fields: Any) -> Applied:
    fields = {"training": None, "samples": 64, **fields}
    step = DepthwiseSeparable.model_validate({"technique": "depthwise_separable", **fields})
    return step.apply(model, context)


def convolutions(model: Model) -> dict[str, int]:
    """Groups of each Conv, by its weight."""
    found = [node for node in model.proto.graph.node if node.op_type == "Conv"]
    return {node.input[1]: int(str(walk.attribute(node, "group", 1))) for node in found}


def test_half_of_the_macs_without_training(example: Model, context: Context) -> None:
    model, details = rewritten(example, context)
    before, after = details["macs"].values()
    assert (before, after) == (example.inspect().macs, model.inspect().macs)
    assert 0.4 < after / before <= 0.5
    assert details["params"] == {"before": example.inspect().params, "after": model.inspect().params}
    assert accuracy(model, context) > accuracy(example, context) - 0.05
    assert json.loads(json.dumps(details)) == details
    assert (model.inputs, model.outputs) == (example.inputs, example.outputs)
    groups = convolutions(model)
    for weight, layer in details["layers"].items():
        assert groups[f"{weight}_depthwise"] == layer["groups"]
        assert groups[f"{weight}_pointwise"] == 1
    assert set(details["dense"]) <= groups.keys()


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 2, 1, 0], "strides": [2, 1]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {},
    ],
)
def test_a_convolution_that_is_separable_already_stays_the_same(
    attributes: dict[str, Any], noise: Context
) -> None:
    source = small(**attributes)
    proto = source.copy()
    random = np.random.default_rng(1)
    kernels, mixing = random.standard_normal((32, 3, 3)), 0.1 * random.standard_normal((48, 32))
    for tensor in proto.graph.initializer:
        if tensor.name == "wide":
            values = (mixing[:, :, None, None] * kernels).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "wide"))
    source = Model(proto)
    model, details = rewritten(source, noise, layers={"wide": 1})
    assert details["layers"]["wide"]["error"] < 1e-6
    assert noise.data is not None
    assert difference(source, model, noise.data.splits["calibration"], 64) < 1e-3


def test_more_kernels_lose_less(noise: Context) -> None:
    errors = []
    for multiplier in (1, 2, 3):
        model, details = rewritten(small(), noise, layers={"wide": multiplier})
        errors.append(details["layers"]["wide"]["error"])
        groups = [count for name, count in convolutions(model).items() if "depthwise" in name]
        assert groups == [32] * multiplier  # side by side: runtimes have fast kernels for no other kind
        assert details["macs"]["after"] == model.inspect().macs or model.inspect().macs is None
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.5 * errors[0]


def test_multipliers_are_shared_out_by_what_they_save(noise: Context) -> None:
    fields = {"ratio": 0.6, "faster": False}
    one = rewritten(small(), noise, **fields).details
    several = rewritten(small(), noise, max_multiplier=3, **fields).details
    assert several["macs"]["after"] <= 0.4 * several["macs"]["before"]
    assert {layer["rank"] for layer in several["layers"].values()} != {1}
    lost = [sum(layer["error"] for layer in found["layers"].values()) for found in (one, several)]
    assert lost[1] < lost[0]


def test_a_choice_is_repeated_from_its_details(noise: Context) -> None:
    first = rewritten(small(), noise, ratio=0.3)
    layers = {name: layer["rank"] for name, layer in first.details["layers"].items()}
    again = rewritten(small(), noise, layers=layers)
    assert again.model.serialized == first.model.serialized
    with pytest.raises(CompressionError, match="unknown_layer"):
        rewritten(small(), noise, layers={"head": 1})


def test_what_is_excluded_stays(noise: Context) -> None:
    details = rewritten(small(), noise, ratio=0.2, exclude=["wide"], faster=False).details
    assert "wide" not in details["layers"]
    assert len(details["layers"]) == 1


def test_what_cannot_be_reached_says_how_far_it_gets(noise: Context) -> None:
    with pytest.raises(CompressionError) as caught:
        rewritten(small(), noise, ratio=0.97, faster=False)
    assert caught.value.code == "target_unreachable"
    patch = caught.value.suggestions[0].patch
    assert patch is not None
    details = rewritten(small(), noise, **patch, faster=False).details
    assert details["macs"]["after"] <= (1 - patch["ratio"]) * details["macs"]["before"]


def test_recovery_trains_without_labels_and_is_folded(noise: Context) -> None:
    source = small()
    raw = rewritten(source, noise, ratio=0.6, faster=False).model
    training = {"epochs": 12, "batch_size": 16, "validation": 0, "learning_rate": 0.01, "batchnorm": "train"}
    model, details = rewritten(source, noise, ratio=0.6, faster=False, training=training)
    assert details["recovery"]["objective"] == "distillation"
    assert "BatchNormalization" not in model.inspect().operators
    assert convolutions(model) == convolutions(raw)
    assert distance(source, model, noise) < 0.8 * distance(source, raw, noise)


def distance(one: Model, other: Model, context: Context) -> float:
    """Root mean square of what outputs differ by, on calibration samples."""
    assert context.data is not None
    feeds = {"x": context.data.splits["calibration"].arrays["x"]}
    first, second = (runtime.run(runtime.session(model.proto), feeds)["y"] for model in (one, other))
    return float(np.sqrt(np.mean((first - second) ** 2)))


class _Killed(Exception):
    pass


def test_goes_on_from_a_checkpoint(noise: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"epochs": 3, "batch_size": 16, "validation": 0, "precision": "float32"}
    expected = rewritten(small(), noise, training=training)
    monkeypatch.setattr("compression.training.loop.EPOCH_SECONDS", 0.0)
    left, write = tmp_path / "checkpoint", Checkpoint.write

    def killing(checkpoint: Checkpoint, path: Path) -> None:
        write(checkpoint, path)
        if checkpoint.progress["step"] > 0:
            raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", killing)
        with pytest.raises(_Killed):
            rewritten(small(), replace(noise, checkpoint=left), training=training)
    resumed = rewritten(small(), replace(noise, resume=left, checkpoint=left), training=training)
    assert resumed.model.serialized == expected.model.serialized


@pytest.mark.parametrize("technique", [StaticQuantization, QuantizationAwareTraining])
def test_is_followed_by_quantization(technique: Any, noise: Context) -> None:
    source = rewritten(small(), noise, ratio=0.3).model
    fields: dict[str, Any] = {"keep": "none"}
    if technique is not StaticQuantization:
        fields["training"] = {"epochs": 1}
    quantized = technique.model_validate(fields).apply(source, noise).model
    feeds = {"x": np.random.default_rng(2).standard_normal((32, 3, 8, 8)).astype(np.float32)}
    one, other = (runtime.run(runtime.session(model.proto), feeds)["y"] for model in (source, quantized))
    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one)
    scales = {tensor.name: tensor.dims for tensor in quantized.proto.graph.initializer}
    assert any(list(dims) == [32] for name, dims in scales.items() if "depthwise" in name and "scale" in name)


def test_networks_without_dense_convolutions_are_refused(noise: Context, tmp_path: Path) -> None:
    assert "dense" in str(DepthwiseSeparable().check(Model(lstm()).inspect()))
    light = rewritten(small(), noise, ratio=0.3, faster=False).model
    for _ in range(2):
        layers = DepthwiseSeparable.examine(light)["layers"]
        light = light if not layers else rewritten(light, noise, ratio=0.05).model
    with pytest.raises(CompressionError) as caught:
        rewritten(light, noise)
    assert caught.value.code == "nothing_to_rewrite"
    assert "dense" in caught.value.detail
    seen = light.inspect().model_copy(
        update={"abilities": {"depthwise_separable": dict(DepthwiseSeparable.examine(light))}}
    )
    assert "dense" in str(DepthwiseSeparable().check(seen))
    assert DepthwiseSeparable(faster=False).check(seen) is None


@pytest.mark.parametrize("trait", [Trait.QUANTIZED, Trait.HALF_PRECISION])
def test_floats_only(trait: Trait, example: Model) -> None:
    inspection = example.inspect()
    assert DepthwiseSeparable().check(inspection) is None
    assert "original" in str(
        DepthwiseSeparable().check(inspection.model_copy(update={"traits": frozenset({trait})}))
    )


def test_what_can_be_done_is_told_and_proposed(example: Model, context: Context) -> None:
    found = DepthwiseSeparable.examine(example)
    assert found["layers"] == 12
    assert 0.98 < found["macs_share"] <= 1
    inspection = example.inspect().model_copy(update={"abilities": {"depthwise_separable": dict(found)}})
    assert context.data is not None
    proposals = list(DepthwiseSeparable.proposals(inspection, context.data.inspection))
    assert len(proposals) == 2
    for proposal in proposals:
        assert isinstance(proposal.step, DepthwiseSeparable)
        assert proposal.step.ratio < found["macs_saving"]
        assert proposal.faster > 1.5
    assert not list(DepthwiseSeparable.proposals(inspection, None))


def test_what_can_be_done_is_told_of_open_sizes_too() -> None:
    proto = small(pads=[1, 1, 1, 1]).copy()
    for axis in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "size"
    found = DepthwiseSeparable.examine(Model(proto))
    assert found["layers"] == 2
    assert 0.5 < found["macs_saving"] < found["macs_share"] < 1


def test_needs() -> None:
    assert DepthwiseSeparable().required() == {Need.CALIBRATION}
    by_labels = DepthwiseSeparable.model_validate({"training": {"loss": "labels"}})
    assert by_labels.required() == {Need.CALIBRATION, Need.LABELS}
