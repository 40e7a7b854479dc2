import numpy as np
import pytest

from compression import fit
from compression.errors import FieldError
from compression.inspection import ArraySpec, DatasetInspection, ModelInspection, TensorSpec


def model(*inputs: TensorSpec) -> ModelInspection:
    return ModelInspection(
        format="onnx",
        opset=17,
        ir_version=8,
        producer="",
        inputs=inputs,
        outputs=(),
        operators={},
        nodes=0,
        params=0,
        macs=None,
        bytes=0,
        traits=frozenset(),
    )


def data(*arrays: tuple[str, str, tuple[int, ...]]) -> DatasetInspection:
    specs = tuple(
        ArraySpec(name=name, split="test", dtype=dtype, shape=shape) for name, dtype, shape in arrays
    )
    return DatasetInspection(format="npz", arrays=specs, splits={"test": 5}, labelled=False, bytes=0)


IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 28, 28))


def test_uint8_images_fit_whatever_the_only_array_is_called() -> None:
    assert (
        fit.misfits(model(IMAGE), data(("pictures", "uint8", (5, 1, 28, 28)), ("label", "int64", (5,)))) == []
    )


def test_says_which_input_what_it_wants_and_what_it_got() -> None:
    assert fit.misfits(model(IMAGE), data(("image", "uint8", (5, 28, 28)))) == [
        FieldError(
            "/dataset_id",
            "split 'test': input 'image' wants float32 [batch, 1, 28, 28], "
            "array 'image' is uint8 [5, 28, 28] (its first axis counts samples)",
        )
    ]


def test_names_an_input_without_array() -> None:
    mask = TensorSpec(name="mask", dtype="bool", shape=("batch", None))
    (error,) = fit.misfits(model(IMAGE, mask), data(("image", "uint8", (5, 1, 28, 28))))
    assert (
        error.detail
        == "split 'test': input 'mask' wants bool [batch, ?], the data set has 'image' [5, 1, 28, 28]"
    )


def test_tokens_that_the_model_does_not_know() -> None:
    tokens = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "length"))
    encoder = model(tokens).model_copy(update={"lookups": {"input_ids": 100}})
    texts = data(("input_ids", "int64", (8, 4)))
    assert fit.misfits(encoder, texts.model_copy(update={"largest": {"input_ids": 99}})) == []
    (error,) = fit.misfits(encoder, texts.model_copy(update={"largest": {"input_ids": 100}}))
    assert error.detail.startswith("input 'input_ids' takes integers below 100, those of the data set go up")


def test_refuses_a_cast_that_loses_values() -> None:
    tokens = TensorSpec(name="tokens", dtype="int32", shape=("batch", "length"))
    (error,) = fit.misfits(model(tokens), data(("tokens", "int64", (5, 9))))
    assert "would lose values; convert it to int32" in error.detail


@pytest.mark.parametrize(
    "want", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint16"]
)
@pytest.mark.parametrize(
    "have", ["bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32"]
)
def test_casts_are_those_numpy_calls_safe(have: str, want: str) -> None:
    assert fit.castable(have, want) == np.can_cast(have, want, "safe")


def test_the_default_float_of_numpy_is_taken() -> None:
    assert fit.castable("float64", "float32")
    assert not fit.castable("float64", "float16")


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        (("batch", 3), (5, 3), "batched"),
        ((1, 3), (5, 3), "batched"),
        ((2, 3), (5, 2, 3), "single"),
        ((), (5,), "single"),
        (("batch", 3), (5, 4), None),
        (("batch",), (5, 3, 3), None),
    ],
)
def test_layout(wanted: tuple[int | str, ...], given: tuple[int, ...], expected: str | None) -> None:
    assert fit.layout(TensorSpec(name="x", dtype="float32", shape=wanted), given) == expected


def test_batch_is_what_the_model_fixes() -> None:
    fixed, free = (
        TensorSpec(name=name, dtype="float32", shape=(first, 3)) for name, first in (("a", 4), ("b", "n"))
    )
    scalar = TensorSpec(name="c", dtype="int64", shape=())
    shapes = {"a": (9, 3), "b": (9, 3), "c": (9,)}
    assert fit.batch_size([free], shapes, 64) == 64
    assert fit.batch_size([free, fixed], shapes, 64) == 4
    assert fit.batch_size([free, scalar], shapes, 64) == 1
