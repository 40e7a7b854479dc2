"""Does a data set fit a model? Decided on inspections alone, without opening either."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from compression.errors import FieldError
from compression.inspection import ArraySpec, DatasetInspection, ModelInspection, TensorSpec

LABELS = ("label", "labels")
Shape = Sequence[int]

_EXACT = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 64}
"""Integers of at most so many bits are taken: those a float holds exactly, and int64 as float64, as numpy
does.
"""


def assign(inputs: Sequence[TensorSpec], arrays: Iterable[str]) -> dict[str, str]:
    """Input name -> array name. A model with one input takes the only array, whatever its name."""
    names = [name for name in arrays if name not in LABELS]
    matched = {spec.name: spec.name for spec in inputs if spec.name in names}
    if not matched and len(inputs) == len(names) == 1:
        matched = {inputs[0].name: names[0]}
    return matched


def layout(wanted: TensorSpec, shape: Shape) -> Literal["batched", "single"] | None:
    """`batched`: both first axes count samples. `single`: the input has no batch axis and takes one sample a
    run.
    """
    if wanted.shape and _agrees(wanted.shape[1:], shape[1:]):
        return "batched"
    return "single" if _agrees(wanted.shape, shape[1:]) else None


def _agrees(wanted: Sequence[int | str | None], given: Shape) -> bool:
    return len(wanted) == len(given) and all(
        not isinstance(size, int) or size == have for size, have in zip(wanted, given, strict=True)
    )


def batch_size(inputs: Sequence[TensorSpec], shapes: Mapping[str, Shape], wanted: int) -> int:
    """How many samples one run takes: the model's fixed batch, 1 for an input without a batch axis, else
    `wanted`.
    """
    sizes = []
    for spec in inputs:
        if layout(spec, shapes[spec.name]) == "single":
            sizes.append(1)
        elif isinstance(spec.shape[0], int):
            sizes.append(spec.shape[0])
    return min(sizes, default=wanted)


def castable(have: str, want: str) -> bool:
    """Whether values survive: a wider type of the same kind, integers a float holds exactly, and float64 ->
    float32.
    """
    if have in {want, "bool"}:
        return want != "string"
    have_kind, have_bits = _kind(have)
    want_kind, want_bits = _kind(want)
    if have_kind == "float":
        return want_kind == "float" and (want_bits >= have_bits or want == "float32")
    if want_kind == "float":
        return have_bits <= _EXACT[want]
    if have_kind == want_kind:
        return want_bits >= have_bits
    return have_kind == "uint" and want_kind == "int" and want_bits > have_bits


def _kind(dtype: str) -> tuple[str, int]:
    match = re.fullmatch(r"b?(float|uint|int)(\d+)", dtype)
    return (match[1], int(match[2])) if match else (dtype, 0)


def misfits(model: ModelInspection, data: DatasetInspection) -> list[FieldError]:
    """Every input that some split cannot feed: which one, what it wants, and what it got. Empty if
    all fits.
    """
    reasons: list[str] = []
    for split in data.splits:
        arrays = {array.name: array for array in data.arrays if array.split == split}
        assigned = assign(model.inputs, arrays)
        for spec in model.inputs:
            reason = _misfit(spec, arrays, assigned.get(spec.name))
            if reason:
                reasons.append(f"split {split!r}: {reason}")
    reasons += _beyond(model, data)
    return [FieldError("/dataset_id", reason) for reason in reasons]


def _beyond(model: ModelInspection, data: DatasetInspection) -> Iterator[str]:
    """Integers that no row of the model's table has."""
    assigned = assign(model.inputs, {array.name for array in data.arrays})
    for name, rows in model.lookups.items():
        largest = data.largest.get(assigned.get(name, ""), 0)
        if largest >= rows:
            yield (
                f"input {name!r} takes integers below {rows}, those of the data set go up to {largest}: "
                "another tokenizer than the model's?"
            )


def _misfit(spec: TensorSpec, arrays: Mapping[str, ArraySpec], name: str | None) -> str | None:
    wants = f"input {spec.name!r} wants {spec.dtype} {written(spec.shape)}"
    if name is None:
        have = ", ".join(
            f"{array.name!r} {written(array.shape)}" for array in arrays.values() if array.name not in LABELS
        )
        return f"{wants}, the data set has {have or 'no array'}"
    array = arrays[name]
    if layout(spec, array.shape) is None:
        got = f"array {name!r} is {array.dtype} {written(array.shape)}"
        return f"{wants}, {got} (its first axis counts samples)"
    if not castable(array.dtype, spec.dtype):
        return (
            f"{wants}, array {name!r} is {array.dtype}, which would lose values; convert it to {spec.dtype}"
        )
    return None


def written(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
