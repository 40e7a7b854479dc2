"""Texts in a table beside the tokenizer.json that belongs to the model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset
from compression.inspection import DatasetInspection
from tests.compression import hostile

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{at}" for at in range(50))]


def tokenizer() -> dict[str, Any]:
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return dict(json.loads(made.to_str()))


def packed(rows: list[dict[str, Any]], **more: Any) -> bytes:
    told = json.dumps(tokenizer() | more).encode()
    table = "\n".join(json.dumps(row) for row in rows).encode()
    return hostile.packed({"reviews/table.jsonl": table, "reviews/tokenizer.json": told})


def load(data: bytes, folder: Path, **options: Any) -> tuple[Dataset, DatasetInspection]:
    folder.mkdir(exist_ok=True)
    (folder / "upload").write_bytes(data)
    inspection = load_dataset(folder / "upload", "x.zip", folder / "out", folder, options)
    return Dataset.open(folder / "out"), inspection


ROWS = [{"text": f"w{at} w{at + 1}", "label": ("bad", "good")[at % 2]} for at in range(40)]


def test_texts_become_what_the_model_takes(tmp_path: Path) -> None:
    data, inspection = load(packed(ROWS), tmp_path, text={"max_length": 6})
    assert inspection.format == "text_zip"
    assert inspection.classes == ("bad", "good")
    split = data.splits["test"]
    assert set(split.arrays) == {"input_ids", "attention_mask", "token_type_ids"}
    assert {(array.shape, array.dtype.name) for array in split.arrays.values()} == {((8, 6), "int64")}
    assert split.labels is not None
    for ids, mask, label in zip(
        split.arrays["input_ids"], split.arrays["attention_mask"], split.labels, strict=True
    ):
        assert ids.tolist() == [2, ids[1], ids[1] + 1, 3, 0, 0]
        assert mask.tolist() == [1, 1, 1, 1, 0, 0]
        assert label == ids[1] % 2
    found = {finding.code: finding.detail for finding in inspection.findings}
    assert "up to 44, the tokenizer knows 54" in found["token_ids"]
    assert "texts_cut" not in found


def test_the_tokenizer_says_how_long_and_inputs_say_which(tmp_path: Path) -> None:
    cut = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    data, inspection = load(packed(ROWS, truncation=cut), tmp_path, inputs={"ids": "input_ids"})
    assert set(data.splits["test"].arrays) == {"ids"}
    assert data.arrays["test/ids"].shape == (8, 3)
    cut_texts = next(finding for finding in inspection.findings if finding.code == "texts_cut")
    assert cut_texts.severity == "warning"
    assert "40 of 40 texts are longer than 3 tokens" in cut_texts.detail
    assert load(packed(ROWS), tmp_path / "b")[0].arrays["test/input_ids"].shape == (8, 128)


PAIRS = [{"sentence1": f"w{at}", "sentence2": f"w{at + 1}", "label": at / 40} for at in range(40)]


def test_pairs_are_one_sequence_or_two_rows(tmp_path: Path) -> None:
    data, _ = load(packed(PAIRS), tmp_path, text={"max_length": 6})
    row = {name: array[0].tolist() for name, array in data.splits["test"].arrays.items()}
    first = row["input_ids"][1]
    assert row["input_ids"] == [2, first, 3, first + 1, 3, 0]
    assert row["token_type_ids"] == [0, 0, 0, 1, 1, 0]

    data, inspection = load(packed(PAIRS), tmp_path / "b", text={"max_length": 4, "pairs": "rows"})
    assert inspection.splits == {"train": 48, "calibration": 16, "test": 16}
    split = data.splits["test"]
    ids, labels = split.arrays["input_ids"], split.labels
    assert labels is not None
    assert np.array_equal(ids[0::2, 1] + 1, ids[1::2, 1])
    assert np.array_equal(labels[0::2], labels[1::2])
    assert np.allclose(labels[0::2], (ids[0::2, 1] - 4) / 40)


def test_the_owner_names_the_columns(tmp_path: Path) -> None:
    rows = [{"a": "w1", "b": f"w{at}", "label": 0} for at in range(20)]
    with pytest.raises(CompressionError, match=r"say text\.column: .*'a', 'b'"):
        load(packed(rows), tmp_path)
    data, _ = load(packed(rows), tmp_path / "b", text={"column": "b", "max_length": 3})
    assert len(set(data.arrays["train/input_ids"][:, 1])) == 12
    with pytest.raises(CompressionError, match="no column 'c'"):
        load(packed(rows), tmp_path / "c", text={"column": "c"})


def test_a_text_without_a_tokenizer_is_told_what_is_lacking(tmp_path: Path) -> None:
    table = "\n".join(json.dumps(row) for row in ROWS).encode()
    with pytest.raises(CompressionError, match=r"row 1, column 'text': .*tokenizer\.json"):
        load(hostile.packed({"table.jsonl": table}), tmp_path)


HOSTILE = {
    "empty": b"",
    "no tokenizer": b"{}",
    "deep": b'{"model": ' + b"[" * 100_000,
    "longer": json.dumps(
        tokenizer()
        | {"padding": {"strategy": "BatchLongest", "direction": "Right", "pad_id": 1 << 40, "pad_type_id": 0,
                       "pad_token": "x"}}
    ).encode(),
    "specials": json.dumps(
        tokenizer() | {"post_processor": {"type": "TemplateProcessing", "pair": [], "single": [
            {"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"x": {"id": "x", "ids": [1] * 1000, "tokens": ["x"] * 1000}}}}
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_tokenizer_that_means_harm_is_refused(name: str, tmp_path: Path) -> None:
    table = b"\n".join(json.dumps(row).encode() for row in ROWS)
    with pytest.raises(CompressionError) as refusal:
        load(hostile.packed({"table.jsonl": table, "tokenizer.json": HOSTILE[name]}), tmp_path)
    assert refusal.value.code == "invalid_tokenizer"
    assert str(tmp_path) not in refusal.value.detail


def test_a_large_tokenizer_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compression.intake.tokens.MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(CompressionError, match=r"invalid_tokenizer: .*more than 100 bytes"):
        load(packed(ROWS), tmp_path)
