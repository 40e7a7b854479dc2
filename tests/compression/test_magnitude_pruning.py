import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.graph.layers import Layers
from compression.inspection import Trait
from compression.measure.size import zstd_bytes
from compression.model import Model
from compression.recipe import Recipe, canonical
from compression.technique import Applied, Context, Need
from compression.techniques.magnitude_pruning import MagnitudePruning
from compression.techniques.static_quantization import StaticQuantization
from tests.compression.networks import Builder, cnn, lstm, transformer

F = TensorProto.FLOAT
SIDE, HIDDEN, CLASSES, SAMPLES = 7, 24, 5, 320
QUICK = {"epochs": 4, "batch_size": 32, "learning_rate": 0.01, "precision": "float32", "validation": 0}


def dense() -> Model:
    """Flatten, Gemm, Relu, Gemm, Softmax: the founding document's 784-128-10, smaller."""
    b = Builder(5)
    x = b.node("Flatten", ["image"], "flat")
    hidden = [b.weight("hidden.weight", HIDDEN, SIDE * SIDE), b.weight("hidden.bias", HIDDEN, scale=0.1)]
    x = b.node("Relu", [b.node("Gemm", [x, *hidden], "hidden", transB=1)], "relu")
    head = [b.weight("head.weight", HIDDEN, CLASSES, scale=0.3), b.weight("head.bias", CLASSES, scale=0.1)]
    b.node("Softmax", [b.node("Gemm", [x, *head], "head")], "scores", axis=-1)
    image = helper.make_tensor_value_info("image", F, ["batch", 1, SIDE, SIDE])
    return Model(b.model([image], [helper.make_tensor_value_info("scores", F, ["batch", CLASSES])]))


def images(side: int = SIDE, seed: int = 0) -> Dataset:
    values = np.random.default_rng(seed).normal(0, 1, (SAMPLES, 1, side, side)).astype(np.float32)
    return Dataset({"calibration/image": values}, 0)


def prune(model: Model, folder: Path, data: Dataset | None = None, **step: Any) -> Applied:
    context = {name: step.pop(name) for name in ("resume", "checkpoint", "seed") if name in step}
    step = {"training": None, "skip_first_and_last": False, "scope": "layer"} | step
    made = MagnitudePruning.model_validate(step)
    return made.apply(model, Context(data, context.pop("seed", 0), folder, **context))


def sparsities(model: Model) -> dict[str, float]:
    found = {layer.weight: model.initializer(layer.weight) for layer in Layers(model.proto.graph).all}
    return {name: float((array == 0).mean()) for name, array in found.items()}


def zeros(model: Model) -> dict[str, np.ndarray]:
    return {layer.weight: model.initializer(layer.weight) == 0 for layer in Layers(model.proto.graph).all}


def outputs(model: Model, data: Dataset) -> np.ndarray:
    split = data.splits["calibration"]
    parts = list(runtime.run_split(runtime.session(model.proto), split, model.inputs))
    return np.concatenate([next(iter(part.values())) for part in parts])


def test_one_shot_zeroes_the_smallest_of_each_layer(tmp_path: Path) -> None:
    before = dense()
    made = prune(before, tmp_path, sparsity=0.75)
    assert sparsities(made.model) == {"hidden.weight": 0.75, "head.weight": 0.75}
    for name, gone in zeros(made.model).items():
        old = np.abs(before.initializer(name))
        assert old[gone].max() < old[~gone].min()
        assert np.array_equal(before.initializer(name)[~gone], made.model.initializer(name)[~gone])
    for name in ("hidden.bias", "head.bias"):
        assert np.array_equal(before.initializer(name), made.model.initializer(name))
    assert made.details == {
        "sparsity": 0.75,
        "pruned_params": HIDDEN * (SIDE * SIDE + CLASSES),
        "layer_sparsity": {"hidden.weight": 0.75, "head.weight": 0.75},
        "left_out": [],
    }


def test_a_global_share_takes_from_where_weights_are_small(tmp_path: Path) -> None:
    for criterion in ("l1", "lamp"):
        made = prune(dense(), tmp_path, sparsity=0.75, scope="global", criterion=criterion)
        found = sparsities(made.model)
        assert found["hidden.weight"] > 0.75 > found["head.weight"]
        assert made.details["sparsity"] == pytest.approx(0.75, abs=1e-3)


def test_lamp_does_not_empty_a_layer_of_small_weights(tmp_path: Path) -> None:
    proto = dense().copy()
    for tensor in proto.graph.initializer:
        if tensor.name == "hidden.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / 1000, tensor.name))
    model = Model(proto)
    found = {
        criterion: sparsities(prune(model, tmp_path, scope="global", criterion=criterion).model)
        for criterion in ("l1", "lamp")
    }
    assert found["l1"] == {
        "hidden.weight": pytest.approx(0.8 * (1 + CLASSES / SIDE**2), abs=1e-3),
        "head.weight": 0,
    }
    assert found["lamp"] == sparsities(prune(dense(), tmp_path, scope="global").model)


def test_random_is_by_the_seed(tmp_path: Path) -> None:
    one, same, other = (
        zeros(prune(dense(), tmp_path, sparsity=0.5, criterion="random", seed=seed).model)
        for seed in (0, 0, 1)
    )
    for name, gone in one.items():
        assert np.array_equal(gone, same[name])
        assert not np.array_equal(gone, other[name])
        assert gone.mean() == 0.5


def test_two_of_four_input_channels_of_a_convolution_stay(tmp_path: Path) -> None:
    made = prune(Model(cnn()), tmp_path, pattern={"kind": "n_m"})
    weight = made.model.initializer("pointwise.weight")
    assert ((weight != 0).reshape(32, 8, 4, 3, 3).sum(2) == 2).all()
    assert made.details["layer_sparsity"]["stem.weight"] == 0, "a single input channel has no neighbours"
    assert (made.model.initializer("depthwise.weight") != 0).all()


def test_blocks_go_as_a_whole(tmp_path: Path) -> None:
    pattern = {"kind": "block", "outputs": 4, "inputs": 2}
    made = prune(Model(cnn()), tmp_path, sparsity=0.75, pattern=pattern)
    gone = zeros(made.model)["pointwise.weight"].reshape(8, 4, 16, 2, 3, 3)
    assert (gone.all((1, 3)) == gone.any((1, 3))).all()
    assert gone.mean() == 0.75


@pytest.mark.parametrize("make", [cnn, transformer, lstm])
@pytest.mark.parametrize("pattern", ["unstructured", "n_m", "block"])
def test_every_pattern_fits_every_network(make: Any, pattern: str, tmp_path: Path) -> None:
    made = prune(Model(make()), tmp_path, pattern={"kind": pattern})
    onnx.checker.check_model(made.model.proto, full_check=True)
    assert 0.45 < made.details["sparsity"] < 0.85


def test_first_last_and_excluded_layers_are_left_out(tmp_path: Path) -> None:
    made = prune(Model(transformer()), tmp_path, skip_first_and_last=True, exclude=["ffn.wide_node"])
    assert list(made.details["layer_sparsity"]) == ["output.weight"]
    assert set(made.details["left_out"]) == {
        *("query.weight", "key.weight", "value.weight", "ffn.weight", "classes.weight")
    }


def test_pruning_twice_reaches_the_larger_share(tmp_path: Path) -> None:
    once = prune(dense(), tmp_path, sparsity=0.5)
    twice = prune(once.model, tmp_path, sparsity=0.75)
    assert twice.details["sparsity"] == 0.75
    assert all((zeros(twice.model)[name] >= gone).all() for name, gone in zeros(once.model).items())


def test_quantization_afterwards_keeps_the_zeros(tmp_path: Path) -> None:
    data = images(12)
    pruned = prune(Model(cnn()), tmp_path, data, training=QUICK | {"epochs": 1})
    gone = zeros(pruned.model)["pointwise.weight"]
    step = StaticQuantization(keep="none", equalization=True, bias_correction=True)
    quantized = step.apply(pruned.model, Context(data, 0, tmp_path)).model
    integers = [
        numpy_helper.to_array(tensor)
        for tensor in quantized.proto.graph.initializer
        if tensor.data_type == TensorProto.INT8 and tuple(tensor.dims) == gone.shape
    ]
    assert len(integers) == 1
    assert (integers[0][gone] == 0).all()


def test_the_download_shrinks_and_the_file_does_not(tmp_path: Path) -> None:
    before = Model(cnn(channels=64))
    made = prune(before, tmp_path)
    before.save(tmp_path / "before.onnx")
    made.model.save(tmp_path / "after.onnx")
    assert made.model.size == before.size
    assert zstd_bytes(tmp_path / "before.onnx") > 2.5 * zstd_bytes(tmp_path / "after.onnx")


def test_a_network_of_first_and_last_layers_alone_says_how_to_prune_it(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        prune(dense(), tmp_path, skip_first_and_last=True)
    assert caught.value.code == "nothing_to_prune"
    assert caught.value.suggestions[0].patch == {"skip_first_and_last": False}
    with pytest.raises(CompressionError) as caught:
        prune(dense(), tmp_path, exclude=["hidden", "head.weight"])
    assert not caught.value.suggestions


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (
            {"schedule": {"kind": "polynomial_decay", "begin_step": 9, "end_step": 8}},
            "end_step 8 precedes begin",
        ),
        (
            {"schedule": {"kind": "polynomial_decay", "initial_sparsity": 0.6}, "sparsity": 0.5},
            "more than the fin",
        ),
        ({"pattern": {"kind": "n_m", "n": 4, "m": 4}}, "n must be smaller than m"),
        (
            {"pattern": {"kind": "n_m", "n": 1, "m": 4}, "sparsity": 0.5},
            "n and m make 0.75 of the weights zero",
        ),
        ({"training": {"patience": 1}}, "patience may stop the training before"),
        (
            {"training": {"patience": 1}, "schedule": {"kind": "constant", "begin_step": 1}},
            "patience may stop",
        ),
        ({"sparsity": 1.0}, "less than 1"),
    ],
)
def test_refused_at_submission(step: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Recipe.model_validate({"steps": [{"technique": "magnitude_pruning", **step}]})


def test_patterns_and_schedules_survive_storage() -> None:
    for step in (
        {"pattern": {"kind": "n_m", "n": 1, "m": 4}},
        {"pattern": {"kind": "block", "outputs": 8}, "sparsity": 0.3},
        {"schedule": {"kind": "constant"}, "training": {"patience": 2}},
    ):
        made = MagnitudePruning.model_validate(step)
        assert MagnitudePruning.model_validate(canonical(made)) == made


def test_data_are_needed_for_training_only() -> None:
    assert MagnitudePruning().required() == {Need.CALIBRATION}
    assert not MagnitudePruning(training=None).required()
    assert not MagnitudePruning.model_validate({"training": {"epochs": 0}}).required()
    by_labels = MagnitudePruning.model_validate({"training": {"loss": "labels"}})
    assert by_labels.required() == {Need.CALIBRATION, Need.LABELS}


@pytest.mark.parametrize("trait", Trait)
def test_what_is_no_float32_is_refused_with_a_way_out(trait: Trait) -> None:
    found = Model(cnn()).inspect().model_copy(update={"traits": frozenset({trait})})
    assert "prune" in str(MagnitudePruning().check(found))


def test_pruning_at_once_needs_no_torch(tmp_path: Path) -> None:
    dense().save(tmp_path / "model.onnx")
    code = (
        "import sys; from pathlib import Path; from compression.step import apply_step;"
        "step = {'technique': 'magnitude_pruning', 'training': None, 'skip_first_and_last': False};"
        f"folder = Path({str(tmp_path)!r});"
        "apply_step(step, folder / 'model.onnx', None, folder / 'out.onnx', seed=0, scratch=folder);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
