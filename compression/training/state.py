"""State of a training: values, optimizer, moving average, best values, and the extensions' own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compression.engine import Engine, Precision, use_precision
from compression.engine.roles import Role
from compression.errors import CompressionError, Suggestion
from compression.training.extension import Extension
from compression.training.inputs import input_weights
from compression.training.options import Training


class Diverged(Exception):
    """A loss, a gradient or a weight is no number any more."""


class State:
    """`magnitudes` are those of the graph's inputs.

    Weights that read one are trained as if it were of magnitude 1: raw pixels up to 255 would make the steps
    of the first layer 65,025 times as large as they should be.
    """

    def __init__(
        self,
        engine: Engine,
        training: Training,
        extensions: Sequence[Extension],
        magnitudes: Mapping[str, float],
    ) -> None:
        self.engine, self.training, self.extensions = engine, training, extensions
        self.parameters = dict(engine.parameters_by_role())
        large = input_weights(engine.model.proto.graph, magnitudes)
        self.scales = {name: large[name] for name in self.parameters if name in large}
        self.optimizer = _optimizer(self._groups(), training)
        self.names = [name for group in self.optimizer.param_groups for name in group["names"]]
        """In the optimizer's order."""
        self.precision = Precision()
        self.factor = 1.0
        """What the learning rate is multiplied by."""
        self.average: dict[str, Tensor] | None = None
        self.best: dict[str, Tensor] | None = None
        self.updates = 0

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters that are treated alike: only matrices and kernels decay."""
        members: dict[tuple[float, bool], list[str]] = {}
        for name, value in self.parameters.items():
            members.setdefault((self.scales.get(name, 1.0), value.dim() > 1), []).append(name)
        return [
            {
                "params": [self.parameters[name] for name in names],
                "names": names,
                "scale": scale,
                "weight_decay": self.training.weight_decay * decays,
            }
            for (scale, decays), names in members.items()
        ]

    def moving(self) -> dict[str, Tensor]:
        """All that training changes: parameters and statistics."""
        roles = self.engine.roles
        return {
            name: value.detach()
            for name, value in self.engine.values().items()
            if name in self.parameters or roles[name] is Role.STATISTIC
        }

    def zero(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def update(self, rate: float) -> None:
        """One step of the optimizer with the gradients there are, and of the average. Errors: Diverged."""
        for name, scale in self.scales.items():
            gradient = self.parameters[name].grad
            if gradient is not None:
                gradient.div_(scale)
        self._clip()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.factor / group["scale"]
        self.optimizer.step()
        self.updates += 1
        if self.training.average is not None:
            self._average(self.training.average)

    def _clip(self) -> None:
        trained = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None], foreach=True)
        if not bool(norm.isfinite()):
            raise Diverged
        if self.training.gradient_clip is not None:
            nn.utils.clip_grads_with_norm_(trained, self.training.gradient_clip, norm, foreach=True)

    def check(self) -> None:
        """Errors: Diverged."""
        if not all(bool(value.isfinite().all()) for value in self.moving().values()):
            raise Diverged

    def _average(self, decay: float) -> None:
        moving = {name: value for name, value in self.moving().items() if value.is_floating_point()}
        if self.average is None:
            self.average = {name: value.clone() for name, value in moving.items()}
            return
        share = 1 - min(decay, (1 + self.updates) / (10 + self.updates))
        averages = [self.average[name] for name in moving]
        torch._foreach_lerp_(averages, list(moving.values()), share)

    def keep_best(self) -> None:
        source = self.average if self.average is not None else self.moving()
        self.best = {name: value.clone() for name, value in source.items()}

    @contextmanager
    def final_values(self) -> Iterator[None]:
        """The averaged values in place of the present ones, where there is an average."""
        if self.average is None:
            yield
            return
        present = {name: value.clone() for name, value in self.moving().items()}
        self._assign(self.average)
        yield
        self._assign(present)

    def finish(self) -> None:
        """The result in place: the best values, else the averaged, else the last."""
        result = self.best if self.best is not None else self.average
        if result is not None:
            self._assign(result)

    def _assign(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self.moving().items():
                if name in values:
                    value.copy_(values[name])

    def scalars(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "updates": self.updates,
            "bfloat16": self.precision.autocast is not None,
            "channels_last": self.precision.channels_last,
        }

    def tensors(self) -> dict[str, Tensor]:
        found = {f"value/{name}": value for name, value in self.moving().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            found |= {
                f"optimizer/{slot}/{self.names[index]}": value
                for slot, value in slots.items()
                if value is not None
            }
        for kind, values in (("average", self.average), ("best", self.best)):
            found |= {f"{kind}/{name}": value for name, value in (values or {}).items()}
        for index, extension in enumerate(self.extensions):
            found |= {f"extension{index}/{name}": value for name, value in extension.state().items()}
        return found

    def restore(self, scalars: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.factor, self.updates = scalars["factor"], scalars["updates"]
        autocast = torch.bfloat16 if scalars["bfloat16"] else None
        self.precision = Precision(autocast, scalars["channels_last"])
        use_precision(self.engine, self.precision)
        self._assign(_of("value", tensors))
        self.average = _of("average", tensors) or None
        self.best = _of("best", tensors) or None
        self._restore_optimizer(_of("optimizer", tensors))
        for index, extension in enumerate(self.extensions):
            extension.restore(_of(f"extension{index}", tensors))

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        positions = {name: index for index, name in enumerate(self.names)}
        for key, value in tensors.items():
            slot, name = key.split("/", 1)
            state.setdefault(positions[name], {})[slot] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _of(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{kind}/"
    return {
        name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)
    }


def _optimizer(groups: list[dict[str, Any]], training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.peak_rate, foreach=True)
    nesterov = training.momentum > 0
    return torch.optim.SGD(
        groups, lr=training.peak_rate, momentum=training.momentum, nesterov=nesterov, foreach=True
    )


def diverged(step: int, lower: float) -> CompressionError:
    return CompressionError(
        "E_DIVERGED",
        f"the loss became NaN or infinite at step {step + 1}, also at a tenth of the rate",
        suggestions=[
            Suggestion(f"Train with a learning rate of {lower:g}", {"training": {"learning_rate": lower}})
        ],
    )
