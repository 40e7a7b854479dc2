"""The rows of the techniques benchmark: what is done to which network, by whom, and what must come of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.trials import Step, Steps

INT8: Step = {"technique": "static_quantization"}
PARE, TORCH_PRUNING = "Pare", "torch-pruning"


@dataclass(frozen=True)
class Bound:
    """`figure` of the mean row must be at most, or at least, `value`."""

    figure: str
    order: Literal["<=", ">="]
    value: float

    def holds(self, found: float) -> bool:
        return found <= self.value if self.order == "<=" else found >= self.value

    def __str__(self) -> str:
        return f"{self.figure.replace('_', ' ')} {self.order} {self.value:g}"


@dataclass(frozen=True)
class Entry:
    subject: str
    recipe: str
    tool: str
    steps: Steps
    bounds: tuple[Bound, ...] = ()
    against: str | None = None
    """Name of the row that `fewer_errors`, in per cent, and `below`, in points, compare with."""

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.recipe}/{self.tool}"


@dataclass(frozen=True)
class Epochs:
    recovery: float
    """After a cut; at most a third of those that the network was trained for."""
    whole: float
    """Of a student's training: as many as the network was trained for."""


def entries(epochs: Epochs) -> Iterator[Entry]:
    for subject in ("resnet", "wide"):
        yield from _channels(subject, epochs)
    for subject in ("resnet", "dense"):
        yield from _sparse(subject, epochs)
    yield from _dense_peer(epochs)
    yield from _four_bits(epochs)
    yield from _students(epochs)
    yield from _direction(epochs)


def _at_most(figure: str, value: float) -> Bound:
    return Bound(figure, "<=", value)


def _at_least(figure: str, value: float) -> Bound:
    return Bound(figure, ">=", value)


def cut(ratio: float, training: dict[str, Any], **others: Any) -> Step:
    return {"technique": "channel_pruning", "ratio": ratio, "training": training, **others}


def _torch_pruning(importance: str, macs: float, epochs: float) -> Step:
    return {"peer": "torch_pruning", "importance": importance, "macs": macs, "epochs": epochs}


def _channels(subject: str, epochs: Epochs) -> Iterator[Entry]:
    training = {"epochs": epochs.recovery}
    half = cut(0.5, training)
    fast = cut(0.5, training, target="latency", blocks=True, round_to=16)
    quarter = cut(0.75, training)
    example = subject == "resnet"
    half_bounds = (_at_most("drop", 0.1), _at_least("faster", 1.8))
    int8_bounds = (
        _at_least("faster", 3.8 if example else 6.0),
        _at_least("bytes", 8),
        _at_most("drop", 0.15),
    )
    yield Entry(subject, "half the MACs", PARE, (half,), (_at_most("drop", 0.1),))
    yield Entry(subject, "half the latency", PARE, (fast,), half_bounds)
    yield Entry(subject, "half the MACs + int8", PARE, (half, INT8))
    yield Entry(
        subject, "half the latency + int8", PARE, (fast, INT8), int8_bounds if example else int8_bounds[:1]
    )
    yield Entry(subject, "a quarter of the MACs", PARE, (quarter,), (_at_most("drop", 0.6),))
    for importance in ("norm", "taylor"):
        for recipe, macs in (("half the MACs", 0.5), ("a quarter of the MACs", 0.25)):
            step = _torch_pruning(importance, macs, epochs.recovery)
            yield Entry(subject, recipe, f"{TORCH_PRUNING}, {importance}", (step,))
    peer = _torch_pruning("norm", 0.5, epochs.recovery)
    yield Entry(subject, "half the MACs + int8", f"{TORCH_PRUNING} + NNCF", (peer, {"peer": "nncf_static"}))


def _sparse(subject: str, epochs: Epochs) -> Iterator[Entry]:
    schedule = {"kind": "polynomial_decay", "initial_sparsity": 0.5}
    own = {"technique": "magnitude_pruning", "sparsity": 0.8, "schedule": schedule}
    own["training"] = {"epochs": epochs.recovery}
    example = subject == "resnet"
    own["skip_first_and_last"] = example  # the dense network has no others
    alone = (_at_most("drop", 0.1), _at_least("zstd", 3.6)) if example else ()
    both = (_at_least("zstd", 13),) if example else ()
    peer = {"peer": "torch_l1", "sparsity": 0.8, "epochs": epochs.recovery}
    yield Entry(subject, "80 % zeros", PARE, (own,), alone)
    yield Entry(subject, "80 % zeros + int8", PARE, (own, INT8), both)
    yield Entry(subject, "80 % zeros", "torch.nn.utils.prune", (peer,))
    int8 = {"peer": "nncf_static"}
    yield Entry(subject, "80 % zeros + int8", "torch.nn.utils.prune + NNCF", (peer, int8))


def _dense_peer(epochs: Epochs) -> Iterator[Entry]:
    step = {"peer": "tfmot", "sparsity": 0.8, "initial_sparsity": 0.5, "epochs": epochs.recovery}
    yield Entry("dense", "80 % zeros", "TFMOT", (step,))


def _four_bits(epochs: Epochs) -> Iterator[Entry]:
    training = {"epochs": epochs.recovery}
    trained = {"technique": "quantization_aware_training", "weight_bits": 4, "training": training}
    post = {"technique": "static_quantization", "weight_bits": 4}
    nearest = {"peer": "rounded", "bits": 4, "minimise": False}
    bound = (_at_most("drop", 0.05),)
    weights_alone = {**trained, "activation_bits": None}
    yield Entry("resnet", "int4 weights", PARE, (weights_alone,), bound)
    yield Entry("resnet", "int4 weights, int8 activations", PARE, (trained,), bound)
    yield Entry("resnet", "int4 weights, int8 activations", "Pare, untrained", (post,))
    yield Entry("resnet", "int4 weights", "round to nearest", (nearest,))
    yield Entry("resnet", "int4 weights", "clipped for least squares", ({**nearest, "minimise": True},))


EIGHTH = {"width": 0.5, "depth": 0.25}
"""A student of 1/8.6 of the multiply-accumulates: half the channels, one of four blocks that can go."""


def _students(epochs: Epochs) -> Iterator[Entry]:
    def taught(loss: str) -> Steps:
        training = {"epochs": epochs.whole, "loss": loss}
        return ({"technique": "distillation", "derive": EIGHTH, "training": training},)

    labels = Entry("resnet", "student, 1/8 of the MACs", "labels alone", taught("labels"))
    both = Entry(
        "resnet",
        "student, 1/8 of the MACs",
        "Pare",
        taught("auto"),
        (_at_least("fewer_errors", 8),),
        against=labels.name,
    )
    unlabelled = Entry(
        "resnet",
        "student, 1/8 of the MACs",
        "Pare, without labels",
        taught("distillation"),
        (_at_most("below", 0.3),),
        against=both.name,
    )
    yield from (labels, both, unlabelled)


def _direction(epochs: Epochs) -> Iterator[Entry]:
    """Few samples and no labels: as many passes as the images of the others make steps."""
    training = {"epochs": 10 * epochs.recovery, "batch_size": 64}
    half = cut(0.5, training)
    fast = cut(0.5, training, target="latency", blocks=True)
    bounds = (_at_least("agreement", 98), _at_least("faster", 1.5))
    yield Entry("direction", "half the MACs", PARE, (half,), bounds)
    yield Entry("direction", "half the latency", PARE, (fast,), bounds)
    yield Entry("direction", "half the MACs + int8", PARE, (half, INT8), bounds[:1])
