"""An image folder's way in, against a plain loop of PIL in processes on the same cores.

python -m benchmarks.ingest [images]
"""

import io
import multiprocessing
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from compression.formats import load_dataset


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


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "images.zip", count)
        start = time.perf_counter()
        plain(folder / "images.zip")
        theirs = time.perf_counter() - start
        image = {"colour": "GRAY", "dtype": "uint8"}
        start = time.perf_counter()
        load_dataset(folder / "images.zip", "images.zip", folder / "out", folder, {"image": image})
        ours = time.perf_counter() - start
    print(f"{count} images: plain {count / theirs:.0f}/s, ours {count / ours:.0f}/s, {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
