"""Can one model take another's place? Decided on inspections alone, without opening either."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from compression.fit import written
from compression.inspection import TensorSpec

Specs = Sequence[TensorSpec]


class Interface(Protocol):
    """A model, or what is known of one."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...


def paired(specs: Specs, others: Specs) -> list[tuple[TensorSpec, TensorSpec]]:
    """By name where the names are the same, else by order; both must be as many."""
    named = {other.name: other for other in others}
    if set(named) == {spec.name for spec in specs}:
        return [(spec, named[spec.name]) for spec in specs]
    return list(zip(specs, others, strict=True))


def misfit(model: Interface, other: Interface) -> str | None:
    """Why the other cannot take the model's place; None if it can, perhaps under new names of its inputs and
    outputs. Where one of them leaves a size open that the other fixes, only a run can tell.
    """
    return next(_misfits("input", model.inputs, other.inputs), None) or next(
        _misfits("output", model.outputs, other.outputs), None
    )


def _misfits(kind: str, specs: Specs, others: Specs) -> Iterator[str]:
    if len(specs) != len(others):
        yield f"it has {len(others)} {kind}s where the model has {len(specs)}"
        return
    for spec, other in paired(specs, others):
        if spec.dtype != other.dtype or not _agree(spec.shape, other.shape, fixed=kind == "output"):
            yield (
                f"its {kind} {other.name!r} is {other.dtype} {written(other.shape)} where the model's "
                f"{spec.name!r} is {spec.dtype} {written(spec.shape)}"
            )


def _agree(shape: Sequence[int | str | None], other: Sequence[int | str | None], *, fixed: bool) -> bool:
    """`fixed`: the other may fix a size that the model leaves open; an input that does takes less than the
    model.
    """
    return len(shape) == len(other) and all(
        size == have
        if isinstance(size, int) and isinstance(have, int)
        else fixed or not isinstance(have, int)
        for size, have in zip(shape, other, strict=True)
    )
