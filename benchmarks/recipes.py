"""The rows of the techniques benchmark: what is done to which network, by whom, and what must come of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.trials import Step, Steps

INT8: Step = {"technique": "static_quantization"}
LEVELS_64: Step = {**INT8, "weight_bits": 6}
"""Stored and run as int8; the other levels would only be paid for in the download."""
PARE = "Pare"
CRITERIA = {"norm": "torch-pruning, norm", "taylor": "torch-pruning, Taylor"}
EIGHTH_OF_MACS = "an eighth of the MACs"
HALF, QUARTER, FAST = "half the MACs", "a quarter of the MACs", "half the latency"
INTERVAL = 0.47
"""Points: half the 95 % interval of an accuracy of 94 % on 10,000 images."""


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
    against: tuple[str, ...] = ()
    """Names of rows. With the most accurate of them are compared: `fewer_errors` in per cent, `below` in
    points of accuracy, `times_faster` and `times_smaller`."""

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
    yield from _light(epochs)
    yield from _mixed()
    yield from _searched(epochs)


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
    half, quarter = cut(0.5, training), cut(0.75, training)
    fast = cut(0.5, training, target="latency", blocks=True)
    example = subject == "resnet"
    faster = _at_least("faster", 3.8 if example else 6.0)
    int8_bounds = (faster, _at_least("bytes", 8), _at_most("drop", 0.15))
    peers = {r: tuple(f"{subject}/{r}/{tool}" for tool in CRITERIA.values()) for r in (HALF, QUARTER)}
    beside = _at_most("below", INTERVAL)
    yield from _cutting_peers(subject, epochs)
    alone = (_at_most("drop", 0.1), _at_least("faster", 1.8), beside)
    yield Entry(subject, HALF, PARE, (half,), alone, peers[HALF])
    yield Entry(subject, f"{HALF} + int8", PARE, (half, INT8), int8_bounds if example else (faster,))
    yield Entry(subject, QUARTER, PARE, (quarter,), (_at_most("drop", 0.6), beside), peers[QUARTER])
    yield Entry(subject, FAST, PARE, (fast,))
    yield Entry(subject, f"{FAST} + int8", PARE, (fast, INT8))


def _cutting_peers(subject: str, epochs: Epochs) -> Iterator[Entry]:
    for importance, tool in CRITERIA.items():
        for recipe, macs in ((HALF, 0.5), (QUARTER, 0.25)):
            yield Entry(subject, recipe, tool, (_torch_pruning(importance, macs, epochs.recovery),))
    half = _torch_pruning("norm", 0.5, epochs.recovery)
    steps: Steps = (half, {"peer": "nncf_static"})
    yield Entry(subject, f"{HALF} + int8", "torch-pruning, norm + NNCF", steps)


def _searched(epochs: Epochs) -> Iterator[Entry]:
    """Beside uniform width scaling trained as long: a step of the supernet takes as long as 3.5 of the
    sub-network, and each of the four finalists is trained for an epoch.
    """
    step = {"technique": "subnet_search", "training": {"epochs": epochs.recovery}}
    as_long = {"epochs": 3.5 * epochs.recovery + 4 + epochs.recovery}
    for recipe, ratio in ((HALF, 0.5), (QUARTER, 0.75), (EIGHTH_OF_MACS, 0.875)):
        scaled = cut(ratio, as_long, scope="uniform", round_to=8)
        uniform = Entry("resnet", recipe, "Pare, uniform width", (scaled,))
        yield uniform
        searched = {**step, "ratio": ratio, "recovery": {"epochs": epochs.recovery}}
        better = (_at_most("below", -INTERVAL),)
        yield Entry("resnet", recipe, "Pare, subnet_search", (searched,), better, (uniform.name,))


def _light(epochs: Epochs) -> Iterator[Entry]:
    training = {"epochs": epochs.recovery}
    rewritten = {"technique": "depthwise_separable", "ratio": 0.85, "training": training}
    recipe = "depthwise-separable, 0.15 of the MACs"
    yield Entry("resnet", recipe, PARE, (rewritten,), (_at_least("macs", 2), _at_most("drop", 1)))
    yield Entry("resnet", f"{recipe} + int8", PARE, (rewritten, INT8), (_at_most("drop", 1),))


def _mixed() -> Iterator[Entry]:
    step: Step = {"technique": "mixed_precision"}
    precise, quiet = {**step, "max_metric_drop": 0.002}, {**step, "min_sqnr_db": 30.0}
    example = (_at_most("drop", 0.2), _at_least("faster", 2.5))
    mobile = (_at_least("agreement", 98), _at_least("faster", 1.1), _at_least("bytes", 3))
    yield Entry("resnet", "mixed precision, 0.2 points", PARE, (precise,), example)
    yield Entry("direction", "mixed precision, 30 dB", PARE, (quiet,), mobile)
    yield Entry("direction", "int8", PARE, (INT8,))


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
    yield Entry(subject, "80 % zeros + int8", PARE, (own, INT8))
    yield Entry(subject, "80 % zeros + int8", "Pare, 64 levels", (own, LEVELS_64), both)
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
        against=(labels.name,),
    )
    unlabelled = Entry(
        "resnet",
        "student, 1/8 of the MACs",
        "Pare, without labels",
        taught("distillation"),
        (_at_most("below", 0.3),),
        against=(both.name,),
    )
    yield from (labels, both, unlabelled)


def _direction(epochs: Epochs) -> Iterator[Entry]:
    """Few samples and no labels: more passes, so that there are as many steps as the others make."""
    training = {"epochs": 10 * epochs.recovery / 3, "batch_size": 64}
    half = cut(0.5, training)
    fast = cut(0.5, training, target="latency", blocks=True)
    bounds = (_at_least("agreement", 98), _at_least("faster", 1.5))
    both = (bounds[0], _at_least("times_faster", 0.98), _at_least("times_smaller", 1.01))
    for recipe, step in ((HALF, half), (FAST, fast)):
        alone = Entry("direction", recipe, PARE, (step,), bounds)
        yield alone
        yield Entry("direction", f"{recipe} + int8", PARE, (step, INT8), both, (alone.name,))
