"""State of a training: values, optimizer, moving average, best values, and the extensions' own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from compression.engine import Engine, Precision, use_precision
from compression.engine.roles import Role
from compression.training.inputs import input_weights
from compression.training.options import Training

if TYPE_CHECKING:
    from compression.training.loop import Extension


class State:
    """`magnitudes` are those of the graph's inputs.

    Weights that read one are trained as if it were of magnitude 1: raw pixels up to 255 would make the steps
    of the first layer 65,025 times as large as they should be.
    """

    def __init__(
        self,
        engine: Engine,
        training: Training,
        extensions: "Sequence[Extension]",
        magnitudes: Mapping[str, float],
    ) -> None:
        self.engine, self.training, self.extensions = engine, training, extensions
        self.parameters = dict(engine.parameters_by_role())
        large = input_weights(engine.model.proto.graph, magnitudes)
        self.scales = {name: large.get(name, 1.0) for name in self.parameters}
        self.optimizer = _optimizer(self.parameters, training)
        self.precision = Precision()
        self.factor = 1.0
        """What the learning rate is multiplied by."""
        self.average: dict[str, Tensor] | None = None
        self.best: dict[str, Tensor] | None = None
        self.updates = 0

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
        """One step of the optimizer with the gradients there are, and of the average."""
        trained = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
        for name, parameter in self.parameters.items():
            if parameter.grad is not None and self.scales[name] != 1:
                parameter.grad.div_(self.scales[name])
        if self.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(trained, self.training.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.factor / self.scales[group["name"]]
        self.optimizer.step()
        self.updates += 1
        if self.training.average is not None:
            self._average(self.training.average)

    def _average(self, decay: float) -> None:
        moving = {name: value for name, value in self.moving().items() if value.is_floating_point()}
        if self.average is None:
            self.average = {name: value.clone() for name, value in moving.items()}
            return
        share = 1 - min(decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.average.values()), list(moving.values()), share)

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
        names = list(self.parameters)
        for index, slots in self.optimizer.state_dict()["state"].items():
            found |= {
                f"optimizer/{slot}/{names[index]}": value
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
        positions = {name: index for index, name in enumerate(self.parameters)}
        for key, value in tensors.items():
            slot, name = key.split("/", 1)
            state.setdefault(positions[name], {})[slot] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _of(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{kind}/"
    return {
        name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)
    }


def _optimizer(parameters: Mapping[str, torch.nn.Parameter], training: Training) -> torch.optim.Optimizer:
    """A group for each parameter; only matrices and kernels decay."""
    groups = [
        {"params": [value], "name": name, "weight_decay": training.weight_decay if value.dim() > 1 else 0.0}
        for name, value in parameters.items()
    ]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.peak_rate, foreach=True)
    nesterov = training.momentum > 0
    return torch.optim.SGD(
        groups, lr=training.peak_rate, momentum=training.momentum, nesterov=nesterov, foreach=True
    )
