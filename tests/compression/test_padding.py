"""What is told of texts does not hang on their padding."""

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from compression import padding
from compression.dataset import Split
from compression.dropping.outputs import Outputs
from compression.factorization import layers
from compression.factorization.observation import Samples, observe, place
from compression.factorization.sensitivity import sensitivities
from compression.graph.channels import recording
from compression.measurement import WantedTask
from compression.model import Model
from tests.compression.encoders import encoder

TASKS: tuple[WantedTask, ...] = ("auto", "similarity")


def texts(junk: int, padded: int = 4) -> Split:
    """Of five tokens, and so many times a token that is none."""
    ids = np.full((24, 5 + padded), junk)
    ids[:, :5] = np.random.default_rng(0).integers(1, 50, (24, 5))
    mask = np.zeros_like(ids)
    mask[:, :5] = 1
    return Split({"input_ids": ids, "attention_mask": mask}, None)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(encoder())


def changed(model: Model, name: str, factor: float) -> Model:
    """With a tensor times a factor."""
    proto = model.copy()
    for tensor in proto.graph.initializer:
        if tensor.name.startswith(name):
            tensor.CopyFrom(
                numpy_helper.from_array(np.float32(factor) * numpy_helper.to_array(tensor), tensor.name)
            )
    return Model(proto)


def test_moments_are_those_of_texts_without_padding(model: Model, tmp_path: Path) -> None:
    shapes = recording.shapes(model.proto, {n: a[:1] for n, a in texts(1).arrays.items()})
    places = [place(layer) for layer in layers.find(model.proto, shapes)]
    assert len(places) == 6
    observed = []
    for padded in (4, 0):
        scratch = tmp_path / str(padded)
        scratch.mkdir()
        observed.append(observe(model.proto, places, Samples(texts(7, padded), 24, 1, scratch, 0)))
    with_padding, plain = observed
    for at in places:
        np.testing.assert_allclose(with_padding[at].mean, plain[at].mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(with_padding[at].second, plain[at].second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_what_an_error_does_to_padding_counts_for_nothing(model: Model, task: WantedTask) -> None:
    shapes = recording.shapes(model.proto, {n: a[:1] for n, a in texts(1).arrays.items()})
    found = layers.find(model.proto, shapes)
    one, other = (
        sensitivities(model, found, Samples(texts(junk), 24, 1, Path(), 0, task)) for junk in (1, 7)
    )
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-3)
    assert len({round(float(values.sum()), 6) for values in one.values()}) > 4


@pytest.mark.parametrize("task", TASKS)
def test_distances_of_outputs_do_not_see_padding(model: Model, task: WantedTask) -> None:
    after = changed(model, "narrow.weight", 0.5)
    one, other = (
        Outputs(model.proto, model.inputs, texts(junk), 24, 1, task).distance(after.proto) for junk in (1, 7)
    )
    assert one > 0.001
    assert one == pytest.approx(other, rel=1e-4)


def test_the_length_of_an_embedding_is_not_compared(model: Model) -> None:
    doubled = changed(model, "last.", 2.0)
    hidden, embedding = (
        Outputs(model.proto, model.inputs, texts(1), 24, 1, task).distance(doubled.proto) for task in TASKS
    )
    assert hidden == pytest.approx(1.0, rel=1e-3)
    assert embedding < 1e-9


@pytest.mark.parametrize(
    ("shape", "mask"), [((2, 3), [[1, 0, 0], [1, 1, 0]]), ((2, 3, 4), [[0, 0, 0], [0, 0, 0]])]
)
def test_what_no_mask_fits_stays(shape: tuple[int, ...], mask: list[list[int]]) -> None:
    values = np.ones(shape, np.float32)
    assert padding.rows(values, {"attention_mask": np.array(mask)}) is values
    assert padding.rows(values, {}) is values
