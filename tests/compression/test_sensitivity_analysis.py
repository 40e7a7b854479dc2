import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compression import runtime
from compression.dataset import Dataset, Split
from compression.errors import CompressionError
from compression.graph import channels
from compression.graph.preparation import prepare
from compression.inspection import Trait
from compression.measure.fidelity import Fidelity
from compression.model import Model
from compression.sensitivity import scan, suffixes
from compression.sensitivity.changes import Cuts
from compression.sensitivity.evaluation import Evaluator, thinned
from compression.sensitivity.layers import Layer, find, overridable
from compression.sensitivity.suffixes import Suffixes
from compression.technique import Applied, Context
from compression.techniques.sensitivity_analysis import SensitivityAnalysis
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.conftest import Normalise, Pack, arrays
from tests.compression.encoders import encoder, texts
from tests.compression.networks import cnn

Data = dict[str, np.ndarray]
Analyse = Callable[..., Applied]
CALIBRATION = arrays("cnn")["calibration/image"].astype(np.float32)


@pytest.fixture
def analyse(normalise: Normalise, pack: Pack, tmp_path: Path) -> Analyse:
    def apply(
        model: onnx.ModelProto, data: dict[str, np.ndarray] | None = None, **parameters: Any
    ) -> Applied:
        technique = SensitivityAnalysis.model_validate(parameters)
        source = Model.open(normalise(model))
        made = technique.apply(source, Context(Dataset.open(pack(data or arrays("cnn"))), 0, tmp_path))
        assert made.model is source
        return made

    return apply


def row(made: Applied, layer: str, **setting: Any) -> dict[str, Any]:
    (found,) = [
        one for one in made.details["rows"] if one["layer"] == layer and setting.items() <= one.items()
    ]
    return dict(found)


def sqnr(model: onnx.ModelProto, changed: onnx.ModelProto) -> float:
    fidelity = Fidelity()
    outputs = (runtime.run(runtime.session(one), {"image": CALIBRATION}) for one in (model, changed))
    fidelity.add(*outputs)
    assert fidelity.sqnr_db is not None
    return fidelity.sqnr_db


def test_every_layer_is_tried_with_every_technique(analyse: Analyse) -> None:
    details = analyse(cnn()).details
    layers = {"stem.conv_node", "depthwise.conv_node", "pointwise.conv_node", "logits_node"}
    for technique in ("static_quantization", "weight_quantization", "magnitude_pruning"):
        assert {one["layer"] for one in details["rows"] if one["technique"] == technique} == layers
    assert {one["layer"] for one in details["rows"] if one["technique"] == "channel_pruning"}
    low_rank = {one["layer"] for one in details["rows"] if one["technique"] == "low_rank"}
    assert low_rank == layers - {"depthwise.conv_node"}
    assert (details["layers"], details["left_out"], details["samples"]) == (4, 0, 32)
    assert details["task"] == "classification"
    assert 0 <= details["metric"] <= 1
    assert json.loads(json.dumps(details)) == details


def test_rows_come_sorted_by_what_they_lose(analyse: Analyse) -> None:
    found = [one["sqnr_db"] for one in analyse(cnn()).details["rows"]]
    assert found == sorted(found, reverse=True)


def test_more_of_the_same_loses_more_and_saves_more(analyse: Analyse) -> None:
    made = analyse(cnn())
    half, most = (row(made, "pointwise.conv_node", sparsity=share) for share in (0.5, 0.8))
    assert half["sqnr_db"] > most["sqnr_db"]
    group = next(one["layer"] for one in made.details["rows"] if one["technique"] == "channel_pruning")
    quarter, three = (row(made, group, ratio=ratio) for ratio in (0.25, 0.75))
    assert three["saved"]["macs"] > 1.5 * quarter["saved"]["macs"] > 0
    assert three["saved"]["bytes"] > quarter["saved"]["bytes"]


def test_weights_that_stand_for_a_cut_give_what_the_cut_network_does(
    normalise: Normalise, tmp_path: Path
) -> None:
    prepared = prepare(Model.open(normalise(cnn())).proto, tmp_path)
    looked = channels.find(prepared, {"image": CALIBRATION[:1]})
    (group,) = looked.groups
    member = group.contracted[0]
    tried = list(Cuts(looked, []))
    assert [change.setting["ratio"] for change in tried] == [0.25, 0.5, 0.75]
    session = runtime.session(overridable(prepared, {one.tensor for one in group.contracted}))
    for change in tried:
        values = change.make()
        left = np.abs(np.moveaxis(values[member.tensor], member.axis, 0)).reshape(group.size, -1).max(1) > 0
        assert left.sum() == round(group.size * (1 - change.setting["ratio"]))
        kept = {group.name: np.flatnonzero(left).tolist()}
        cut = channels.cut(looked, kept)
        (expected,) = runtime.run(runtime.session(cut), {"image": CALIBRATION}).values()
        (found,) = runtime.run(session, {"image": CALIBRATION, **values}).values()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        whole, after = channels.cost(looked, {}), channels.cost(looked, kept)
        assert change.saved.bytes == 4 * (whole[1] - after[1])
        assert change.saved.macs == (whole[0] or 0) - (after[0] or 0)


def test_fewer_bits_and_low_rank_of_a_layer_are_what_they_say(normalise: Normalise, tmp_path: Path) -> None:
    prepared = prepare(Model.open(normalise(cnn())).proto, tmp_path)
    found = {layer.name: layer for layer in find(prepared, {"image": CALIBRATION[:1]}, tmp_path, ())}
    layer = found["pointwise.conv_node"]
    assert max(len(np.unique(channel)) for channel in layer.rounded(4)) <= 15
    assert np.mean(layer.zeroed(0.8) == 0) == pytest.approx(0.8, abs=0.001)
    low = layer.truncated(0.5)
    assert low.shape == layer.weight.shape
    rank = np.linalg.matrix_rank(low.reshape(len(low), -1), tol=1e-4)
    assert rank == layer.rank(0.5) == int(0.5 * 32 * 288 / (32 + 288))
    assert layer.macs == 32 * 32 * 9 * 144


def test_noise_of_the_layers_alone_adds_up_to_that_of_all(
    analyse: Analyse, normalise: Normalise, pack: Pack, tmp_path: Path
) -> None:
    made = analyse(cnn(), techniques=["static_quantization"], samples=40)
    together = 10 * np.log10(sum(10 ** (-one["sqnr_db"] / 10) for one in made.details["rows"]))
    parameters = {"keep": "none", "operators": ["Conv", "Gemm", "Relu"], "equalization": False}
    step = StaticQuantization.model_validate({**parameters, "bias_correction": False})
    source = Model.open(normalise(cnn()))
    quantized = step.apply(source, Context(Dataset.open(pack(arrays("cnn"))), 0, tmp_path)).model.proto
    assert -together == pytest.approx(sqnr(source.proto, quantized), abs=3)


def test_encoders_are_analysed_too_and_exclusions_kept(analyse: Analyse) -> None:
    made = analyse(encoder(), texts(), exclude=["query.product", "words", "mix.weight"])
    layers = {one["layer"] for one in made.details["rows"] if one["technique"] == "static_quantization"}
    assert layers == {f"{name}.product_node" for name in ("key", "value", "wide", "narrow")}
    assert made.details["metric"] is None
    assert all(one["sqnr_db"] > 0 for one in made.details["rows"] if one.get("bits") == 8)


def test_the_largest_layers_are_tried_where_there_are_too_many(
    analyse: Analyse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MOST_LAYERS", 1)
    details = analyse(cnn(), techniques=["weight_quantization"]).details
    assert (details["layers"], details["left_out"]) == (1, 3)
    assert [one["layer"] for one in details["rows"]] == ["pointwise.conv_node"]


@pytest.mark.parametrize("cached", [0, 590_000])
def test_rows_are_the_same_however_few_activations_are_kept(
    cached: int, analyse: Analyse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> dict[tuple[Any, ...], list[Any]]:
        changes = ("layer", "technique", "bits", "sparsity", "share", "ratio")
        return {
            tuple(one.get(name) for name in changes): [one["sqnr_db"], one["kl"], one["agreement"]]
            for one in analyse(cnn()).details["rows"]
        }

    expected = rows()
    kept = []
    staged = Suffixes._staged
    monkeypatch.setattr(Suffixes, "_staged", lambda self, some: kept.append(some) or staged(self, some))
    monkeypatch.setattr(suffixes, "CACHED", cached)
    found = rows()
    assert found.keys() == expected.keys()
    for change, values in expected.items():
        assert found[change] == pytest.approx(values, abs=2e-3)
    assert (len(kept) > 1) == (cached > 0)  # without room, whole networks need no activations
    assert all(one.reads == ("image",) for some in kept for one in some) == (cached == 0)


def test_only_what_follows_a_change_is_run_again(normalise: Normalise, pack: Pack, tmp_path: Path) -> None:
    model = Model.open(normalise(cnn()))
    prepared = prepare(model.proto, tmp_path)
    split = Dataset.open(pack(arrays("cnn"))).split("calibration")
    assert split is not None
    evaluator = Evaluator.of(model, split, "auto", runtime.session(prepared))
    places = Suffixes(prepared, evaluator, {"image": CALIBRATION[:1]}, 1)
    last, first = places.stages([{"logits_node"}, {"stem.conv_node"}])
    assert [node.name for node in last.suffix.model.graph.node] == ["logits_node"]
    assert len(first.suffix.model.graph.node) == len(prepared.graph.node)
    assert (last.scores(last.suffix.model).sqnr_db or 0) > 100
    batches = sum(len(one[last.suffix.reads[0]]) for one in last.activations)
    assert batches == split.n == evaluator.samples


def test_a_change_that_breaks_the_network_comes_last_without_numbers(
    analyse: Analyse, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded = Layer.rounded
    monkeypatch.setattr(
        Layer,
        "rounded",
        lambda self, bits: rounded(self, bits) * (np.nan if self.name == "depthwise.conv_node" else 1),
    )
    rows = analyse(cnn(), techniques=["weight_quantization"]).details["rows"]
    assert [one["sqnr_db"] is None for one in rows] == [False, False, False, True]
    assert rows[-1]["layer"] == "depthwise.conv_node"


@pytest.mark.parametrize("samples", [1, 2, 5, 24])
def test_samples_are_spread_in_pairs(samples: int) -> None:
    split = Split({"x": np.arange(24.0)}, np.arange(24))
    found = thinned(split, samples, Model(cnn()).inputs[:0]).arrays["x"].astype(int)
    assert len(found) == samples == len(set(found.tolist()))
    assert all(first % 2 == 0 for first in found[::2])
    assert all(second == first + 1 for first, second in zip(found[::2], found[1::2], strict=False))
    assert samples < 4 or found[-1] >= 20


def test_a_quantized_model_and_one_without_layers_are_refused(analyse: Analyse, normalise: Normalise) -> None:
    source, technique = Model.open(normalise(cnn())).inspect(), SensitivityAnalysis()
    assert technique.check(source) is None
    quantized = source.model_copy(update={"traits": frozenset({Trait.QUANTIZED})})
    assert "floating-point original" in (technique.check(quantized) or "")
    assert "no layers" in (technique.check(source.model_copy(update={"operators": {"Relu": 3}})) or "")
    names = ["stem.conv_node", "depthwise.conv_node", "pointwise.conv_node", "logits_node"]
    with pytest.raises(CompressionError, match="nothing_to_analyse"):
        analyse(cnn(), exclude=names)
