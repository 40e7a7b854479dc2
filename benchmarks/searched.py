"""Subjects of the search benchmark: models, and data with samples to choose by that the model was not trained
on, apart from those of the proof.
"""

import argparse
import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from benchmarks import fashion, inputs, minilm, subjects
from compression.measurement import WantedTask

CHOSEN_BY = 3000
"""Of the 10,000 test images of Fashion-MNIST: its train images are what the networks know by heart."""
CALIBRATION = 512
LINES = 12_000
PAIRS = 1500
LENGTH = 48
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Searched:
    name: str
    model: Path
    data: Path
    task: WantedTask = "auto"


def _labelled(subject: fashion.Subject, work: Path) -> Searched:
    """Part of the test images calibrate and are chosen by; the proof has the others."""
    into = work / f"chosen-{subject.data.name}"
    if not into.exists():
        with np.load(subject.data) as arrays:
            members = dict(arrays)
        order = np.random.default_rng(0).permutation(len(members["test/label"]))
        taken, left = np.sort(order[: CHOSEN_BY + CALIBRATION]), np.sort(order[CHOSEN_BY + CALIBRATION :])
        for name in ("image", "label"):
            whole = members[f"test/{name}"]
            members |= {f"calibration/{name}": whole[taken], f"test/{name}": whole[left]}
        fashion.write(into, members)
    return Searched(subject.title, subject.model, into)


def _source(options: argparse.Namespace) -> fashion.Source:
    return fashion.Source(options.data, options.work, options.images, epochs=10)


def resnet(options: argparse.Namespace) -> Searched:
    return _labelled(fashion.resnet(_source(options)), options.work)


def wide(options: argparse.Namespace) -> Searched:
    return _labelled(fashion.wide(_source(options)), options.work)


def example(_options: argparse.Namespace) -> Searched:
    """The files that `make demo` sends."""
    folder = subjects.EXAMPLES
    return Searched("example", folder / "fashion_mnist_resnet.onnx", folder / "fashion_mnist.npz")


def direction(options: argparse.Namespace) -> Searched:
    """Unlabelled lines: what counts is that decisions stay as they are."""
    into = options.work / f"chosen-direction-{LINES}.npz"
    if not into.exists():
        counts = {"calibration": CHOSEN_BY // 2 + CALIBRATION, "test": 2000, "train": LINES}
        lines = {
            split: inputs.text_lines(count, np.random.default_rng(seed))[0]
            for seed, (split, count) in enumerate(counts.items())
        }
        fashion.write(into, {f"{split}/x": found for split, found in lines.items()})
    return Searched("direction classifier", fashion.direction_model(_source(options)), into)


def detector(options: argparse.Namespace) -> Searched:
    return _unlabelled(subjects.detector(options.data, options.work))


def mobilenet(options: argparse.Namespace) -> Searched:
    return _unlabelled(subjects.mobilenet(options.data, options.work))


def _unlabelled(made: subjects.Subject | None) -> Searched:
    if made is None:
        raise SystemExit("the model is not in --data")
    return Searched(made.name, made.model, made.data)


def encoder(options: argparse.Namespace) -> Searched:
    """Pairs of sentences; how alike they are is what the original says."""
    folder, model = options.encoder, options.work / "minilm.onnx"
    if folder is None:
        raise SystemExit("--encoder: the unpacked folder of all-MiniLM-L6-v2, see benchmarks/minilm.py")
    if not model.exists():
        proto = minilm.encoder(load_file(folder / "model.safetensors"))
        onnx.save(proto, model.with_suffix(".part"))
        model.with_suffix(".part").rename(model)
    into = options.work / f"pairs-{PAIRS}.npz"
    if not into.exists():
        fashion.write(into, _pairs(model, Tokenizer.from_file(str(folder / "tokenizer.json"))))
    return Searched("MiniLM-L6", model, into, "similarity")


def _pairs(model: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """Every other pair are sentences that follow one another in the documentation of Python's standard
    library, the others are of two places; those of the proof come from other modules.
    """
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    texts = [_sentences(path) for path in sorted(Path(ast.__file__).parent.glob("*.py"))]
    texts = [found for found in texts if len(found) > 1]
    halves = {"calibration": texts[::2], "test": texts[1::2]}
    members: dict[str, Any] = {}
    for seed, (split, modules) in enumerate(halves.items()):
        chosen = list(_drawn(modules, np.random.default_rng(seed)))
        coded = tokenizer.encode_batch(chosen)
        feeds = {
            "input_ids": np.array([one.ids for one in coded], np.int64),
            "attention_mask": np.array([one.attention_mask for one in coded], np.int64),
        }
        members |= {f"{split}/{name}": array for name, array in feeds.items()}
        members[f"{split}/label"] = np.repeat(_cosines(session, feeds), 2)
    return members


def _sentences(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    documented = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    whole = [" ".join(text.split()) for text in documented if text]
    found = [sentence for text in whole for sentence in _SENTENCE.split(text)]
    return [sentence for sentence in found if 30 <= len(sentence) <= 300]


def _drawn(modules: list[list[str]], random: np.random.Generator) -> Iterator[str]:
    for number in range(PAIRS):
        one = modules[random.integers(len(modules))]
        at = random.integers(len(one) - 1)
        other = modules[random.integers(len(modules))]
        yield one[at]
        yield one[at + 1] if number % 2 == 0 else other[random.integers(len(other))]


def _cosines(session: ort.InferenceSession, feeds: dict[str, Any]) -> Any:
    """Of each pair, between means over the tokens."""
    pooled = []
    for start in range(0, len(feeds["input_ids"]), 64):
        batch = {name: array[start : start + 64] for name, array in feeds.items()}
        (states,) = session.run(None, batch)
        mask = batch["attention_mask"][:, :, None].astype(np.float32)
        pooled.append((states * mask).sum(1) / mask.sum(1))
    vectors = np.concatenate(pooled)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors[::2] * vectors[1::2]).sum(1).astype(np.float32)


MAKERS: dict[str, Callable[[argparse.Namespace], Searched]] = {
    "resnet": resnet,
    "wide": wide,
    "example": example,
    "direction": direction,
    "detector": detector,
    "mobilenet": mobilenet,
    "encoder": encoder,
}
