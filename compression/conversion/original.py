"""Original: a model as its own framework runs it, about to become ONNX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Argument:
    """One input. A dynamic axis of `shape` is its name; axes of one name are equally long."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    below: int = 2
    """Integers are drawn from 0 up to this: the size of a vocabulary, say."""
    ones: bool = False
    """A mask: what is masked differs from model to model, what is not is the same everywhere."""


@dataclass(frozen=True, eq=False)
class Original:
    """`module.forward(*tensors)` takes those of `arguments` in order and returns a tuple of `outputs`."""

    framework: str
    version: str
    module: nn.Module
    arguments: tuple[Argument, ...]
    outputs: tuple[str, ...]
    channels_last: bool = False
    """Its convolutions keep channels last."""


def sample(
    arguments: Sequence[Argument], sizes: Mapping[str, int], generator: np.random.Generator
) -> dict[str, Array]:
    """Random values by name of the argument: integers below its bound, else of the normal distribution."""
    return {argument.name: _values(argument, sizes, generator) for argument in arguments}


def axes(arguments: Sequence[Argument]) -> list[str]:
    """The names of dynamic axes, each once."""
    return list(dict.fromkeys(axis for one in arguments for axis in one.shape if isinstance(axis, str)))


def _values(argument: Argument, sizes: Mapping[str, int], generator: np.random.Generator) -> Array:
    shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in argument.shape)
    dtype = np.dtype(argument.dtype)
    if argument.ones:
        return np.ones(shape, dtype)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return _mask(generator.integers(0, 2, shape).astype(dtype))
    return generator.integers(0, argument.below, shape).astype(dtype)


def _mask(values: Array) -> Array:
    """Some of each: where all is masked, there are no numbers to compare."""
    if values.ndim:
        values[..., 0], values[..., -1] = True, False
    return values
