"""Batches are a function of seed and step, whoever asks, and in which order."""

import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from compression.dataset import Split
from compression.errors import CompressionError
from compression.inspection import TensorSpec
from compression.training.batches import Batch, Batches, Indices, augmented, sample_axis
from compression.training.options import Augmentation, Training
from compression.training.validation import held_out

_IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 6, 6))


def split(n: int = 50, labels: type = np.uint16) -> Split:
    random = np.random.default_rng(0)
    return Split({"image": random.integers(0, 256, (n, 1, 6, 6), np.uint8)}, np.arange(n).astype(labels))


def batches(data: Split, size: int = 8, **more: object) -> Batches:
    return Batches(split=data, inputs=[_IMAGE], indices=np.arange(data.n), size=size, seed=7, **more)  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    assert one.labels is not None
    assert other.labels is not None
    return torch.equal(one.inputs["image"], other.inputs["image"]) and torch.equal(one.labels, other.labels)


_MOVED = Augmentation(horizontal_flip=True, shift=2)


def test_the_stream_is_the_steps_wherever_it_starts() -> None:
    whole = list(batches(split(), augmentation=_MOVED).stream(0, 14))
    late = list(batches(split(), augmentation=_MOVED).stream(9, 14))
    backwards = [batches(split(), augmentation=_MOVED).of_step(step) for step in range(13, -1, -1)][::-1]
    assert all(same(*pair) for pair in zip(whole[9:], late, strict=True))
    assert all(same(*pair) for pair in zip(whole, backwards, strict=True))


def test_an_epoch_sees_each_sample_once_in_another_order() -> None:
    seen = [batch.indices for batch in batches(split(48)).stream(0, 12)]
    first, second = np.concatenate(seen[:6]), np.concatenate(seen[6:])
    assert sorted(first) == sorted(second) == list(range(48))
    assert not np.array_equal(first, second)


def test_rows_are_what_their_indices_say() -> None:
    data = split()
    batch = batches(data).of_step(3)
    assert batch.labels is not None
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == batch.indices.tolist()
    assert batch.inputs["image"].dtype == torch.float32
    assert np.array_equal(batch.inputs["image"].numpy(), data.arrays["image"][batch.indices])
    assert list(batch.indices) == sorted(batch.indices)


def test_mapped_arrays_are_read_and_left_alone(tmp_path: Path) -> None:
    data = split()
    np.save(tmp_path / "image.npy", data.arrays["image"])
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    assert isinstance(mapped.base, mmap.mmap)
    batch = batches(Split({"image": mapped}, data.labels)).of_step(0)
    batch.inputs["image"].fill_(1)
    assert np.array_equal(mapped, data.arrays["image"])


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_parts_are_the_batch(size: int) -> None:
    def teach(indices: Indices, _: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rows = torch.from_numpy(indices)
        return {"first": rows[:, None], "steps first": rows.expand(5, -1)}

    batch = batches(split(), teach=teach).of_step(0)
    parts = list(batch.parts(size))
    assert max(map(len, parts)) <= size
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sorted(np.concatenate([part.indices for part in parts])) == list(batch.indices)
    for part in parts:
        assert part.labels is not None
        assert part.teacher is not None
        assert part.labels.tolist() == part.indices.tolist() == part.teacher["first"][:, 0].tolist()
        assert part.teacher["steps first"].shape == (5, len(part))
        assert part.teacher["steps first"][2].tolist() == part.indices.tolist()


def test_images_are_moved_and_mirrored() -> None:
    images = torch.arange(1, 401, dtype=torch.float32).reshape(400, 1, 1, 1) * torch.ones(1, 2, 5, 7)
    images[:, :, 2, 2] = -1
    made = augmented(images, _MOVED, torch.Generator().manual_seed(0))
    assert made.shape == images.shape
    assert made.is_contiguous()
    places = (made == -1).nonzero()
    assert len(places) == 400 * 2  # wherever it moved, the mark is seen
    assert {tuple(place) for place in places[:, 2:].tolist()} == {(r, c) for r in range(5) for c in range(7)}
    kept = made.flatten(1).max(1).values
    assert kept.tolist() == list(range(1, 401))
    assert (made == 0).any()


def test_a_moved_image_is_a_window_of_the_padded_one() -> None:
    image = torch.rand(1, 1, 4, 4) + 1
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    windows = [padded[..., r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    for seed in range(40):
        made = augmented(image, Augmentation(shift=1), torch.Generator().manual_seed(seed))
        assert any(torch.equal(made, window) for window in windows)


def test_other_tensors_are_not_augmented() -> None:
    for tensor in (torch.rand(3, 8), torch.ones(3, 1, 4, 4, dtype=torch.int64)):
        assert augmented(tensor, _MOVED, torch.Generator()) is tensor


def test_labels_of_floats_and_none() -> None:
    found = batches(split(labels=np.float64)).of_step(0).labels
    assert found is not None
    assert found.dtype == torch.float64
    assert batches(Split(split().arrays, None)).of_step(0).labels is None


@pytest.mark.parametrize(("fixed", "size"), [(1, 20), (3, 18), (16, 16), (32, 32)])
def test_a_batch_is_a_multiple_of_what_the_model_fixes(fixed: int, size: int) -> None:
    spec = TensorSpec(name="image", dtype="float32", shape=(fixed, 1, 6, 6))
    data = split()
    made = Batches(split=data, inputs=[spec], indices=np.arange(data.n), size=20, seed=0)
    assert (made.fixed, made.size) == (fixed, size)
    assert {len(part) for part in made.of_step(0).parts(fixed)} == {fixed}


def test_fewer_samples_than_the_model_takes_at_once() -> None:
    spec = TensorSpec(name="image", dtype="float32", shape=(64, 1, 6, 6))
    with pytest.raises(CompressionError, match="too_few_samples"):
        Batches(split=split(), inputs=[spec], indices=np.arange(50), size=20, seed=0)


def test_held_out_samples_are_drawn_and_not_trained_on() -> None:
    held, used = held_out(split(), Training(validation=1000), 0)
    assert len(held) == 5
    assert sorted([*held, *used]) == list(range(50))
    assert not np.array_equal(held, held_out(split(), Training(), 1)[0])
    assert len(held_out(split(), Training(validation=3), 0)[0]) == 3


def test_the_axis_of_samples() -> None:
    assert sample_axis((8, 5, 3), 8) == sample_axis((8,), 8) == sample_axis((8, 8), 8) == 0
    assert sample_axis((5, 8, 3), 8) == 1
