"""Low-rank factorisation as a step: budgets, limits, replay, recovery, and quantization afterwards."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.factorization import observation
from compression.inspection import DatasetInspection, Trait
from compression.model import Model
from compression.samples import difference
from compression.technique import Applied, Context, Need
from compression.techniques.low_rank import LowRank
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.channel_networks import Net
from tests.compression.conftest import EXAMPLES, Pack
from tests.compression.networks import lstm
from tests.compression.test_channel_pruning import accuracy


@pytest.fixture(scope="module")
def example() -> Model:
    return Model(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"))


@pytest.fixture
def context(pack: Pack, tmp_path: Path) -> Context:
    few = {"calibration": 64, "test": 400}
    with np.load(EXAMPLES / "fashion_mnist.npz") as whole:
        arrays = {n: whole[n][: few[n.split("/")[0]]] for n in whole.files if n[:5] != "train"}
    return Context(Dataset.open(pack(arrays)), 0, tmp_path)


def wide() -> Model:
    """Two dense layers of 128 neurons, the weight of the first of rank 8; and a 3 x 3 convolution."""
    b = Net()
    x = b.op("Relu", b.conv("x", 3, 32))
    x = b.op("Relu", b.conv(x, 32, 32))
    x = b.op("Flatten", b.op("GlobalAveragePool", x))
    low = b.random.standard_normal((32, 8)) @ b.random.standard_normal((8, 1024)) * 0.1
    x = b.op("MatMul", x, b.constant("low", low.astype(np.float32)))
    x = b.op("Relu", b.op("Add", x, b.weight("low.bias", 1024, scale=0.3)))
    x = b.op("MatMul", x, b.weight("full", 1024, 512, scale=0.05))
    b.node("MatMul", [b.op("Relu", x), b.weight("head", 512, 5, scale=0.1)], "y")
    return Model(b.done())


@pytest.fixture
def noise(pack: Pack, tmp_path: Path) -> Context:
    x = np.random.default_rng(0).standard_normal((96, 3, 8, 8)).astype(np.float32)
    return Context(Dataset.open(pack({"calibration/x": x})), 0, tmp_path)


def factorised(model: Model, context: Context, **fields: Any) -> Applied:
    step = LowRank.model_validate({"technique": "low_rank", "training": None, "samples": 64, **fields})
    return step.apply(model, context)


def test_half_of_the_macs_without_training(example: Model, context: Context) -> None:
    model, details = factorised(example, context, ratio=0.5)
    before, after = details["macs"].values()
    assert (before, after) == (example.inspect().macs, model.inspect().macs)
    assert 0.45 < after / before <= 0.5
    assert details["params"] == {"before": example.inspect().params, "after": model.inspect().params}
    assert {layer["method"] for layer in details["layers"].values()} == {"spatial", "tucker"}
    assert accuracy(model, context) > accuracy(example, context) - 0.02
    assert json.loads(json.dumps(details)) == details
    assert (model.inputs, model.outputs) == (example.inputs, example.outputs)


def test_a_layer_of_low_rank_is_found_by_its_energy(noise: Context) -> None:
    source = wide()
    model, details = factorised(
        source, noise, energy=0.999999, round_to=8, methods=["svd"], faster=False, exclude=["full"]
    )
    assert {name: layer["ranks"] for name, layer in details["layers"].items()} == {"low": [8]}
    assert noise.data is not None
    assert difference(source, model, noise.data.splits["calibration"], 64) < 1e-4


def test_layers_too_wide_to_be_looked_at_are_named(noise: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "WIDEST", 1000)
    details = factorised(wide(), noise, ratio=0.01, methods=["svd"], faster=False).details
    assert details["skipped"] == ["full"]
    assert "full" not in details["layers"]


def test_params_as_the_target(noise: Context) -> None:
    model, details = factorised(wide(), noise, ratio=0.5, target="params")
    assert details["params"]["after"] <= 0.5 * details["params"]["before"]
    assert model.inspect().params == details["params"]["after"]


def test_a_choice_is_repeated_from_its_details(noise: Context) -> None:
    first = factorised(wide(), noise, ratio=0.4)
    layers = {
        name: {key: layer[key] for key in ("method", "ranks")}
        for name, layer in first.details["layers"].items()
    }
    again = factorised(wide(), noise, layers=layers)
    assert again.model.serialized == first.model.serialized
    with pytest.raises(CompressionError, match="unfit_form"):
        factorised(wide(), noise, layers={"full": {"method": "spatial", "ranks": [4]}})
    with pytest.raises(CompressionError, match="unknown_layer"):
        factorised(wide(), noise, layers={"nobody": {"method": "svd", "ranks": [1]}})


def test_what_is_excluded_stays(noise: Context) -> None:
    details = factorised(wide(), noise, ratio=0.02, target="params", exclude=["full"], faster=False).details
    assert "low" in details["layers"]
    assert "full" not in details["layers"]


def test_layers_that_would_only_do_less_work_are_left_alone(noise: Context) -> None:
    """`low` is a tenth of the work at rank 8, and no faster for it: too small."""
    patient = factorised(wide(), noise, ratio=0.01, methods=["svd"], faster=False, exclude=["full"]).details
    assert patient["layers"]
    with pytest.raises(CompressionError, match="nothing_to_factorize"):
        factorised(wide(), noise, ratio=0.01, methods=["svd"], exclude=["full"])


def test_what_cannot_be_reached_says_how_far_it_gets(noise: Context) -> None:
    with pytest.raises(CompressionError) as caught:
        factorised(wide(), noise, ratio=0.97)
    assert caught.value.code == "target_unreachable"
    patch = caught.value.suggestions[0].patch
    assert patch is not None
    assert factorised(wide(), noise, **patch).details["layers"]
    with pytest.raises(CompressionError, match="nothing_to_factorize"):
        factorised(wide(), noise, energy=0.9999999, exclude=["low"])


def test_recovery_is_taught_by_the_original(example: Model, context: Context) -> None:
    recovery = {"epochs": 2, "batch_size": 16, "loss": "distillation"}
    model, details = factorised(example, context, ratio=0.7, training=recovery)
    assert details["recovery"]["steps"] == 6
    assert details["macs"]["after"] == model.inspect().macs
    losses = [epoch["loss"] for epoch in details["recovery"]["history"]]
    assert losses[1] < losses[0]


def test_an_interrupted_run_goes_on_with_its_own_forms(noise: Context, tmp_path: Path) -> None:
    """Even where they would be chosen otherwise now."""
    training = {"epochs": 2, "batch_size": 32, "loss": "distillation"}
    whole = replace(noise, checkpoint=tmp_path / "checkpoint")
    first = factorised(wide(), whole, ratio=0.4, training=training)
    resumed = replace(noise, resume=whole.checkpoint)
    again = factorised(wide(), resumed, ratio=0.1, training=training)
    assert again.model.serialized == first.model.serialized
    assert again.details["layers"].keys() == first.details["layers"].keys()


def test_quantized_afterwards(example: Model, context: Context) -> None:
    model, _ = factorised(example, context, ratio=0.4)
    quantized, _ = StaticQuantization(samples=64, keep="none").apply(model, context)
    assert Trait.QUANTIZED in quantized.inspect().traits
    assert accuracy(quantized, context) > accuracy(model, context) - 0.02


@pytest.mark.parametrize(("trait", "word"), [(Trait.QUANTIZED, "quantized"), (Trait.HALF_PRECISION, "half")])
def test_refusals(example: Model, trait: Trait, word: str) -> None:
    step = LowRank()
    assert step.check(example.inspect()) is None
    assert word in str(step.check(example.inspect().model_copy(update={"traits": frozenset({trait})})))
    none = example.inspect().model_copy(update={"operators": {"LSTM": 1}})
    assert "no layer to factorise" in str(step.check(none))


def test_labels_are_asked_for_only_where_they_are_used() -> None:
    assert LowRank(training=None).required() == {Need.CALIBRATION}
    by_labels = LowRank.model_validate({"training": {"loss": "labels"}})
    assert by_labels.required() == {Need.CALIBRATION, Need.LABELS}


def test_examining(example: Model) -> None:
    found = LowRank.examine(example)
    assert found["layers"] == 13
    assert found["macs_share"] > 0.9
    assert found["params_share"] > 0.9
    assert LowRank.examine(Model(lstm()))["layers"] == 0


def test_proposals(example: Model) -> None:
    """Fewer multiply-accumulates each, from what was found in the model; none without data or layers."""
    looked = example.inspect().model_copy(update={"abilities": {"low_rank": dict(LowRank.examine(example))}})
    data = DatasetInspection(format="npz", arrays=(), splits={"calibration": 8}, labelled=False, bytes=1)
    mild, strong = LowRank.proposals(looked, data)
    assert 1 < mild.faster < strong.faster
    assert 1 < mild.smaller < strong.smaller
    assert mild.drop < strong.drop
    assert isinstance(strong.step, LowRank)
    assert 0.5 < strong.step.ratio < 0.9
    assert not list(LowRank.proposals(looked, None))
    assert not list(LowRank.proposals(example.inspect(), data))


@pytest.mark.parametrize(
    "fields",
    [
        {"ratio": 0},
        {"ratio": 1},
        {"energy": 1},
        {"round_to": 0},
        {"methods": []},
        {"methods": ["svd", "cp"]},
        {"layers": {"w": {"method": "svd", "ranks": []}}},
        {"layers": {"w": {"method": "svd", "ranks": [0]}}},
        {"layers": {"w": {"method": "svd", "ranks": [4, 4]}}},
        {"layers": {"w": {"method": "tucker", "ranks": [4]}}},
        {"samples": 0},
        {"rank": 4},
    ],
)
def test_bad_parameters(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        LowRank.model_validate(fields)
