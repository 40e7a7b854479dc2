"""Layer dropping as a step: which blocks go, that nothing but them goes, replay, recovery, quantization."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compression import runtime
from compression.dataset import Dataset
from compression.dropping import outputs, parts
from compression.errors import CompressionError
from compression.graph.channels import recording
from compression.inspection import DatasetInspection, Trait
from compression.model import Model
from compression.technique import Applied, Context, Need
from compression.techniques.layer_dropping import LayerDropping
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.channel_networks import CHANNEL_NETWORKS, Net
from tests.compression.conftest import EXAMPLES, Pack
from tests.compression.networks import lstm

WIDTH, LENGTH = 16, 6


class Encoder(Net):
    """Layers of one attention head and a feed-forward part of twice the width; norms before or after."""

    def attention(self, x: str) -> str:
        q, k, v = (self.linear(x, WIDTH, WIDTH) for _ in range(3))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 2, 1]))
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        return self.linear(mixed, WIDTH, WIDTH)

    def wide(self, x: str) -> str:
        return self.linear(self.op("Relu", self.linear(x, WIDTH, 2 * WIDTH)), 2 * WIDTH, WIDTH)

    def norm(self, x: str) -> str:
        scale = self.constant(f"scale{len(self.weights)}", np.ones(WIDTH, np.float32))
        return self.op(
            "LayerNormalization", x, scale, self.weight(f"shift{len(self.weights)}", WIDTH, scale=0.1)
        )

    def block(self, x: str, name: str, *, before: bool) -> str:
        kind = self.attention if name.startswith("attention") else self.wide
        if before:
            return self.node("Add", [x, kind(self.norm(x))], name)
        return self.norm(self.node("Add", [kind(x), x], name))


def encoder(layers: int = 3, *, before: bool = False) -> Model:
    b = Encoder(3)
    x = b.norm(b.linear("x", WIDTH, WIDTH))
    for number in range(layers):
        x = b.block(x, f"attention{number}", before=before)
        x = b.block(x, f"wide{number}", before=before)
    b.node("MatMul", [x, b.weight("head", WIDTH, 5)], "y")
    return Model(b.done(("batch", LENGTH, WIDTH), 3))


@pytest.fixture(scope="module")
def example() -> Model:
    return Model(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"))


@pytest.fixture
def pictures(pack: Pack, tmp_path: Path) -> Context:
    with np.load(EXAMPLES / "fashion_mnist.npz") as whole:
        arrays = {f"calibration/{n}": whole[f"calibration/{n}"][:64] for n in ("image", "label")}
    return Context(Dataset.open(pack(arrays)), 0, tmp_path)


@pytest.fixture
def rows(pack: Pack, tmp_path: Path) -> Context:
    x = np.random.default_rng(0).standard_normal((48, LENGTH, WIDTH)).astype(np.float32)
    return Context(Dataset.open(pack({"calibration/x": x})), 0, tmp_path)


def dropped(model: Model, context: Context, **fields: Any) -> Applied:
    step = LayerDropping.model_validate({"technique": "layer_dropping", "training": None, **fields})
    return step.apply(model, context)


def silenced(model: Model, blocks: list[str], feeds: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with the branches of these blocks multiplied by zero."""
    proto = model.copy()
    shapes = recording.shapes(recording.hoisted(model.proto), feeds)
    skips = {p.name: p.source for p in parts.find(recording.hoisted(model.proto).graph, shapes, "block")}
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(0), "silence"))
    nodes = []
    for node in proto.graph.node:
        if node.output[0] in blocks:
            slot = 1 - list(node.input).index(skips[node.output[0]])
            muted = f"{node.output[0]}_muted"
            nodes.append(helper.make_node("Mul", [node.input[slot], "silence"], [muted]))
            node.input[slot] = muted
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return proto


def assert_silenced(source: Model, made: Model, details: Any, context: Context) -> None:
    assert context.data is not None
    feeds = next(context.data.splits["calibration"].batches(source.inputs, 8))
    one = {name: value[:1] for name, value in feeds.items()}
    expected = runtime.run(runtime.session(silenced(source, details["dropped"], one)), feeds)
    given = runtime.run(runtime.session(made.proto), feeds)
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, atol=1e-4)


@pytest.mark.parametrize("fields", [{"ratio": 0.25}, {"count": 3}, {"ratio": 0.3, "criterion": "influence"}])
def test_a_residual_network_without_some_blocks(fields: Any, example: Model, pictures: Context) -> None:
    made, details = dropped(example, pictures, **fields)
    assert_silenced(example, made, details, pictures)
    assert 0 < len(details["dropped"]) <= 3
    assert details["macs"] == {"before": example.inspect().macs, "after": made.inspect().macs}
    assert details["params"] == {"before": example.inspect().params, "after": made.inspect().params}
    saved = 1 - details["macs"]["after"] / details["macs"]["before"]
    assert saved >= fields.get("ratio", 0.5)
    assert json.loads(json.dumps(details)) == details


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("unit", ["block", "layer"])
def test_an_encoder_without_some_layers(unit: str, before: bool, rows: Context) -> None:
    source = encoder(before=before)
    made, details = dropped(source, rows, unit=unit, count=2)
    assert_silenced(source, made, details, rows)
    blocks = details["dropped"]
    assert len(blocks) == (2 if unit == "block" else 4)
    if unit == "layer":
        numbers = [block[-1] for block in blocks]
        assert [block[:-1] for block in blocks] == ["wide", "attention"] * 2
        assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
    onnx.checker.check_model(made.proto, full_check=True)


def test_what_is_missed_least_goes_first(rows: Context) -> None:
    """A block that adds next to nothing; by either criterion."""
    source = encoder(before=True)
    branch = next(node for node in source.proto.graph.node if node.output[0] == "attention1")
    bias = next(node for node in source.proto.graph.node if node.output[0] == branch.input[1])
    product = next(node for node in source.proto.graph.node if node.output[0] == bias.input[0])
    for tensor in source.proto.graph.initializer:
        if tensor.name in {product.input[1], bias.input[1]}:
            tensor.CopyFrom(numpy_helper.from_array(1e-3 * numpy_helper.to_array(tensor), tensor.name))
    for criterion in ("outputs", "influence"):
        details = dropped(source, rows, count=1, criterion=criterion).details
        assert details["dropped"] == ["attention1"]
        assert details["steps"][0]["criterion"] < 1e-4


def test_outputs_are_watched_again_after_each_block(rows: Context) -> None:
    """The second to go is the least missed of those that are left, not of all."""
    source = encoder()
    first, both = (dropped(source, rows, count=count) for count in (1, 2))
    assert both.details["dropped"][0] == first.details["dropped"][0]
    again = dropped(source, rows, dropped=both.details["dropped"])
    assert rows.data is not None
    split = rows.data.splits["calibration"]
    judge = outputs.Outputs(source.proto, source.inputs, split, 48, 1)
    distances = [judge.distance(one.model.proto) for one in (first, both)]
    told = [step["criterion"] for step in both.details["steps"]]
    np.testing.assert_allclose(told, distances, rtol=1e-5)
    assert again.model.serialized == both.model.serialized


def test_what_is_to_stay_stays(rows: Context) -> None:
    source = encoder()
    ends = dropped(source, rows, unit="layer", count=1, keep_first=1, keep_last=1).details
    assert ends["dropped"] == ["wide1", "attention1"]
    fields = {"count": 1, "exclude": ["attention0", "attention2", "wide0", "wide1", "wide2"]}
    assert dropped(source, rows, **fields).details["dropped"] == ["attention1"]
    weight = next(node.input[1] for node in source.proto.graph.node if node.op_type == "MatMul")
    assert dropped(source, rows, count=6, exclude=[weight]).details["macs"]["after"] > 0


def test_time_as_the_target(example: Model, pictures: Context) -> None:
    made, details = dropped(example, pictures, target="latency", ratio=0.1, samples=16)
    assert details["dropped"]
    assert made.inspect().macs == details["macs"]["after"]


def test_errors_say_how_far_it_gets(rows: Context, pictures: Context, example: Model) -> None:
    with pytest.raises(CompressionError) as caught:
        dropped(encoder(), rows, count=7)
    assert caught.value.code == "target_unreachable"
    assert caught.value.suggestions[0].patch == {"count": 6}
    with pytest.raises(CompressionError) as caught:
        dropped(example, pictures, ratio=0.9, samples=16)
    assert caught.value.code == "target_unreachable"
    patch = caught.value.suggestions[0].patch
    assert patch is not None
    assert len(dropped(example, pictures, samples=16, **patch).details["dropped"]) == 4
    with pytest.raises(CompressionError, match="nothing_to_drop"):
        dropped(encoder(), rows, keep_first=3, keep_last=3)
    with pytest.raises(CompressionError, match="unknown_block"):
        dropped(encoder(), rows, dropped=["nobody"])


def test_a_network_without_skips_has_nothing_to_drop(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="nothing_to_drop"):
        dropped(Model(CHANNEL_NETWORKS["dense_block"]()), Context(None, 0, tmp_path))


def test_recovery_is_taught_by_the_original(rows: Context) -> None:
    recovery = {"epochs": 6, "batch_size": 16, "loss": "distillation", "validation": 0}
    source = encoder()
    plain = dropped(source, rows, count=2)
    made, details = dropped(source, rows, count=2, training=recovery)
    assert details["recovery"]["steps"] == 18
    assert details["dropped"] == plain.details["dropped"]
    assert rows.data is not None
    judge = outputs.Outputs(source.proto, source.inputs, rows.data.splits["calibration"], 48, 1)
    assert judge.distance(made.proto) < judge.distance(plain.model.proto)


def test_an_interrupted_run_goes_on_without_the_same_blocks(rows: Context, tmp_path: Path) -> None:
    """Even where others would be chosen now."""
    training = {"epochs": 2, "batch_size": 16, "loss": "distillation"}
    whole = replace(rows, checkpoint=tmp_path / "checkpoint")
    first = dropped(encoder(), whole, count=2, training=training)
    resumed = replace(rows, resume=whole.checkpoint)
    again = dropped(encoder(), resumed, count=4, training=training)
    assert again.model.serialized == first.model.serialized
    assert again.details["dropped"] == first.details["dropped"]


def test_large_outputs_are_watched_on_fewer_samples(rows: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows.data is not None
    source = encoder()
    monkeypatch.setattr(outputs, "MOST_BYTES", 5 * LENGTH * 5 * 4)
    judge = outputs.Outputs(source.proto, source.inputs, rows.data.splits["calibration"], 48, 1)
    assert sum(len(part["y"]) for part in judge._reference) == 5
    assert judge.distance(source.proto) == pytest.approx(0, abs=1e-12)


def test_quantized_afterwards(example: Model, pictures: Context) -> None:
    made, _ = dropped(example, pictures, count=1, samples=16)
    quantized, _ = StaticQuantization(samples=16, keep="none").apply(made, pictures)
    assert Trait.QUANTIZED in quantized.inspect().traits
    assert pictures.data is not None
    judge = outputs.Outputs(made.proto, made.inputs, pictures.data.splits["calibration"], 64, 1)
    assert judge.distance(quantized.proto) < 0.02


@pytest.mark.parametrize(("trait", "word"), [(Trait.QUANTIZED, "quantized"), (Trait.HALF_PRECISION, "half")])
def test_refusals(example: Model, trait: Trait, word: str) -> None:
    step = LayerDropping()
    assert step.check(example.inspect()) is None
    assert word in str(step.check(example.inspect().model_copy(update={"traits": frozenset({trait})})))
    assert "residual blocks" in str(step.check(Model(lstm()).inspect()))


def test_labels_are_asked_for_only_where_they_are_used() -> None:
    assert LayerDropping(training=None).required() == {Need.CALIBRATION}
    by_labels = LayerDropping.model_validate({"training": {"loss": "labels"}})
    assert by_labels.required() == {Need.CALIBRATION, Need.LABELS}


def test_examining_and_proposing(example: Model) -> None:
    found = LayerDropping.examine(example)
    assert found["blocks"] == ["add_40", "add_76", "add_158", "add_240"]
    assert 0.5 < found["params_share"] < 0.7
    found = LayerDropping.examine(encoder())
    assert (len(found["blocks"]), found["layers"]) == (6, 3)
    looked = example.inspect().model_copy(
        update={"abilities": {"layer_dropping": dict(LayerDropping.examine(example))}}
    )
    data = DatasetInspection(format="npz", arrays=(), splits={"calibration": 8}, labelled=False, bytes=1)
    mild, strong = LayerDropping.proposals(looked, data)
    assert 1 < mild.smaller < strong.smaller
    assert not list(LayerDropping.proposals(example.inspect(), data))
    assert LayerDropping.examine(Model(lstm())) == {"blocks": [], "layers": 0, "params_share": 0.0}


@pytest.mark.parametrize(
    "fields",
    [
        {"ratio": 0},
        {"count": 0},
        {"unit": "stage"},
        {"criterion": "l1"},
        {"keep_first": -1},
        {"dropped": []},
        {"dropped": ["a"], "count": 1},
        {"samples": 0},
        {"depth": 4},
    ],
)
def test_bad_parameters(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        LayerDropping.model_validate(fields)
