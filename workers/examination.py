"""From inside a child: what techniques find that they could do with a model; a look into a data set."""

import json
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import onnx

from compression.dataset import Dataset
from compression.dataset_preview import DatasetPreview
from compression.model import Model
from compression.technique import REGISTRY, Technique
from workers.operations import Examine, Examined, Preview

SECONDS = 8
"""In which a technique must have examined a model. Native code can exceed it; the child's limit ends that."""
_LENGTH = 16 << 10


class _Outlined(Model):
    """A large model, of which only the outline may be looked at: a look is not worth all that memory."""

    @property
    def proto(self) -> onnx.ModelProto:
        raise MemoryError("all weights of a large model at once")


def run(task: Examine) -> Examined:
    """A technique that fails, takes long or says too much has nothing to say."""
    signal.signal(signal.SIGALRM, _late)
    model = Model.open(task.model)
    if model.is_large:
        model = _Outlined(model.outline)
    found = {name: _found(technique, model) for name, technique in sorted(REGISTRY.items())}
    return Examined(abilities={name: said for name, said in found.items() if said})


def preview(task: Preview) -> DatasetPreview:
    from compression.intake import preview  # noqa: PLC0415  loads what only a child may

    return preview.preview(Dataset.open(task.data))


def _found(technique: type[Technique], model: Model) -> dict[str, Any]:
    try:
        signal.alarm(SECONDS)
        return _json(technique.examine(model))
    except Exception as error:  # noqa: BLE001  one technique's trouble is not another's
        sys.stderr.write(f"{technique.__name__} cannot examine the model: {error!r}\n")
        return {}
    finally:
        signal.alarm(0)


def _json(said: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(dict(said), allow_nan=False)
    if len(text) > _LENGTH:
        raise ValueError(f"{len(text)} characters")
    return dict(json.loads(text))


def _late(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError
