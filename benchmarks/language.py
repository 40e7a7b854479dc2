"""Weights of a small language model in 4 bits: perplexity, bytes, and tokens a second beside float32.

The model is made here (`benchmarks/language_model.py`), once, and kept in --work. Perplexity is that of whole
texts nobody trained on; decoding is batch 1 on one thread, a token a run with a cache of keys and values, all
models in turns. The decoder's graph goes through the same steps as the graph that perplexity is measured on.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
import torch
from tokenizers import Tokenizer

import compression.techniques  # noqa: F401  loading the folder fills the registry
from benchmarks import language_model
from benchmarks.language_model import CONTEXT, HEADS, WIDTH, Training
from benchmarks.subjects import normalised
from compression import runtime
from compression.dataset import Array, Dataset
from compression.measure import latency
from compression.measure.compare import compare_all
from compression.measurement import Measurements, Ratio
from compression.model import Model
from compression.technique import REGISTRY, Context

Step = Mapping[str, Any]
BASE: Step = {"technique": "weight_quantization", "bits": 4}
RECIPES: Mapping[str, Sequence[Step]] = {
    "rtn": [{**BASE, "method": "rtn"}],
    "hqq": [{**BASE, "method": "hqq"}],
    "gptq": [{**BASE, "method": "gptq"}],
    "awq": [{**BASE, "method": "awq"}],
    "gptq, 5 bits on average": [{**BASE, "method": "gptq", "average_bits": 5}],
    "gptq, tables of 4 bits": [{**BASE, "method": "gptq", "table_bits": 4}],
    "gptq, standard QDQ": [{**BASE, "method": "gptq", "format": "qdq"}],
    "rtn, blocks of 128": [{**BASE, "method": "rtn", "block_size": 128}],
    "gptq, blocks of 128": [{**BASE, "method": "gptq", "block_size": 128}],
}
PROMPT, DECODED = 64, 64
"""Tokens in the cache at first, and tokens decoded in a timed run."""
HEADER = (
    "| weights | perplexity | lost % (95 %) | bytes x | zstd x | decode x (95 %) | tokens/s | text x (95 %) |"
)


@dataclass(frozen=True)
class Subject:
    model: Path
    decoder: Path
    data: Path


class Decoding(NamedTuple):
    faster: Ratio
    tokens_per_second: float


def subject(work: Path, training: Training, samples: int) -> Subject:
    """Made where it is not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    stem = work / f"language-{training.seed}-{training.steps}"
    found = Subject(
        stem.with_suffix(".onnx"), stem.with_suffix(".decoder.onnx"), stem.with_suffix(f".{samples}.npz")
    )
    texts = language_model.texts()
    tokenizer = _tokenizer(work / "tokenizer.json", texts["train"])
    if not found.decoder.exists():
        tokens = language_model.stream(tokenizer, texts["train"])
        network = language_model.trained(tokens, training, stem.with_suffix(".safetensors"))
        for path, cached in ((found.model, False), (found.decoder, True)):
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                exported = Path(scratch) / "exported.onnx"
                language_model.export(network, exported, cached=cached)
                normalised(exported, path)
    if not found.data.exists():
        np.savez(found.data, allow_pickle=False, **_arrays(tokenizer, texts, samples))
    return found


def _tokenizer(path: Path, documents: Sequence[str]) -> Tokenizer:
    if not path.exists():
        language_model.train_tokenizer(documents).save(str(path))
    return Tokenizer.from_file(str(path))


def _arrays(tokenizer: Tokenizer, texts: Mapping[str, Sequence[str]], samples: int) -> dict[str, Array]:
    """As many samples of each held-out split, evenly spread over it, labelled by the tokens that follow."""
    found: dict[str, Array] = {}
    for split in ("calibration", "test"):
        inputs, labels = language_model.windows(language_model.stream(tokenizer, texts[split]))
        chosen = np.linspace(0, len(inputs) - 1, min(samples, len(inputs))).astype(int)
        found |= {f"{split}/input_ids": inputs[chosen], f"{split}/labels": labels[chosen]}
    return found


def empty_cache(batch: int) -> dict[str, Array]:
    shape = batch, HEADS, 0, WIDTH // HEADS
    return {name: np.zeros(shape, np.float32) for name in language_model.names("past")}


def compress(source: Path, steps: Sequence[Step], data: Dataset, into: Path) -> None:
    model = Model.open(source)
    with tempfile.TemporaryDirectory() as scratch:
        for step in steps:
            technique = REGISTRY[step["technique"]].model_validate(step)
            model = technique.apply(model, Context(data, 0, Path(scratch))).model
    model.save(into)


def made(found: Subject, steps: Sequence[Step], into: Path) -> tuple[Path, Path]:
    """The model and its decoder: calibrated by the same texts, by the decoder with an empty cache."""
    data = Dataset.open(found.data)
    ids = data.splits["calibration"].arrays["input_ids"]
    cached = {"input_ids": ids, **empty_cache(len(ids))}
    paths = into.with_suffix(".onnx"), into.with_suffix(".decoder.onnx")
    compress(found.model, steps, data, paths[0])
    compress(found.decoder, steps, Dataset({f"calibration/{n}": v for n, v in cached.items()}, 0), paths[1])
    return paths


def decode(paths: Sequence[Path], data: Path, seed: int) -> list[Decoding]:
    """The time of `DECODED` tokens, as texts have them, after a prompt; the first file is the original, whose
    cache all begin with.
    """
    texts = Dataset.open(data).splits["test"].arrays["input_ids"][:16, : PROMPT + DECODED]
    original = runtime.session(paths[0], threads=1)
    feeds = [
        {"text": text[None, PROMPT:], **_step(original, text[None, :PROMPT], empty_cache(1))}
        for text in texts
    ]

    def opened(index: int) -> latency.Run:
        session = runtime.session(paths[index], threads=1)
        return lambda sample: _decode(session, sample)

    times = latency.interleaved(opened, len(paths), feeds, seed)
    return [
        Decoding(latency.ratio(times[0], own, seed), 1000 * DECODED / latency.summary(own).p50)
        for own in times
    ]


def _decode(session: ort.InferenceSession, sample: Mapping[str, Array]) -> None:
    cache = {name: sample[name] for name in language_model.names("past")}
    for at in range(DECODED):
        cache = _step(session, sample["text"][:, at : at + 1], cache)


def _step(session: ort.InferenceSession, ids: Array, cache: Mapping[str, Array]) -> dict[str, Array]:
    """The cache afterwards; logits are computed and let go."""
    outputs = ["logits", *language_model.names("present")]
    _, *present = session.run(outputs, {"input_ids": ids, **cache})
    return dict(zip(language_model.names("past"), present, strict=True))


def line(name: str, measured: Measurements, decoding: Decoding) -> str:
    metric, drop = measured.compressed.metric, measured.drop
    assert metric is not None
    assert drop is not None
    assert drop.ci95 is not None
    low, high = (100 * one for one in drop.ci95)
    cells = [
        name,
        f"{metric.value:.3f}",
        f"{100 * drop.value:+.2f} ({low:+.2f} to {high:+.2f})",
        *(f"{measured.ratios[size].value:.2f}" for size in ("bytes", "bytes_zstd")),
        f"{_shown(decoding.faster)}",
        f"{decoding.tokens_per_second:.0f}",
        _shown(measured.ratios["latency"]),
    ]
    return f"| {' | '.join(cells)} |"


def _shown(ratio: Ratio) -> str:
    interval = "" if ratio.ci95 is None else f" ({ratio.ci95[0]:.2f}-{ratio.ci95[1]:.2f})"
    return f"{ratio.value:.2f}{interval}"


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    found = subject(options.work, Training(options.steps, options.seed), options.samples)
    recipes = {name: steps for name, steps in RECIPES.items() if any(word in name for word in options.only)}
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        files = [
            made(found, steps, Path(scratch) / f"m{count}") for count, steps in enumerate(recipes.values())
        ]
        decoding = decode([found.decoder, *(decoder for _, decoder in files)], found.data, options.seed)
        measured = compare_all(found.model, [model for model, _ in files], found.data, seed=options.seed)
    original = measured[0].original
    assert original.metric is not None
    print(f"float32: {original.bytes} bytes, {original.params} parameters")
    print(f"perplexity {original.metric.value:.3f} of {original.metric.n} texts of {CONTEXT} tokens")
    print(f"{decoding[0].tokens_per_second:.0f} tokens/s\n\n{HEADER}")
    print("|---" * HEADER.count(" | ") + "|---|")
    for name, one, speed in zip(recipes, measured, decoding[1:], strict=True):
        print(line(name, one, speed), flush=True)
    if options.json:
        rows = zip(recipes, measured, strict=True)
        options.json.write_text(
            json.dumps({name: one.model_dump(mode="json") for name, one in rows}, indent=1)
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1100, help="of training: some 12 minutes on one thread")
    parser.add_argument(
        "--samples", type=int, default=256, help=f"of {CONTEXT} tokens, of each split at most"
    )
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of recipes")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
