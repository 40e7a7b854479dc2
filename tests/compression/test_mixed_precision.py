from collections.abc import Callable
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.graph.exclusion import Prices
from compression.inspection import Trait
from compression.kernels.allocation import Choice, cheapest
from compression.measure.fidelity import decibels
from compression.model import Model
from compression.sensitivity.pace import Pace
from compression.sensitivity.placing import Placing
from compression.technique import Applied, Context
from compression.techniques.mixed_precision import MixedPrecision
from compression.techniques.smooth_quantization import SmoothQuantization
from tests.compression.conftest import Normalise, Pack, arrays
from tests.compression.encoders import encoder, texts
from tests.compression.networks import cnn

Apply = Callable[..., Applied]
IMAGES = arrays("cnn")["test/image"].astype(np.float32)


@pytest.fixture
def apply(normalise: Normalise, pack: Pack, tmp_path: Path) -> Apply:
    def apply(
        model: onnx.ModelProto | Model, data: dict[str, np.ndarray] | None = None, **fields: Any
    ) -> Applied:
        source = model if isinstance(model, Model) else Model.open(normalise(model))
        technique = MixedPrecision.model_validate(fields)
        assert technique.check(source.inspect()) is None
        return technique.apply(source, Context(Dataset.open(pack(data or arrays("cnn"))), 0, tmp_path))

    return apply


def sqnr(model: onnx.ModelProto, made: Applied) -> float:
    reference, found = (
        runtime.run(runtime.session(one), {"image": IMAGES})["logits"].astype(float)
        for one in (model, made.model.proto)
    )
    return decibels(float(np.square(reference).sum()), float(np.square(found - reference).sum()))


@pytest.mark.parametrize("least", [12.0, 20.0, 30.0, 40.0])
def test_the_limit_of_noise_holds_on_samples_that_were_not_seen(least: float, apply: Apply) -> None:
    made = apply(cnn(channels=64), min_sqnr_db=least)
    assert made.details["sqnr_db"] >= least
    assert sqnr(cnn(channels=64), made) > least - 3
    onnx.checker.check_model(made.model.proto, full_check=True)
    assert Trait.QUANTIZED in made.model.inspect().traits


def test_the_more_noise_is_allowed_the_smaller_the_model(apply: Apply) -> None:
    made = [apply(cnn(channels=64), min_sqnr_db=least) for least in (10.0, 28.0, 45.0)]
    sizes = [one.model.size for one in made]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.75 * sizes[2]


WEIGHTS = {
    "stem.conv_node": 64 * 9,
    "depthwise.conv_node": 64 * 9,
    "pointwise.conv_node": 64 * 64 * 9,
    "logits_node": 64 * 10,
}


@pytest.mark.parametrize("least", [22.0, 30.0, 52.0])
def test_bits_are_what_the_file_holds(least: float, apply: Apply) -> None:
    made = apply(cnn(channels=64), min_sqnr_db=least)
    bits = made.details["bits"]
    assert bits.keys() == WEIGHTS.keys()
    weights = sum(WEIGHTS[name] * own // 8 for name, own in bits.items())
    tensors = made.model.proto.graph.initializer
    stored = sum(len(tensor.raw_data) for tensor in tensors)
    unpacked = sum(WEIGHTS[name] // 2 for name, own in bits.items() if own == 4 and WEIGHTS[name] < 1024)
    assert stored == pytest.approx(weights + unpacked, abs=6000)  # scales, biases, the table that unpacks
    kinds = {tensor.data_type for tensor in tensors}
    assert (TensorProto.FLOAT16 in kinds) == (16 in bits.values())


def test_the_limit_of_bytes_holds_and_the_noise_is_less_with_more(apply: Apply) -> None:
    model = cnn(channels=64)
    whole = len(model.SerializeToString())
    made = [apply(model, max_bytes=int(whole * share)) for share in (0.3, 0.6)]
    assert [one.model.size <= int(whole * share) for one, share in zip(made, (0.3, 0.6), strict=True)] == [
        True
    ] * 2
    assert made[1].details["sqnr_db"] > made[0].details["sqnr_db"]


def test_it_follows_smoothing(apply: Apply, normalise: Normalise, pack: Pack, tmp_path: Path) -> None:
    model = encoder(outlier=100.0)
    step = SmoothQuantization(quantize=False)
    source = Model.open(normalise(model))
    smooth = step.apply(source, Context(Dataset.open(pack(texts())), 0, tmp_path)).model
    parameters = {"bits": [8, 32], "min_sqnr_db": 30.0}
    counts = [apply(one, texts(), **parameters).details["layers"].get("8", 0) for one in (source, smooth)]
    assert counts[1] > counts[0]


def test_fewest_bytes_are_fewer_than_those_of_the_fastest(apply: Apply) -> None:
    sizes = [apply(cnn(channels=64), minimise=own).model.size for own in ("bytes", "latency")]
    assert sizes[0] <= sizes[1]


def test_layers_that_integers_slow_down_compute_in_floats_from_weights_of_few_bits(
    apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "speed", lambda _self, nodes: 0.5 if nodes else 1.0)
    made = apply(cnn(channels=64))
    assert made.details["placement"] == "floats"
    assert made.details["integer_nodes"] == 0
    assert set(made.details["float_layers"]) == WEIGHTS.keys()
    assert "QuantizeLinear" not in {node.op_type for node in made.model.proto.graph.node}
    assert made.model.size < 0.35 * len(cnn(channels=64).SerializeToString())


def test_what_is_slower_than_the_original_is_refused_unless_bytes_are_wanted(
    apply: Apply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "of", lambda *_: 0.5)
    monkeypatch.setattr(Pace, "is_short", False)
    with pytest.raises(CompressionError, match="nothing_to_gain") as refused:
        apply(cnn())
    (way,) = refused.value.suggestions
    assert apply(cnn(), **(way.patch or {})).details["speed"] == 0.5


def decided(split: str, model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Labels of a split are what the model says."""
    data = arrays("cnn")
    images = data[f"{split}/image"].astype(np.float32)
    logits = runtime.run(runtime.session(model), {"image": images})["logits"]
    return {name: array for name, array in data.items() if not name.endswith("label")} | {
        f"{split}/label": logits.argmax(1)
    }


@pytest.mark.parametrize("most", [0.0, 0.1])
def test_the_limit_of_the_metrics_drop_holds(most: float, apply: Apply) -> None:
    model = cnn(channels=64)
    data = decided("calibration", model)
    made = apply(model, data, max_metric_drop=most)
    images = data["calibration/image"].astype(np.float32)
    logits = runtime.run(runtime.session(made.model.proto), {"image": images})["logits"]
    wrong = float(np.mean(logits.argmax(1) != data["calibration/label"]))
    assert made.details["metric_drop"] == pytest.approx(wrong)
    assert wrong <= most
    assert made.model.size < 0.35 * len(model.SerializeToString())


def test_a_limit_of_the_metric_needs_labels_that_do_not_only_prove(apply: Apply) -> None:
    with pytest.raises(CompressionError, match="labels_missing") as missing:
        apply(cnn(), decided("test", cnn()), max_metric_drop=0.01)
    assert missing.value.suggestions[0].patch == {"min_sqnr_db": 20}


def test_what_cannot_be_reached_is_said_with_a_way_out(apply: Apply) -> None:
    with pytest.raises(CompressionError, match="target_unreachable") as noise:
        apply(cnn(), bits=[4], min_sqnr_db=60.0)
    assert noise.value.suggestions
    with pytest.raises(CompressionError, match="target_unreachable"):
        apply(cnn(), max_bytes=1000)


def test_bad_parameters_and_models_are_refused(normalise: Normalise) -> None:
    with pytest.raises(ValueError, match="max_metric_drop"):
        MixedPrecision(max_metric_drop=2)
    with pytest.raises(ValueError, match="bits"):
        MixedPrecision.model_validate({"bits": [5]})
    inspection = Model.open(normalise(cnn())).inspect()
    assert "no layers" in (
        MixedPrecision().check(inspection.model_copy(update={"operators": {"Relu": 1}})) or ""
    )


seconds = st.floats(0.0, 1e-3)
chain = st.lists(st.tuples(seconds, seconds, st.floats(0.0, 1.0)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=150)
@given(layers=chain, crossing=st.floats(0.0, 3e-4), limit=st.floats(0.0, 3.0))
def test_placement_is_feasible_and_its_bound_is_one(
    layers: list[tuple[float, float, float]], crossing: float, limit: float
) -> None:
    names = [str(number) for number in range(len(layers))]
    prices = Prices(
        {name: own[0] for name, own in zip(names, layers, strict=True)},
        {name: own[1] for name, own in zip(names, layers, strict=True)},
        [(one, other, crossing) for one, other in pairwise(names)],
    )
    noise = {name: own[2] for name, own in zip(names, layers, strict=True)}
    found = Placing(prices, noise, forbidden=names[:1]).fastest(limit)
    choices = [set(chosen) for size in range(len(names)) for chosen in combinations(names[1:], size)]
    best = min(prices.seconds(chosen) for chosen in choices if sum(noise[name] for name in chosen) <= limit)
    assert sum(noise[name] for name in found.nodes) <= limit * (1 + 1e-9)
    assert names[0] not in found.nodes
    slack = 1e-9 * (len(names) + 2)  # of a minimum cut, seconds
    assert found.bound - slack <= best <= found.seconds + slack
    assert found.seconds <= prices.seconds(()) + slack
    if sum(noise.values()) <= limit:
        assert found.seconds == pytest.approx(best, abs=slack)


number = st.floats(0.01, 100)
options = st.lists(st.builds(Choice, number, number), min_size=1, max_size=3)


@settings(deadline=None, max_examples=150)
@given(choices=st.lists(options, min_size=1, max_size=5), budget=st.floats(0.01, 300))
def test_allocation_is_feasible_and_near_the_best(choices: list[list[Choice]], budget: float) -> None:
    def total(picked: tuple[int, ...] | list[int]) -> Choice:
        chosen = [own[at] for own, at in zip(choices, picked, strict=True)]
        return Choice(sum(one.cost for one in chosen), sum(one.loss for one in chosen))

    every = [total(picked) for picked in product(*(range(len(own)) for own in choices))]
    fitting = [one.cost for one in every if one.loss <= budget]
    picked = cheapest(choices, budget)
    if picked is None:
        assert not fitting
        return
    found = total(picked)
    assert found.loss <= budget * (1 + 1e-9)
    largest = max(max(one.cost for one in own) - min(one.cost for one in own) for own in choices)
    assert found.cost <= min(fitting) + largest + 1e-9  # the bound of Lagrangian allocation
