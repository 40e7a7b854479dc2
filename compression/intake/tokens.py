"""A tokenizer.json from a stranger: opened in the sandbox alone, and what it gives is checked."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from compression.dataset import Array
from compression.errors import CompressionError
from compression.preprocessing import TextOptions
from compression.validation.limits import MAX_TOKENIZER_BYTES

# read as it is imported; a thread that the sandbox does not let it start would end the process
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Encoding, Tokenizer

_LENGTH = 128
_AT_ONCE = 32
_CHARACTERS = 16
"""A text is cut to so many for each token that is kept: what is cut off is tokenized too."""
_PADS = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")
_KINDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class Tokens:
    def __init__(self, path: Path, options: TextOptions) -> None:
        """Errors: CompressionError `invalid_tokenizer`."""
        if path.stat().st_size > MAX_TOKENIZER_BYTES:
            raise _invalid(f"it takes more than {MAX_TOKENIZER_BYTES} bytes")
        with _reading():
            self._tokenizer = Tokenizer.from_buffer(path.read_bytes())
            own = self._tokenizer.truncation or {}
            self.max_length: int = options.max_length or min(own.get("max_length", _LENGTH), 8192)
            self._tokenizer.enable_truncation(
                self.max_length, strategy="longest_first", direction=own.get("direction", "right")
            )
            self._tokenizer.enable_padding(length=self.max_length, **self._padding())
            self.vocabulary: int = self._tokenizer.get_vocab_size()
        self.rows = self.cut = self.largest = 0

    def _padding(self) -> dict[str, object]:
        own = self._tokenizer.padding
        if own:
            return {key: own[key] for key in ("direction", "pad_id", "pad_type_id", "pad_token")}
        known = ((name, self._tokenizer.token_to_id(name)) for name in _PADS)
        name, number = next(((name, number) for name, number in known if number is not None), ("[PAD]", 0))
        return {"pad_token": name, "pad_id": number}

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, Array]:
        """int64 [texts, max_length] by name of the column.

        Errors: CompressionError `invalid_tokenizer`.
        """
        arrays: dict[str, Array] = {
            name: np.empty((len(texts), self.max_length), np.int64) for name in _KINDS
        }
        for start in range(0, len(texts), _AT_ONCE):
            rows = slice(start, start + _AT_ONCE)
            encoded = self._encoded(texts[rows], None if pairs is None else pairs[rows])
            for name, kind in _KINDS.items():
                arrays[name][rows] = [getattr(each, kind) for each in encoded]
        self.rows += len(texts)
        self.largest = max(self.largest, int(arrays["input_ids"].max(initial=0)))
        return arrays

    def _encoded(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Encoding]:
        most = self.max_length * _CHARACTERS
        short = [text[:most] for text in texts]
        given = short if pairs is None else list(zip(short, [pair[:most] for pair in pairs], strict=True))
        with _reading():
            encoded: list[Encoding] = self._tokenizer.encode_batch(given)
        if any(len(each) != self.max_length for each in encoded):
            raise _invalid(f"it does not keep to {self.max_length} tokens a row")
        long = [len(text) > most for text in texts]
        self.cut += sum(bool(each.overflowing) or longer for each, longer in zip(encoded, long, strict=True))
        return encoded


@contextmanager
def _reading() -> Iterator[None]:
    """A panic of the library is no Exception, and has no name that could be imported."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001  see above
        raise _invalid(f"it cannot be used: {str(error)[:160]}") from None


def _invalid(why: str) -> CompressionError:
    return CompressionError("invalid_tokenizer", f"tokenizer.json: {why}")
