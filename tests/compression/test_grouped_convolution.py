"""Grouped rewriting as a step: groups that are chosen, mixed, repeated, and quantized afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.inspection import Trait
from compression.model import Model
from compression.technique import Applied, Context, Need
from compression.techniques.depthwise_separable import DepthwiseSeparable
from compression.techniques.grouped_convolution import GroupedConvolution
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.conftest import EXAMPLES, Pack
from tests.compression.networks import lstm
from tests.compression.test_depthwise_separable import convolutions, distance, small


@pytest.fixture
def noise(pack: Pack, tmp_path: Path) -> Context:
    x = np.random.default_rng(0).standard_normal((96, 3, 8, 8)).astype(np.float32)
    return Context(Dataset.open(pack({"calibration/x": x})), 0, tmp_path)


def rewritten(model: Model, context: Context, **fields: Any) -> Applied:
    fields = {"training": None, "samples": 64, "faster": False, **fields}
    step = GroupedConvolution.model_validate({"technique": "grouped_convolution", **fields})
    return step.apply(model, context)


def test_groups_are_mixed_and_counted(noise: Context) -> None:
    source = small()
    model, details = rewritten(source, noise, ratio=0.4, group_channels=[8])
    groups = convolutions(model)
    for weight, layer in details["layers"].items():
        assert layer["groups"] == groups[f"{weight}_grouped"] == 4
        assert groups[f"{weight}_pointwise"] == 1
    assert details["macs"]["after"] <= 0.6 * details["macs"]["before"]
    assert (model.inputs, model.outputs) == (source.inputs, source.outputs)


def test_larger_groups_lose_less_and_all_lose_less_than_depthwise(noise: Context) -> None:
    errors = [
        rewritten(small(), noise, layers={"wide": channels}).details["layers"]["wide"]["error"]
        for channels in (4, 8, 16)
    ]
    single = DepthwiseSeparable.model_validate({"layers": {"wide": 1}, "training": None})
    errors.insert(0, single.apply(small(), noise).details["layers"]["wide"]["error"])
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


def test_each_layer_takes_the_groups_that_are_worth_it(noise: Context) -> None:
    details = rewritten(small(), noise, ratio=0.45, group_channels=[4, 16]).details
    fixed = rewritten(small(), noise, ratio=0.45, group_channels=[4]).details
    assert {layer["channels"] for layer in details["layers"].values()} != {4}
    lost = [sum(layer["error"] for layer in found["layers"].values()) for found in (fixed, details)]
    assert lost[1] < lost[0]


def test_a_choice_is_repeated_from_its_details(noise: Context) -> None:
    first = rewritten(small(), noise, ratio=0.4, group_channels=[4, 8])
    layers = {name: layer["channels"] for name, layer in first.details["layers"].items()}
    assert rewritten(small(), noise, layers=layers).model.serialized == first.model.serialized
    with pytest.raises(CompressionError, match="unknown_layer"):
        rewritten(small(), noise, layers={"wide": 7})  # does not divide 32 channels


def test_quantization_follows(noise: Context) -> None:
    source = rewritten(small(), noise, ratio=0.4, group_channels=[8]).model
    quantized = StaticQuantization(keep="none").apply(source, noise).model
    assert distance(source, quantized, noise) < 0.1 * distance(source, Model(zeroed(source)), noise)


def zeroed(model: Model) -> onnx.ModelProto:
    """The network whose outputs are all 0."""
    proto = model.copy()
    for tensor in proto.graph.initializer:
        if tensor.name == "head":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), "head"))
    return proto


def test_refusals(noise: Context) -> None:
    assert "dense" in str(GroupedConvolution().check(Model(lstm()).inspect()))
    with pytest.raises(CompressionError) as caught:
        rewritten(small(), noise, group_channels=[32])  # one group is no group
    assert caught.value.code == "nothing_to_rewrite"
    inspection = small().inspect()
    assert GroupedConvolution().check(inspection) is None
    for trait in (Trait.QUANTIZED, Trait.HALF_PRECISION):
        refused = GroupedConvolution().check(inspection.model_copy(update={"traits": frozenset({trait})}))
        assert "original" in str(refused)
    assert GroupedConvolution().required() == {Need.CALIBRATION}


def test_what_can_be_done_is_told_and_proposed(noise: Context) -> None:
    example = Model(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"))
    found = GroupedConvolution.examine(example)
    assert 0.4 < found["macs_saving"] < DepthwiseSeparable.examine(example)["macs_saving"]
    inspection = example.inspect().model_copy(update={"abilities": {"grouped_convolution": dict(found)}})
    assert noise.data is not None
    (proposal,) = GroupedConvolution.proposals(inspection, noise.data.inspection)
    assert isinstance(proposal.step, GroupedConvolution)
    assert proposal.step.ratio < found["macs_saving"]
