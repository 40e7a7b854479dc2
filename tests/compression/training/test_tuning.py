"""Fine-tuning a model: BatchNormalization put back meanwhile, nodes and names as before."""

from pathlib import Path

import numpy as np
import pytest

from compression.dataset import Dataset, Split
from compression.engine import fold_batchnorm
from compression.errors import CompressionError
from compression.model import Model
from compression.technique import Context
from compression.training import tuning
from compression.training.options import Training
from compression.training.tuning import fine_tune, samples
from tests.compression.networks import cnn
from tests.compression.training.problems import context


def pictures(n: int = 96) -> Split:
    random = np.random.default_rng(0)
    return Split({"image": random.integers(0, 256, (n, 1, 12, 12), np.uint8)}, random.integers(0, 10, n))


def shape_of(model: Model) -> list[tuple[object, ...]]:
    nodes = [(node.op_type, node.name, *node.input, *node.output) for node in model.proto.graph.node]
    return sorted([*nodes, *((tensor.name, *tensor.dims) for tensor in model.proto.graph.initializer)])


def put_back(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models BatchNormalization was put into."""
    seen: list[Model] = []
    insert = tuning.insert_batchnorm
    monkeypatch.setattr(
        tuning, "insert_batchnorm", lambda model, batches: seen.append(model) or insert(model, batches)
    )
    return seen


@pytest.mark.parametrize(
    ("training", "cut", "back"),
    [
        (Training(epochs=20, batch_size=64), True, True),
        (Training(epochs=20, batch_size=64), False, False),
        (Training(epochs=20, batch_size=32), True, False),
        (Training(epochs=3, batch_size=64), True, False),
        (Training(epochs=20, batch_size=64, batchnorm="frozen"), True, False),
        (Training(epochs=1, batch_size=32, batchnorm="train"), False, True),
    ],
)
def test_batchnorm_is_put_back_where_it_helps(
    training: Training, cut: bool, back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = put_back(monkeypatch)
    folded = fold_batchnorm(Model(cnn(channels=8)))
    trained, _ = fine_tune(folded, training, context(tmp_path, pictures()), renormalise=cut)
    assert bool(seen) == back
    assert shape_of(trained) == shape_of(folded)
    assert (trained.inputs, trained.outputs) == (folded.inputs, folded.outputs)


def test_the_model_given_is_untouched(tmp_path: Path) -> None:
    model = Model(cnn(channels=8))
    before = model.serialized
    trained, _ = fine_tune(model, Training(), context(tmp_path, pictures()))
    assert model.serialized == before != trained.serialized


def test_trains_on_the_train_split_else_on_the_one_for_calibration(tmp_path: Path) -> None:
    arrays = {"train/image": np.zeros(3), "calibration/image": np.zeros(5), "test/image": np.zeros(7)}
    for taken in (3, 5):
        assert samples(Context(Dataset(dict(arrays), 0), 0, tmp_path)).n == taken
        arrays.pop(next(iter(arrays)))
    for data in (None, Dataset(arrays, 0)):
        with pytest.raises(CompressionError, match="no_training_samples"):
            samples(Context(data, 0, tmp_path))
