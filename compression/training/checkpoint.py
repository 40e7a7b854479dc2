"""Checkpoint: all that a training needs to go on as if nothing had happened, in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_STATE = "pare"


@dataclass(frozen=True)
class Checkpoint:
    stage: str
    """Which training of the step it is of."""
    notes: Mapping[str, Any]
    """JSON of the technique's own: what it did before this stage, to be replayed."""
    progress: Mapping[str, Any]
    """JSON of the loop's."""
    tensors: Mapping[str, Tensor]

    @classmethod
    def open(cls, path: Path | None) -> Self | None:
        """None if there is none, or none that can be read: the training starts afresh."""
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                state = json.loads(file.metadata()[_STATE])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return None
        return cls(state["stage"], state["notes"], state["progress"], tensors)

    def write(self, path: Path) -> None:
        """Replaces the file as a whole."""
        state = {"stage": self.stage, "notes": self.notes, "progress": self.progress}
        new = path.with_name(f"{path.name}.new")
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, new, {_STATE: json.dumps(state)})
        new.replace(path)
