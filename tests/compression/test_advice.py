"""What is advised for the kinds of networks that people bring, with data and without, and after jobs
measured something.
"""

from pathlib import Path
from typing import Any

import pytest

from compression.advice import Advice, Asked, Run, advise
from compression.architecture import Architecture
from compression.inspection import ArraySpec, DatasetInspection, ModelInspection, Trait
from compression.measurement import Drop, Measurement, Measurements, Metric, Ratio
from compression.model import Model
from compression.recipe import Recipe
from compression.search.budget import Budget, Objective
from compression.technique import REGISTRY

EXAMPLES = Path(__file__).parents[2] / "examples"
CUT = {"technique": "channel_pruning", "ratio": 0.5}
STATIC = {"technique": "static_quantization"}


def data(samples: int = 60_000, *, labelled: bool = True) -> DatasetInspection:
    splits = {"train": samples, "calibration": 512, "test": 1000}
    names = ("image", "label") if labelled else ("image",)
    arrays = [
        ArraySpec(name=name, split=split, dtype="uint8", shape=(n,))
        for split, n in splits.items()
        for name in names
    ]
    return DatasetInspection(format="npz", arrays=tuple(arrays), splits=splits, labelled=labelled, bytes=1)


def network(operators: dict[str, int], **given: Any) -> ModelInspection:
    values = {"format": "onnx", "opset": 20, "ir_version": 10, "producer": "", "inputs": (), "outputs": ()}
    values |= {"nodes": sum(operators.values()), "params": 22_000_000, "macs": None, "bytes": 90_000_000}
    return ModelInspection.model_validate({**values, "operators": operators, "traits": frozenset(), **given})


CNN, DENSE = (Model.open(EXAMPLES / f"fashion_mnist_{name}.onnx").inspect() for name in ("resnet", "dense"))
ENCODER = network(
    {"MatMul": 48, "Softmax": 6, "LayerNormalization": 13, "Add": 62, "Gather": 50, "Shape": 49}
)
LSTM = network({"Conv": 6, "LSTM": 1, "Relu": 5}, params=309_635, bytes=1_244_882)
MOBILE = network({"Conv": 52, "Clip": 35, "Gemm": 1}, macs=300_000_000, params=3_487_818)
KINDS = {
    "dense": (DENSE, Architecture.DENSE),
    "cnn": (CNN, Architecture.CONVOLUTIONAL),
    "encoder": (ENCODER, Architecture.TRANSFORMER),
    "lstm": (LSTM, Architecture.RECURRENT),
    "mobile": (MOBILE, Architecture.MOBILE),
}


def asked(
    model: ModelInspection,
    given: DatasetInspection | None,
    objective: Objective = "latency",
    runs: tuple[Run, ...] = (),
) -> Advice:
    return advise(Asked("mdl_1", "dst_1" if given else None, "cpu", objective), model, given, runs)


def steps(advice: Advice) -> list[str]:
    assert advice.recipe is not None
    return [step["technique"] for step in advice.recipe.request["recipe"]["steps"]]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("objective", ["latency", "bytes", "download", "metric"])
@pytest.mark.parametrize("given", [data(), data(labelled=False), data(300), None])
def test_whatever_is_asked_the_answer_is_whole(
    name: str, objective: Objective, given: DatasetInspection | None
) -> None:
    model, kind = KINDS[name]
    advice = asked(model, given, objective)
    assert advice.architecture is kind
    named = {one.technique for one in advice.recommendations} | {one.technique for one in advice.left_out}
    assert named == set(REGISTRY)
    assert not {one.technique for one in advice.recommendations} & {one.technique for one in advice.left_out}
    for plan in (advice.recipe, advice.bolder):
        if plan is not None:
            assert Recipe.model_validate(plan.request["recipe"]).check(model, given) == []
            assert plan.request["model_id"] == "mdl_1"
    if advice.search is not None:
        Budget.model_validate(advice.search.request["budget"])
    assert advice.summary.endswith(".")


def test_a_cnn_is_cut_and_then_quantized() -> None:
    advice = asked(CNN, data())
    assert steps(advice)[-1] == "static_quantization"
    assert advice.recipe is not None
    assert REGISTRY[steps(advice)[0]].stage.name == "STRUCTURE"
    assert advice.recipe.expected.latency.value > 4
    assert advice.recipe.expected.latency.basis == "estimated"
    assert advice.recipe.request["recipe"]["max_metric_drop"] == 0.01
    assert advice.search is not None
    assert advice.search.request == {
        "model_id": "mdl_1",
        "dataset_id": "dst_1",
        "budget": {"max_metric_drop": 0.01, "objective": "latency", "seconds": 1200},
    }


def test_a_small_dense_network_is_promised_size_and_no_speed() -> None:
    fast, small = asked(DENSE, data()), asked(DENSE, data(), "download")
    assert any("overhead" in note for note in fast.notes)
    assert fast.recipe is not None
    assert fast.recipe.expected.latency.value < 1.5
    for one in fast.recommendations:
        assert all(strength.expected.latency.value <= 1.1 for strength in one.strengths)
    assert "magnitude_pruning" in steps(small)
    assert small.recipe is not None
    assert small.recipe.expected.download.value > 10


def test_an_encoder_without_data_is_quantized_dynamically() -> None:
    advice = asked(ENCODER, None)
    assert steps(advice) == ["dynamic_quantization"]
    reasons = {one.technique: one for one in advice.left_out}
    assert "needs a data set" in reasons["static_quantization"].reason
    assert "dataset_id" in (reasons["static_quantization"].way_out or "")
    assert "more than a point" in advice.summary


def test_a_cnn_without_data_needs_some() -> None:
    advice = asked(CNN, None)
    assert advice.recipe is None
    assert "Without a data set nothing" in advice.summary
    assert "half_precision" in steps(asked(CNN, None, "bytes"))


def test_many_steps_are_less_sure_than_each_of_them() -> None:
    advice = asked(CNN, data(), "download")
    assert advice.recipe is not None
    alone = {one.technique: one.strengths[0] for one in advice.recommendations}
    lost = [alone[name].expected.drop for name in steps(advice)]
    assert advice.recipe.expected.drop is not None
    assert advice.recipe.expected.drop.value >= sum(drop.value for drop in lost if drop is not None)
    if len(steps(advice)) > 2:
        assert advice.recipe.confidence == "low"


def test_what_gains_more_and_may_cost_more_is_told_apart() -> None:
    advice = asked(CNN, data())
    assert advice.recipe is not None
    assert advice.bolder is not None
    assert advice.bolder.expected.latency.value >= 1.25 * advice.recipe.expected.latency.value
    assert advice.bolder.expected.drop is not None
    assert advice.recipe.expected.drop is not None
    assert advice.bolder.expected.drop.value > advice.recipe.expected.drop.value
    assert "Bolder" in advice.summary


def test_without_labels_agreement_is_asked_for() -> None:
    advice = asked(CNN, data(labelled=False))
    assert advice.recipe is not None
    assert "max_metric_drop" not in advice.recipe.request["recipe"]
    assert advice.search is not None
    assert advice.search.request["budget"]["min_agreement"] == 0.98
    assert any("without labels" in note for note in advice.notes)
    train = next(one for one in advice.left_out if one.technique == "train")
    assert train.reason


def test_what_serves_another_objective_is_left_out_with_the_way_there() -> None:
    left = {one.technique: one for one in asked(CNN, data()).left_out}
    assert left["magnitude_pruning"].way_out == "ask with objective=download"
    assert "magnitude_pruning" in {one.technique for one in asked(CNN, data(), "download").recommendations}


def test_of_a_quantized_model_the_original_is_asked_for() -> None:
    advice = asked(network({"Conv": 3, "QuantizeLinear": 9}, traits=frozenset({Trait.QUANTIZED})), data())
    assert advice.recipe is None
    assert "floating-point original" in advice.notes[0]
    assert "quantized" in {one.technique: one.reason for one in advice.left_out}["static_quantization"]


def measured(download: float, latency: float, drop: float) -> Measurements:
    cost = Measurement(bytes=100, bytes_zstd=90, params=9, nonzero_params=9, macs=9, peak_activation_bytes=9)
    metric = Metric(name="accuracy", value=0.9, ci95=(0.88, 0.92), n=1000)
    return Measurements(
        original=cost.model_copy(update={"metric": metric}),
        compressed=cost.model_copy(update={"metric": metric.model_copy(update={"value": 0.9 - drop})}),
        ratios={
            "bytes": Ratio(value=download),
            "bytes_zstd": Ratio(value=download),
            "latency": Ratio(value=latency, ci95=(latency - 0.1, latency + 0.1)),
        },
        drop=Drop(metric="accuracy", value=drop, ci95=(drop - 0.001, drop + 0.001), n=1000),
    )


def test_what_a_job_measured_replaces_what_was_estimated() -> None:
    run = Run("job_1", True, [(CUT, measured(2.5, 2.0, 0.001)), (STATIC, measured(10.0, 6.0, 0.003))])
    advice = asked(CNN, data(), runs=(run,))
    cut = next(one for one in advice.recommendations if one.technique == "channel_pruning")
    half = next(one for one in cut.strengths if one.expected.latency.basis == "measured")
    assert half.step["technique"] == "channel_pruning"
    assert half.expected.latency.value == 2.0
    assert half.expected.latency.ci95 == (1.9, 2.1)
    assert half.expected.latency.job_id == "job_1"
    assert [one.expected.latency.basis for one in cut.strengths].count("measured") == 1
    static = next(one for one in advice.recommendations if one.technique == "static_quantization")
    (only,) = [one.expected for one in static.strengths if one.expected.latency.basis == "measured"]
    assert (only.download.value, only.latency.value) == (4.0, 3.0)
    assert only.drop is not None
    assert only.drop.value == pytest.approx(0.002)
    assert only.latency.ci95 is None


def test_a_pipeline_that_was_measured_is_told_as_such() -> None:
    fast = Run("job_1", True, [(CUT, measured(8.0, 9.0, 0.001)), (STATIC, measured(40.0, 40.0, 0.004))])
    advice = asked(CNN, data(), runs=(fast,))
    assert advice.recipe is not None
    assert steps(advice) == ["channel_pruning", "static_quantization"]
    assert advice.recipe.expected.latency.model_dump() == {
        "value": 40.0,
        "basis": "measured",
        "ci95": (39.9, 40.1),
        "job_id": "job_1",
    }
    assert advice.recipe.confidence == "high"
    assert "measured by job job_1" in advice.summary


def test_a_collapse_that_was_measured_is_not_advised_again() -> None:
    run = Run("job_1", True, [(STATIC, measured(3.9, 2.8, 0.3))])
    assert "static_quantization" not in steps(asked(CNN, data(), runs=(run,)))


def test_on_other_data_only_sizes_and_times_count() -> None:
    run = Run("job_1", False, [(STATIC, measured(3.9, 2.8, 0.3))])
    advice = asked(CNN, data(), runs=(run,))
    static = next(one for one in advice.recommendations if one.technique == "static_quantization")
    assert static.strengths[0].expected.drop is None
    assert static.strengths[0].expected.latency.basis == "measured"


def test_parameters_of_another_time_are_passed_over() -> None:
    run = Run("job_1", True, [({"technique": "gone"}, measured(2.0, 2.0, 0.0))])
    assert asked(CNN, data(), runs=(run,)) == asked(CNN, data())
