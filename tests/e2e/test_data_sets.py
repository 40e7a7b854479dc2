"""Texts with their tokenizer, and a Hugging Face encoder that is compressed on them, through the sandbox."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.compression.conversion import huggingface
from tests.service import Service

WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3}


def archive(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return zstandard.compress(file.getvalue())


def reviews(last: int = 3) -> bytes:
    tokenizer = Tokenizer(models.WordLevel({**WORDS, "bad": last}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    texts = [("good film", "bad one", "fair")[at % 3] for at in range(60)]
    table, labels = io.BytesIO(), [text.split()[0] for text in texts]
    parquet.write_table(pa.table({"text": texts, "label": labels}), table)
    return archive({"a/reviews.parquet": table.getvalue(), "a/tokenizer.json": tokenizer.to_str().encode()})


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_and_its_texts(service: Service, tmp_path: Path) -> None:
    data = service.dataset(reviews(), "reviews.tar.zst", options={"text": {"max_length": 4}})
    assert data["state"] == "ready", data["error"]
    inspection = data["inspection"]
    assert (inspection["format"], inspection["classes"]) == ("text_tar_zst", ["bad", "fair", "good"])
    assert {tuple(array["shape"][1:]) for array in inspection["arrays"] if array["name"] != "label"} == {(4,)}
    assert "token ids go up to 3" in inspection["findings"][0]["detail"]

    folder = huggingface.save("BertForSequenceClassification", tmp_path / "saved")
    packed = huggingface.pack(folder, tmp_path / "encoder.zip").read_bytes()
    model = service.model(packed, "encoder.zip")
    assert model["state"] == "ready", model["error"]
    job = service.finished(service.submit(model, data, {"technique": "dynamic_quantization"}))
    assert job["state"] == "succeeded", job["error"]
    assert job["measurements"]["task"] == "classification"
    assert job["measurements"]["compressed"]["metric"]["n"] == inspection["splits"]["test"]

    other = service.dataset(reviews(last=100), "reviews.tar.zst", options={"text": {"max_length": 4}})
    body = {"model_id": model["id"], "dataset_id": other["id"], "recipe": job["recipe"]}
    refused = service.client.post("/v1/jobs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "dataset_misfit")
    assert "integers below 100" in refused.json()["errors"][0]["detail"]
