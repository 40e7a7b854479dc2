import subprocess
import sys

import pytest
from pydantic import ValidationError

from compression.training.options import Augmentation, Training


def test_options_are_declared_without_torch() -> None:
    code = "import sys, compression.training.options; print('torch' in sys.modules or 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_options_survive_json() -> None:
    training = Training(
        epochs=0.5, learning_rate=0.1, average=0.99, augmentation=Augmentation(horizontal_flip=True)
    )
    assert Training.model_validate_json(training.model_dump_json()) == training


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"epochs": float("inf")},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"warmup": 1.5},
        {"unknown": 1},
        {"augmentation": {"shift": -1}},
        {"patience": 0},
        {"average": 1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Training.model_validate(wrong)
