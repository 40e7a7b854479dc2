"""An image folder's way in, against a plain loop of PIL in processes on the same cores.

python -m benchmarks.ingest [images]
"""

import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from compression.formats import load_dataset

_ROUNDS = 5


def make(path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for at in range(count):
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(buffer, "PNG")
            archive.writestr(f"{at % 10}/{at}.png", buffer.getvalue())


def _decode(task: tuple[Path, list[str]]) -> np.ndarray:
    path, names = task
    with zipfile.ZipFile(path) as archive:
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])


def plain(path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    with multiprocessing.Pool(cores) as pool:
        np.concatenate(pool.map(_decode, [(path, names[at::cores]) for at in range(cores)]))


def ours(path: Path, folder: Path) -> None:
    folder.mkdir()
    image = {"colour": "GRAY", "dtype": "uint8"}
    load_dataset(path, path.name, folder / "out", folder, {"image": image})


def _rate(count: int, act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return count / (time.perf_counter() - start)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with tempfile.TemporaryDirectory() as name:
        folder, path = Path(name), Path(name) / "images.zip"
        make(path, count)
        ratios = []
        for at in range(_ROUNDS):
            theirs = _rate(count, lambda: plain(path))
            own = _rate(count, partial(ours, path, folder / str(at)))
            ratios.append(own / theirs)
            print(f"{count} images: plain {theirs:.0f}/s, ours {own:.0f}/s, {ratios[-1]:.2f}")
    print(f"median of {_ROUNDS}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
