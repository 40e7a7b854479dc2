"""Dataset: a normalised `.npz` whose arrays are mapped into memory, never read as a whole."""

import mmap
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from compression import fit
from compression.errors import CompressionError
from compression.inspection import ArraySpec, DatasetInspection, TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]
_LOCAL_HEADER = struct.Struct("<26xHH")


@dataclass(frozen=True, eq=False)
class Split:
    """Samples along the first axis of every array; all arrays are as long as each other."""

    arrays: Mapping[str, Array]
    labels: Array | None

    @property
    def n(self) -> int:
        return len(next(iter(self.arrays.values())))

    def feeds(self, inputs: Sequence[TensorSpec]) -> dict[str, Array]:
        """The array of each input.

        Errors: CompressionError `dataset_misfit`.
        """
        assigned = fit.assign(inputs, self.arrays)
        for spec in inputs:
            array = self.arrays.get(assigned.get(spec.name, ""))
            if (
                array is None
                or fit.layout(spec, array.shape) is None
                or not fit.castable(array.dtype.name, spec.dtype)
            ):
                raise CompressionError("dataset_misfit", f"the data set does not fit input {spec.name!r}")
        return {name: self.arrays[array] for name, array in assigned.items()}

    def batch_size(self, inputs: Sequence[TensorSpec], wanted: int) -> int:
        """Samples in one run: `wanted`, unless the model fixes it."""
        shapes = {name: array.shape for name, array in self.feeds(inputs).items()}
        return fit.batch_size(inputs, shapes, wanted)

    def batches(self, inputs: Sequence[TensorSpec], size: int) -> Iterator[dict[str, Array]]:
        """Feeds in the order of the data set, `size` samples each (fewer where the model fixes it); the last
        is short.
        """
        feeds = self.feeds(inputs)
        size = self.batch_size(inputs, size)
        for start in range(0, self.n, size):
            yield {spec.name: _slice(feeds[spec.name], spec, start, size) for spec in inputs}
            for array in feeds.values():
                _forget(array)


def _forget(array: Array) -> None:
    """Takes the pages read so far out of this process: a pass over the data needs no memory that grows with
    it.
    """
    if isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)


def _slice(array: Array, spec: TensorSpec, start: int, size: int) -> Array:
    single = fit.layout(spec, array.shape) == "single"
    part = array[start] if single else array[start : start + size]
    return np.ascontiguousarray(part, dtype=spec.dtype).reshape(part.shape)


@dataclass(frozen=True, eq=False)
class Dataset:
    arrays: Mapping[str, Array]
    """By member name, `split/name`."""
    size: int

    @classmethod
    def open(cls, path: Path) -> "Dataset":
        """A file that `formats` wrote; hostile ones go through there first."""
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            arrays = {
                info.filename.removesuffix(".npy"): _map(path, file, info) for info in archive.infolist()
            }
        return cls(arrays, path.stat().st_size)

    @cached_property
    def splits(self) -> Mapping[str, Split]:
        found = {}
        for split in sorted({name.split("/")[0] for name in self.arrays}):
            own = {
                name.split("/", 1)[1]: array
                for name, array in self.arrays.items()
                if name.startswith(f"{split}/")
            }
            labels = next((own[name] for name in fit.LABELS if name in own), None)
            found[split] = Split(
                {name: array for name, array in own.items() if name not in fit.LABELS}, labels
            )
        return found

    def split(self, name: str) -> Split | None:
        return self.splits.get(name)

    @cached_property
    def inspection(self) -> DatasetInspection:
        specs = []
        for member, array in self.arrays.items():
            split, name = member.split("/", 1)
            specs.append(ArraySpec(name=name, split=split, dtype=array.dtype.name, shape=array.shape))
        return DatasetInspection(
            format="npz",
            arrays=tuple(specs),
            splits={name: split.n for name, split in self.splits.items()},
            labelled="test" in self.splits and self.splits["test"].labels is not None,
            bytes=self.size,
        )


def _map(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> Array:
    file.seek(info.header_offset)
    name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    file.seek(info.header_offset + _LOCAL_HEADER.size + name_length + extra_length)
    npy.read_magic(file)
    shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran_order else "C")
