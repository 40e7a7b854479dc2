"""A model and a data set that do not belong together are called out by a few samples."""

import numpy as np
import pytest
from onnx import helper

from compression.errors import CompressionError
from compression.measure import glance as module
from compression.measure.glance import glance
from tests.compression.conftest import Normalise, Pack
from tests.compression.networks import Builder, F
from tests.compression.test_measure import regression

RANDOM = np.random.default_rng(0)
LABELS = np.sort(RANDOM.integers(0, 4, 3000))
"""By class, as directories give them."""
SEEN = (np.eye(4)[LABELS] + 0.2 * RANDOM.standard_normal((3000, 4))).astype(np.float32)


def scales(classes: int = 4, batch: str | int = "n") -> object:
    """Decides for the largest of its inputs."""
    b = Builder()
    b.node("Mul", ["x", b.constant("two", np.full(classes, 2, np.float32))], "y")
    ends = [helper.make_tensor_value_info(name, F, [batch, classes]) for name in "xy"]
    return b.model(ends[:1], ends[1:])


def test_nothing_is_said_where_they_fit(normalise: Normalise, pack: Pack) -> None:
    assert glance(normalise(scales()), pack({"test/x": SEEN, "test/label": LABELS})) == ()


@pytest.mark.parametrize("batch", ["n", 7])
def test_another_order_of_classes(batch: str | int, normalise: Normalise, pack: Pack) -> None:
    data = pack({"test/x": SEEN[:, [1, 2, 3, 0]], "test/label": LABELS})
    (said,) = glance(normalise(scales(batch=batch)), data)
    assert "of the samples instead of 0% were classes numbered otherwise" in said
    assert "options.classes" in said


def test_another_preprocessing(normalise: Normalise, pack: Pack) -> None:
    """Noise to the model."""
    data = pack({"test/x": RANDOM.standard_normal((3000, 4)).astype(np.float32), "test/label": LABELS})
    (said,) = glance(normalise(scales()), data)
    assert "no more often than by guessing" in said


def test_guessing_among_more_classes_than_are_confused(normalise: Normalise, pack: Pack) -> None:
    labels = RANDOM.integers(0, 300, 600)
    noise = RANDOM.standard_normal((600, 300)).astype(np.float32)
    original = normalise(scales(300))
    (said,) = glance(original, pack({"test/x": noise, "test/label": labels}))
    assert "no more often than by guessing" in said
    seen = noise + 9 * np.eye(300, dtype=np.float32)[labels]
    assert glance(original, pack({"test/x": seen, "test/label": labels})) == ()


def test_numbers_further_off_than_their_mean(normalise: Normalise, pack: Pack) -> None:
    x = RANDOM.standard_normal((600, 3)).astype(np.float32)
    original = normalise(regression())
    (said,) = glance(original, pack({"test/x": x, "test/label": x * 1000 + 5000}))
    assert said.startswith("the original is no nearer to the labels than their mean (R2 -")
    assert glance(original, pack({"test/x": x, "test/label": x + 0.1})) == ()


def test_too_little_to_tell(normalise: Normalise, pack: Pack) -> None:
    original = normalise(scales())
    assert glance(original, pack({"test/x": SEEN[:40] * 0, "test/label": LABELS[:40]})) == ()
    assert glance(original, pack({"test/x": SEEN})) == ()


def test_a_few_samples_are_enough(normalise: Normalise, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time ends the look after one batch of 64, which holds all classes."""
    monkeypatch.setattr(module, "_SECONDS", -1.0)
    data = pack({"test/x": SEEN[:, ::-1], "test/label": LABELS})
    (said,) = glance(normalise(scales()), data)
    assert "classes numbered otherwise" in said


def test_a_data_set_of_another_model(normalise: Normalise, pack: Pack) -> None:
    with pytest.raises(CompressionError, match="dataset_misfit"):
        glance(normalise(scales()), pack({"test/x": SEEN[:, :3], "test/label": LABELS}))
