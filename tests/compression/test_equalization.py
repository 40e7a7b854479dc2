from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression import runtime
from compression.dataset import Dataset
from compression.graph import bias_correction, calibration, equalization, weight_rounding
from compression.graph.calibration import Machine, Statistics
from compression.graph.index import Index
from compression.graph.preparation import prepare
from tests.compression.conftest import Pack
from tests.compression.test_static_quantization import Case, mobile, residual


@pytest.fixture(params=[mobile, residual], ids=["mobile", "residual"])
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param()
    return made


def outputs(model: onnx.ModelProto, case: Case, split: str) -> np.ndarray:
    image = case.arrays[f"{split}/image"].astype(np.float32)
    (found,) = runtime.run(runtime.session(model), {"image": image}).values()
    return found


def statistics(model: onnx.ModelProto, case: Case, pack: Pack, folder: Path) -> dict[str, Statistics]:
    names = [node.input[0] for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]
    split = Dataset.open(pack(case.arrays)).splits["calibration"]
    return calibration.calibrate(model, list(dict.fromkeys(names)), split, 24, Machine(folder, 1))


def test_preparation_keeps_the_function(case: Case, tmp_path: Path) -> None:
    prepared = prepare(case.model, tmp_path)
    reference = outputs(case.model, case, "test")
    assert np.abs(outputs(prepared, case, "test") - reference).max() < 1e-5 * np.abs(reference).max()
    operators = {node.op_type for node in prepared.graph.node}
    assert not operators & {"BatchNormalization", "Div", "ReduceMean", "Constant"}
    names = [node.name for node in prepared.graph.node]
    assert len(set(names)) == len(names)


def test_equalisation_keeps_the_function_and_evens_out_the_channels(
    case: Case, pack: Pack, tmp_path: Path
) -> None:
    prepared = prepare(case.model, tmp_path)
    reference = outputs(prepared, case, "calibration")
    seen = statistics(prepared, case, pack, tmp_path)
    bounds = {name: one.bound for name, one in seen.items() if one.bound is not None}
    scaled = equalization.equalize(prepared.graph, bounds)
    found = outputs(prepared, case, "calibration")
    assert np.abs(found - reference).max() < 1e-5 * np.abs(reference).max()
    if case.model.graph.node[0].name == "stem.out_node":
        assert scaled
        after = statistics(prepared, case, pack, tmp_path)
        stem = [one["stem.relu6"].bound for one in (seen, after)]
        spreads = [bound.max() / np.median(bound) for bound in stem if bound is not None]
        assert spreads[1] < 0.7 * spreads[0]


def test_bias_correction_takes_the_mean_error_back(case: Case, pack: Pack, tmp_path: Path) -> None:
    prepared = prepare(case.model, tmp_path)
    seen = statistics(prepared, case, pack, tmp_path)
    roundings = weight_rounding.choose(prepared.graph, 3, per_channel=True)
    weights = Index(prepared.graph).initializers
    rounded = {name: how.round_trip(numpy_helper.to_array(weights[name])) for name, how in roundings.items()}
    reference = outputs(prepared, case, "calibration").mean(0)

    def mean_error(correct: bool) -> float:
        model = onnx.ModelProto.FromString(prepared.SerializeToString())
        if correct:
            means = {name: one.mean for name, one in seen.items() if one.mean is not None}
            assert bias_correction.correct(model.graph, roundings, means)
        index = Index(model.graph)
        for name, weight in rounded.items():
            index.replace(name, weight)
        return float(np.linalg.norm(outputs(model, case, "calibration").mean(0) - reference))

    assert mean_error(correct=True) < mean_error(correct=False)


def test_statistics_are_those_of_all_batches(pack: Pack, tmp_path: Path) -> None:
    case = residual()
    prepared = prepare(case.model, tmp_path)
    image = case.arrays["calibration/image"].astype(np.float32)
    seen = statistics(prepared, case, pack, tmp_path)["image"]
    assert (seen.histogram.minimum, seen.histogram.maximum) == (image.min(), image.max())
    assert seen.bound is not None
    assert seen.mean is not None
    assert seen.bound == pytest.approx(image.max((0, 2, 3)))
    assert seen.mean == pytest.approx(image.mean((0, 2, 3)), rel=1e-3)
    assert seen.histogram.counts.sum() == image.size


def test_tied_biases_are_untied(tmp_path: Path) -> None:
    case = mobile()
    for node in case.model.graph.node:
        if node.name in {"deep.out_node", "project.out_node"}:
            node.input[2] = "stem.bias"
    prepared = prepare(case.model, tmp_path)
    biases = [node.input[2] for node in prepared.graph.node if node.op_type == "Conv"]
    assert len(set(biases)) == len(biases)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in prepared.graph.initializer}
    assert np.array_equal(values[biases[0]], values[biases[1]])


def test_what_a_subgraph_reads_is_left_alone() -> None:
    graph = mobile().model.graph
    value = helper.make_tensor_value_info("read", TensorProto.FLOAT, None)
    branch = helper.make_graph(
        [helper.make_node("Identity", ["stem.relu6"], ["read"])], "branch", [], [value]
    )
    before = {name for group in equalization.groups(graph) if not group.frozen for name in group.tensors}
    graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    graph.node.append(
        helper.make_node("If", ["condition"], ["extra"], then_branch=branch, else_branch=branch)
    )
    after = {name for group in equalization.groups(graph) if not group.frozen for name in group.tensors}
    assert "stem.relu6" in before - after


def test_a_scaled_tensor_gives_up_its_name() -> None:
    graph = mobile().model.graph
    equalization.rename(graph, {"stem.relu6"})
    made = {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in node.input}
    assert "stem.relu6_equalized" in made & read
    assert "stem.relu6" not in made | read
