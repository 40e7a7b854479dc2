"""A small causal language model and the text it is made from: sources of Python's standard library, which
every machine that runs this has. Tokenizer, network, training and export; nothing is downloaded.
"""

import math
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 4096
WIDTH, HEADS, LAYERS = 320, 5, 4
CONTEXT = 256
POSITIONS = 512
"""More than are trained on, so that a cache may be longer than a sample; nothing is claimed of those."""
HELD_OUT = 20
"""Of so many files in the order of their names one is for the test, and one for calibration."""
BATCH, RATE, WARM_UP, DECAY = 8, 2e-3, 50, 0.1
OPSET = 20
END = "<|end|>"
Tokens = npt.NDArray[np.int64]
Cache = tuple[Tensor, ...]
"""Key and value of layer after layer, [batch, heads, past, width / heads]."""


def texts() -> dict[str, list[str]]:
    """Files of the standard library by split, but tests and installed packages; whole files are held out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
    paths = sorted(path for path in root.rglob("*.py") if left_out.isdisjoint(path.relative_to(root).parts))
    found: dict[str, list[str]] = {"train": [], "calibration": [], "test": []}
    for count, path in enumerate(paths):
        split = {0: "test", HELD_OUT // 2: "calibration"}.get(count % HELD_OUT, "train")
        found[split].append(path.read_text("utf-8", errors="replace"))
    return found


def train_tokenizer(documents: Sequence[str]) -> Tokenizer:
    """Byte-level byte pair encoding, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def stream(tokenizer: Tokenizer, documents: Sequence[str]) -> Tokens:
    """All tokens in a row; each document ends with `END`."""
    end = tokenizer.token_to_id(END)
    parts = [np.array([*encoded.ids, end]) for encoded in tokenizer.encode_batch(list(documents))]
    return np.concatenate(parts).astype(np.int64)


def windows(tokens: Tokens) -> tuple[Tokens, Tokens]:
    """Samples [n, CONTEXT] that follow each other, and the token after each of theirs."""
    count = (len(tokens) - 1) // CONTEXT
    inputs = tokens[: count * CONTEXT].reshape(count, CONTEXT)
    return inputs, tokens[1 : count * CONTEXT + 1].reshape(count, CONTEXT)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.mixed = nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor, past: Cache) -> tuple[Tensor, Cache]:
        """`x` [batch, length, WIDTH]; `mask` [length, past + length] is added to scores."""
        read = self.before_attention(x)
        query, key, value = (_heads(part(read)) for part in (self.query, self.key, self.value))
        if past:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        scores = query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5 + mask
        joined = (scores.softmax(-1) @ value).transpose(1, 2).reshape(x.shape)
        x = x + self.mixed(joined)
        return x + self.narrow(functional.gelu(self.wide(self.before_mlp(x)))), (key, value)


def _heads(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], HEADS, WIDTH // HEADS).transpose(1, 2)


class LanguageModel(nn.Module):
    """Pre-norm decoder with learnt positions; the table of tokens is the output head, too."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.last = nn.LayerNorm(WIDTH)
        self.apply(_initialise)

    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits [batch, length, VOCABULARY], then the cache."""
        start = past[0].shape[2] if past else 0
        end = start + input_ids.shape[1]
        places = torch.arange(start, end, device=input_ids.device)
        later = torch.arange(end, device=input_ids.device)[None, :] > places[:, None]
        mask = later.to(torch.float32) * -1e9
        x = self.tokens(input_ids) + self.positions(places)
        cache: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x, own = block(x, mask, past[2 * number : 2 * number + 2])
            cache += own
        return functional.linear(self.last(x), self.tokens.weight), *cache


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class Training:
    steps: int
    seed: int


def train(tokens: Tokens, training: Training) -> Iterator[tuple[int, float, LanguageModel]]:
    """AdamW on a cosine, matrix products in bfloat16; the step, its loss (nats) and the model."""
    torch.manual_seed(training.seed)
    model = LanguageModel()
    matrices = [one for one in model.parameters() if one.ndim > 1]
    rest = [one for one in model.parameters() if one.ndim == 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, training.steps))
    for step, (inputs, labels) in enumerate(_batches(tokens, training), 1):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(inputs)[0]
        loss = functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield step, loss.item(), model


def _share(step: int, steps: int) -> float:
    """Of the rate: up in a line, down on a cosine to a fiftieth."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.02 + 0.49 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def _batches(tokens: Tokens, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples that begin anywhere."""
    random = np.random.default_rng(training.seed)
    for _ in range(training.steps):
        starts = random.integers(0, len(tokens) - CONTEXT, (BATCH, 1))
        rows = torch.from_numpy(tokens[starts + np.arange(CONTEXT + 1)])
        yield rows[:, :-1], rows[:, 1:]


def trained(tokens: Tokens, training: Training, into: Path) -> LanguageModel:
    """From the file, or trained and kept there."""
    model = LanguageModel()
    if not into.exists():
        start, mean = time.monotonic(), 0.0
        for step, loss, now in train(tokens, training):
            mean = loss if step == 1 else 0.98 * mean + 0.02 * loss
            model = now
            if step % 100 == 0:
                print(f"step {step}: {mean:.3f} nats, {time.monotonic() - start:.0f} s", flush=True)
        save_file(model.state_dict(), into)
    model.load_state_dict(load_file(into))
    return model.eval()


def names(kind: str) -> list[str]:
    """Of the cache: `past` or `present`."""
    return [f"{kind}.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]


def export(model: LanguageModel, into: Path, *, cached: bool) -> None:
    """`input_ids` [batch, length] -> `logits`. With a cache: it is read (`past…`) and given (`present…`)."""
    batch, length, past = (torch.export.Dim(name) for name in ("batch", "length", "past"))
    ids = torch.randint(0, VOCABULARY, (2, 7))
    pasts = [torch.randn(2, HEADS, 5, WIDTH // HEADS) for _ in names("past")] if cached else []
    shapes: list[Any] = [{0: batch, 1: length}]
    shapes.append(tuple({0: batch, 2: past} for _ in pasts))
    kept: nn.Module = model if cached else _Whole(model)
    program = torch.onnx.export(
        kept.eval(),
        (ids, *pasts),
        dynamo=True,
        opset_version=OPSET,
        input_names=["input_ids", *(names("past") if cached else [])],
        output_names=["logits", *(names("present") if cached else [])],
        dynamic_shapes=shapes if cached else shapes[:1],
        verbose=False,
    )
    assert program is not None
    onnx.save(program.model_proto, into)


class _Whole(nn.Module):
    """A text at a time, without a cache."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids)[0]
        return logits
