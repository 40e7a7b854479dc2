from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from pydantic import ValidationError

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.graph.layers import Layers
from compression.inspection import Trait
from compression.measure.size import zstd_bytes
from compression.model import Model
from compression.technique import Applied, Context, Need
from compression.techniques.magnitude_pruning import MagnitudePruning
from compression.techniques.quantization_aware_training import QuantizationAwareTraining
from compression.techniques.static_quantization import StaticQuantization
from compression.techniques.weight_clustering import WeightClustering
from tests.compression.networks import cnn, lstm, transformer

QUICK = {"epochs": 1, "batch_size": 32, "precision": "float32", "validation": 0}
LARGE = "pointwise.weight"


def images(samples: int = 160) -> Dataset:
    values = np.random.default_rng(0).normal(0, 1, (samples, 1, 12, 12)).astype(np.float32)
    return Dataset({"calibration/image": values}, 0)


def cluster(model: Model, folder: Path, data: Dataset | None = None, **step: Any) -> Applied:
    made = WeightClustering.model_validate({"training": None} | step)
    return made.apply(model, Context(data, 0, folder))


def values(model: Model) -> dict[str, int]:
    names = [layer.weight for layer in Layers(model.proto.graph).all]
    return {name: len(np.unique(model.initializer(name))) for name in names}


def integers(model: Model, shape: tuple[int, ...]) -> np.ndarray:
    (found,) = [
        numpy_helper.to_array(tensor)
        for tensor in model.proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and tuple(tensor.dims) == shape
    ]
    return found


@pytest.mark.parametrize("make", [cnn, transformer, lstm])
def test_every_layer_has_no_more_values_than_clusters(make: Any, tmp_path: Path) -> None:
    made = cluster(Model(make()), tmp_path, clusters=8)
    onnx.checker.check_model(made.model.proto, full_check=True)
    assert max(values(made.model).values()) <= 8
    assert values(made.model) == made.details["layer_values"]
    assert all(0 < error < 0.1 for error in made.details["layer_error"].values())


def test_the_function_stays_near_and_more_clusters_are_nearer(tmp_path: Path) -> None:
    model, data = Model(cnn()), images()

    def outputs(of: Model) -> np.ndarray:
        return next(runtime.run_split(runtime.session(of.proto), data.splits["calibration"], of.inputs))[
            "logits"
        ]

    before = outputs(model)
    noises = [
        float(np.linalg.norm(outputs(cluster(model, tmp_path, clusters=count).model) - before))
        for count in (4, 16, 256)
    ]
    assert noises[0] > 2 * noises[1] > 4 * noises[2]


def test_training_moves_values_together_and_lowers_the_loss(tmp_path: Path) -> None:
    model, data = Model(cnn()), images()
    untrained = cluster(model, tmp_path, clusters=4).model
    training = QUICK | {"epochs": 6, "learning_rate": 0.003, "patience": None}
    trained = cluster(model, tmp_path, data, clusters=4, training=training)
    history = trained.details["training"]["history"]
    assert history[-1]["loss"] < history[0]["loss"]
    for name in values(untrained):
        old, new = untrained.initializer(name), trained.model.initializer(name)
        pairs = set(zip(old.ravel().tolist(), new.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(old)), "a cluster was split"
        assert not np.array_equal(old, new)


def test_zeros_of_pruning_stay(tmp_path: Path) -> None:
    pruning = MagnitudePruning.model_validate({"training": None, "sparsity": 0.6})
    pruned = pruning.apply(Model(cnn()), Context(None, 0, tmp_path)).model
    gone = pruned.initializer(LARGE) == 0
    made = cluster(pruned, tmp_path, images(), training=QUICK)
    assert np.array_equal(made.model.initializer(LARGE) == 0, gone)
    assert values(made.model)[LARGE] <= 16
    int8 = StaticQuantization(keep="none").apply(made.model, Context(images(), 0, tmp_path)).model
    assert (integers(int8, gone.shape)[gone] == 0).all()


def test_int8_keeps_the_values_shared(tmp_path: Path) -> None:
    context = Context(images(), 0, tmp_path)
    clustered = cluster(Model(cnn()), tmp_path).model
    shape = clustered.initializer(LARGE).shape
    static = StaticQuantization(keep="none").apply(clustered, context).model
    qat = {"keep": "none", "training": QUICK}
    held, free = (
        QuantizationAwareTraining.model_validate(qat | {"preserve_clusters": preserve})
        .apply(clustered, context)
        .model
        for preserve in (True, False)
    )
    assert len(np.unique(integers(static, shape))) <= 16
    assert len(np.unique(integers(held, shape))) <= 16 < len(np.unique(integers(free, shape)))


def test_the_download_shrinks_and_the_file_does_not(tmp_path: Path) -> None:
    before = Model(cnn(channels=128))
    made = cluster(before, tmp_path).model
    before.save(tmp_path / "before.onnx")
    made.save(tmp_path / "after.onnx")
    assert zstd_bytes(tmp_path / "before.onnx") > 6 * zstd_bytes(tmp_path / "after.onnx")
    assert made.size > 0.9 * before.size


def test_excluded_layers_keep_their_weights(tmp_path: Path) -> None:
    before = Model(transformer())
    made = cluster(before, tmp_path, exclude=["query.weight"], skip_first_and_last=True)
    left_out = made.details["left_out"]
    assert {"query.weight", "classes.weight"} <= set(left_out)
    for name in left_out:
        assert np.array_equal(before.initializer(name), made.model.initializer(name))
    with pytest.raises(CompressionError) as caught:
        cluster(before, tmp_path, exclude=list(values(before)))
    assert caught.value.code == "nothing_to_cluster"


def test_statistics_of_batches_are_refused_as_folding_splits_clusters() -> None:
    with pytest.raises(ValidationError, match="values of its own"):
        WeightClustering.model_validate({"training": {"batchnorm": "train"}})


def test_data_are_needed_for_training_only() -> None:
    assert WeightClustering().required() == {Need.CALIBRATION}
    assert not WeightClustering(training=None).required()


@pytest.mark.parametrize("trait", Trait)
def test_what_is_no_float32_is_refused_with_a_way_out(trait: Trait) -> None:
    found = Model(cnn()).inspect().model_copy(update={"traits": frozenset({trait})})
    assert "cluster" in str(WeightClustering().check(found))


def test_proposes_a_smaller_download_and_no_speed() -> None:
    (proposal,) = WeightClustering.proposals(Model(cnn()).inspect(), None)
    assert proposal.smaller > 2
    assert proposal.faster == 1.0
