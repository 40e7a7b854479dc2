"""What kind of network a model is told to be, and what techniques then propose."""

from collections.abc import Iterable
from typing import Any

import pytest

import compression.techniques  # noqa: F401  loading the folder fills the registry
from compression.architecture import Architecture, architecture, scarce, small
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.technique import REGISTRY, Proposal

ENCODER = {"MatMul": 48, "Softmax": 6, "LayerNormalization": 13, "Gather": 50, "Add": 62, "Shape": 49}


def model(operators: dict[str, int], **given: Any) -> ModelInspection:
    values = {"format": "onnx", "opset": 20, "ir_version": 10, "producer": "", "inputs": (), "outputs": ()}
    values |= {"nodes": sum(operators.values()), "params": 700_000, "macs": 80_000_000, "bytes": 2_800_000}
    return ModelInspection.model_validate({**values, "operators": operators, "traits": frozenset(), **given})


def data(samples: int) -> DatasetInspection:
    splits = {"train": samples, "calibration": 512, "test": 1000}
    return DatasetInspection(format="npz", arrays=(), splits=splits, labelled=True, bytes=1)


def proposed(name: str, to: ModelInspection, samples: int = 60_000) -> list[Proposal]:
    made: Iterable[Proposal] = REGISTRY[name].proposals(to, data(samples))
    return list(made)


@pytest.mark.parametrize(
    ("operators", "kind"),
    [
        ({"Conv": 15, "Gemm": 1, "Relu": 13}, Architecture.CONVOLUTIONAL),
        ({"Conv": 53, "MatMul": 1, "Softmax": 1, "Clip": 18, "HardSigmoid": 9}, Architecture.MOBILE),
        ({"Conv": 38, "MatMul": 13, "Softmax": 3}, Architecture.CONVOLUTIONAL),
        (ENCODER, Architecture.TRANSFORMER),
        ({"Conv": 1, "MatMul": 96, "Softmax": 12}, Architecture.TRANSFORMER),
        ({"Attention": 6, "MatMul": 24}, Architecture.TRANSFORMER),
        ({"Conv": 6, "LSTM": 1}, Architecture.RECURRENT),
        ({"Gemm": 2, "Softmax": 1}, Architecture.DENSE),
        ({"Relu": 1}, Architecture.OTHER),
    ],
)
def test_told_from_operators(operators: dict[str, int], kind: Architecture) -> None:
    assert architecture(model(operators)) is kind


@pytest.mark.parametrize(("depthwise", "kind"), [(17, "mobile"), (0, "convolutional")])
def test_depthwise_layers_that_were_counted_decide(depthwise: int, kind: str) -> None:
    abilities = {"channel_pruning": {"depthwise": depthwise}}
    assert architecture(model({"Conv": 52, "Clip": 35}, abilities=abilities)) == kind


def test_convolutions_get_static_and_an_encoder_dynamic_quantization() -> None:
    cnn, encoder = model({"Conv": 15, "Gemm": 1}), model(ENCODER)
    (static,) = proposed("static_quantization", cnn)
    assert static.confidence == "high"
    assert static.faster > 2
    assert proposed("dynamic_quantization", cnn) == []
    (dynamic,) = proposed("dynamic_quantization", encoder)
    assert dynamic.faster > 2


def test_stronger_cuts_gain_more_and_lose_more() -> None:
    cuts = proposed("channel_pruning", model({"Conv": 15, "Gemm": 1}))
    assert [cut.step.ratio for cut in cuts] == [0.3, 0.5, 0.7, 0.85]  # type: ignore[attr-defined]
    for name in ("smaller", "faster", "drop"):
        values = [getattr(cut, name) for cut in cuts]
        assert values == sorted(values)


def test_no_more_is_cut_than_can_go() -> None:
    abilities = {"channel_pruning": {"groups": {"a": 64}, "prunable_macs": 0.6}}
    cuts = proposed("channel_pruning", model({"Conv": 15}, abilities=abilities))
    assert [cut.step.ratio for cut in cuts] == [0.3, 0.5]  # type: ignore[attr-defined]
    nothing = {"channel_pruning": {"groups": {}, "prunable_macs": 0.0}}
    assert proposed("channel_pruning", model({"Conv": 15}, abilities=nothing)) == []


def test_a_few_samples_recover_less() -> None:
    cnn = model({"Conv": 15})
    assert scarce(data(500))
    assert not scarce(data(5000))
    many, few = (proposed("channel_pruning", cnn, samples)[-1] for samples in (60_000, 500))
    assert few.drop > many.drop
    assert (many.confidence, few.confidence) == ("medium", "low")


def test_a_network_of_few_multiplications_is_not_promised_speed() -> None:
    tiny = model({"Gemm": 2, "Relu": 1}, macs=101_632, params=101_770)
    assert small(tiny)
    for name, technique in REGISTRY.items():
        if name in {"channel_pruning", "distillation", "static_quantization", "dynamic_quantization"}:
            made = list(technique.proposals(tiny, data(60_000)))
            assert made
            assert all(proposal.faster <= 1.1 for proposal in made)


def test_of_a_network_without_inner_layers_the_ends_are_pruned_too() -> None:
    abilities = {"magnitude_pruning": {"layers": 2, "prunable_params": 0.9986}}
    both = proposed("magnitude_pruning", model({"Gemm": 2}, abilities=abilities))
    assert [one.step.skip_first_and_last for one in both] == [False, False]  # type: ignore[attr-defined]
    assert both[1].smaller == pytest.approx(4.1, abs=0.1)


def test_a_quantized_model_is_offered_no_second_quantization() -> None:
    quantized = model({"Conv": 15, "Gemm": 1, "QLinearConv": 15}, traits=frozenset({Trait.QUANTIZED}))
    for name, technique in REGISTRY.items():
        for proposal in technique.proposals(quantized, data(60_000)):
            allowed = proposal.step.check(quantized) is None
            assert not (allowed and proposal.smaller > 1), name
