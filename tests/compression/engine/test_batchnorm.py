"""BatchNormalization put back starts as the identity and folds away without a trace."""

from collections import Counter

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from compression.engine import Engine, Role, fold_batchnorm, insert_batchnorm
from compression.model import Model
from tests.compression.engine.graphs import Array, check, classifier, model, node, noise, onnxruntime


def batches(count: int = 3) -> list[dict[str, torch.Tensor]]:
    return [{"image": torch.from_numpy(noise(4, 3, 8, 8, seed=seed))} for seed in range(count)]


def kinds(subject: Model) -> Counter[str]:
    check(subject)
    return Counter(entry.op_type for entry in subject.proto.graph.node)


def stored(subject: Model) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in subject.proto.graph.initializer}


def close(one: Model, other: Model) -> None:
    image = {"image": noise(4, 3, 8, 8, seed=9)}
    (a,), (b,) = onnxruntime(one, image), onnxruntime(other, image)
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_folding_keeps_function_and_names() -> None:
    before = classifier()
    folded = fold_batchnorm(before)
    assert kinds(folded)["BatchNormalization"] == 0
    close(folded, before)
    assert stored(folded).keys() == {
        *("stem.weight", "norm.bias", "body.weight", "body.bias", "head.weight", "head.bias")
    }


def test_inserting_keeps_the_function_and_folds_back() -> None:
    before = fold_batchnorm(classifier())
    inserted = insert_batchnorm(before, batches())
    assert kinds(inserted)["BatchNormalization"] == 2
    close(inserted, before)
    after = fold_batchnorm(inserted)
    assert kinds(after) == kinds(before)
    assert stored(after).keys() == stored(before).keys()
    for name, value in stored(after).items():
        np.testing.assert_allclose(value, stored(before)[name], rtol=1e-6, atol=1e-6)


def test_statistics_are_those_of_all_batches() -> None:
    before = fold_batchnorm(classifier())
    engine = Engine.from_model(before, outputs=["body"]).eval()
    together = torch.cat([engine(batch)["body"] for batch in batches()]).detach()
    values = stored(insert_batchnorm(before, batches()))
    np.testing.assert_allclose(values["body.bias"], together.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    variance = together.var((0, 2, 3), unbiased=False)
    np.testing.assert_allclose(values["body_bn_variance"], variance, rtol=1e-4)


def test_an_inserted_normalisation_trains() -> None:
    engine = Engine.from_model(insert_batchnorm(fold_batchnorm(classifier()), batches())).train()
    before = engine.values()["body_bn_mean"].clone()
    engine(batches()[0])["logits"].square().sum().backward()
    assert engine.roles["body_bn_scale"] is Role.SCALE
    assert bool(engine.values()["body_bn_scale"].grad.any())
    assert not torch.equal(engine.values()["body_bn_mean"], before)


def test_what_has_one_is_left_alone() -> None:
    before = classifier()
    inserted = insert_batchnorm(before, batches())
    assert kinds(inserted)["BatchNormalization"] == 2
    assert "stem_bn_scale" not in stored(inserted)


def test_a_shared_weight_is_left_alone() -> None:
    nodes = [node("Conv", ["image", "w"], "a"), node("Conv", ["a", "w"], "y")]
    subject = model(nodes, [("image", ["batch", 3, 8, 8])], ["y"], {"w": noise(3, 3, 1, 1)})
    assert insert_batchnorm(subject, batches()).serialized == subject.serialized


@pytest.mark.parametrize(("groups", "folds"), [(1, True), (3, False)])
def test_transposed_convolutions(groups: int, folds: bool) -> None:
    nodes = [
        node("ConvTranspose", ["image", "w"], "a", group=groups, strides=[2, 2]),
        node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], "y"),
    ]
    values = {name: noise(6, seed=n) for n, name in enumerate(("scale", "bias", "mean"))}
    values |= {"variance": noise(6) ** 2 + 1, "w": noise(3, 6 // groups, 2, 2)}
    before = model(nodes, [("image", ["batch", 3, 8, 8])], ["y"], values)
    folded = fold_batchnorm(before)
    assert (kinds(folded)["BatchNormalization"] == 0) is folds
    close(folded, before)
