"""Columns of text -> the columns that a tokenizer makes of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from compression.inspection import Finding
from compression.intake import cells
from compression.intake.columns import Filled
from compression.intake.growing import Growing
from compression.preprocessing import TextOptions

if TYPE_CHECKING:
    from compression.intake.tokens import Tokens

COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
_PAIRS = {"text": "text_pair", "sentence": "sentence_pair", "sentence1": "sentence2", "text1": "text2"}


def chosen(piece: pa.RecordBatch, rest: Sequence[str], options: TextOptions) -> TextOptions:
    """With the columns of `rest` that the owner left open.

    Errors: CompressionError `invalid_dataset`.
    """
    found = [name for name in rest if cells.is_text(piece.column(name).type)]
    first = options.column or next((name for name in _PAIRS if name in found), None)
    if first is None and len(found) == 1:
        first = found[0]
    if first is None:
        shown = ", ".join(repr(name[:40]) for name in found[:8]) or "none"
        raise cells.invalid(f"say text.column: which column holds the text? Of text there are {shown}")
    guessed = _PAIRS.get(first)
    pair = options.pair or (guessed if guessed in found else None)
    return options.model_copy(update={"column": first, "pair": pair})


class Texts:
    """`names`: array -> one of COLUMNS. With pairs as rows, two rows of arrays for each of the table."""

    def __init__(
        self, names: Mapping[str, str], options: TextOptions, tokens: "Tokens", scratch: Path
    ) -> None:
        self.options, self.tokens = options, tokens
        self.kinds = names
        self.into = {name: Growing(scratch / f"tokens{at}") for at, name in enumerate(names)}

    def add(self, piece: pa.RecordBatch, first: int) -> None:
        texts, pairs = self._texts(piece, self.options.column, first), None
        if self.options.pair:
            pairs = self._texts(piece, self.options.pair, first)
            if self.options.pairs == "rows":
                texts = [text for both in zip(texts, pairs, strict=True) for text in both]
                pairs = None
        made = self.tokens.encode(texts, pairs)
        for name, kind in self.kinds.items():
            self.into[name].append(made[kind])

    def _texts(self, piece: pa.RecordBatch, column: str | None, first: int) -> list[str]:
        return cells.texts(cells.named(piece, str(column)), str(column), first)

    def filled(self) -> Filled:
        return Filled({name: into.whole() for name, into in self.into.items()}, findings=self._findings())

    def _findings(self) -> tuple[Finding, ...]:
        tokens = self.tokens
        found = [
            Finding(
                code="token_ids",
                severity="info",
                detail=f"token ids go up to {tokens.largest}, the tokenizer knows {tokens.vocabulary}; "
                f"a model that fits has at least {tokens.largest + 1} embeddings",
                way_out="use the tokenizer.json that came with the model",
            )
        ]
        if tokens.cut:
            found.append(
                Finding(
                    code="texts_cut",
                    severity="warning" if tokens.cut * 20 > tokens.rows else "info",
                    detail=f"{tokens.cut} of {tokens.rows} texts are longer than {tokens.max_length} tokens "
                    "and were cut",
                    way_out="raise text.max_length as far as the model allows",
                )
            )
        return tuple(found)
