"""The answer in words."""

from collections.abc import Iterator, Mapping

from compression.advice.answer import Figure
from compression.advice.choosing import WORTH, Pipeline
from compression.advice.options import brief
from compression.architecture import Architecture, architecture, scarce, small
from compression.inspection import DatasetInspection, ModelInspection, Trait
from compression.search.budget import Objective, labelled
from compression.technique import Technique

_KINDS: Mapping[Architecture, str] = {
    Architecture.CONVOLUTIONAL: "a convolutional network",
    Architecture.MOBILE: "a MobileNet-like convolutional network",
    Architecture.TRANSFORMER: "a transformer",
    Architecture.RECURRENT: "a recurrent network",
    Architecture.DENSE: "a dense network",
    Architecture.OTHER: "a network without layers that techniques know",
}
_COUNSEL: Mapping[Architecture, str] = {
    Architecture.CONVOLUTIONAL: "Dense convolutions have channels to spare and are what int8 speeds up "
    "most: cut first, let the network recover, quantize last, and both gains multiply.",
    Architecture.MOBILE: "Little is left over in depthwise networks: quantization costs least, and cutting "
    "is for when that is not enough, each step measured.",
    Architecture.TRANSFORMER: "Time goes into matrix products, bytes into those and the table of embeddings. "
    "Activations have outliers, so quantization is what to try and to measure; heads and widths are cut only "
    "with data to recover on.",
    Architecture.RECURRENT: "Recurrent weights are read again at every step and few techniques can change "
    "them: their storage is what can be won, and the layers around them may be cut or quantized.",
    Architecture.DENSE: "Nearly all bytes are in the matrices, so fewer bits and zeros make a small "
    "download; narrower layers make it small everywhere.",
    Architecture.OTHER: "There is hardly anything to compress in it.",
}
_NOTHING = 5e-4
_SERVES: Mapping[Objective, str] = {
    "latency": "the least time",
    "macs": "the fewest multiplications",
    "bytes": "the smallest file",
    "memory": "the least memory",
    "download": "the smallest download",
    "metric": "the least loss",
}


def summary(
    model: ModelInspection,
    data: DatasetInspection | None,
    pipelines: tuple[Pipeline | None, Pipeline | None],
    objective: Objective,
) -> str:
    """Of the best pipeline and of a bolder one."""
    pipeline, bolder = pipelines
    kind = architecture(model)
    said = [f"This is {_KINDS[kind]} of {_count(model.params)} parameters{_macs(model)}.", _COUNSEL[kind]]
    if pipeline is None:
        allowed = "Without a data set nothing" if data is None else "Nothing that model and data allow"
        said.append(f"{allowed} is expected to help with {_SERVES[objective]}.")
    else:
        said.append(f"For {_SERVES[objective]}: {_listed(pipeline)}. {_expected(pipeline)}")
        if not pipeline.safe:
            said.append("That may be more than a point: it is what loses least, and the job will measure it.")
    if bolder is not None:
        said.append(f"Bolder, and perhaps too bold: {_listed(bolder)}. {_expected(bolder)}")
    return " ".join(said)


def _listed(pipeline: Pipeline) -> str:
    return ", then ".join(_called(step) for step in pipeline.steps)


def _called(step: Technique) -> str:
    """With what differs from the defaults, if it is short."""
    given = {name: value for name, value in brief(step).items() if name != "technique"}
    shown = [f"{name} {value}" for name, value in given.items() if isinstance(value, float | int | str)]
    return f"{step.technique} ({', '.join(shown)})" if shown else step.technique


def _expected(pipeline: Pipeline) -> str:
    expected = pipeline.expected
    parts = [
        f"{figure.value:.1f} times {word}"
        for figure, word in (
            (expected.latency, "as fast"),
            (expected.file, "smaller on the disk"),
            (expected.download, "smaller as downloaded"),
        )
        if figure.value >= WORTH
    ]
    gains = ", ".join(parts) or "no gain"
    measured = expected.latency.basis == "measured"
    how = (
        f"measured by job {expected.latency.job_id}"
        if measured
        else f"estimated from models of the kind, with {pipeline.confidence} confidence"
    )
    return f"{'It was' if measured else 'Expect'} {gains}, {_lost(expected.drop)} ({how})."


def _lost(drop: Figure | None) -> str:
    if drop is None:
        return "at a loss that was not measured"
    if abs(drop.value) < _NOTHING:
        return "at no loss to speak of"
    if drop.value < 0:
        return f"at a gain of {-100 * drop.value:.1f} points"
    return f"at a loss of about {100 * drop.value:.1f} points"


def notes(model: ModelInspection, data: DatasetInspection | None, target: str) -> Iterator[str]:
    if Trait.QUANTIZED in model.traits:
        yield "the model is quantized already: most techniques need its floating-point original; upload that"
    if Trait.HALF_PRECISION in model.traits:
        yield "the model is in half precision: most techniques need its float32 original; upload that"
    if small(model):
        yield (
            "at so few multiplications a run is mostly the runtime's own overhead: size can be won, speed "
            "hardly; put more samples into one run instead"
        )
    yield from _of_data(data)
    if target != "cpu":
        yield "estimates of speed come from processors with AVX-512 VNNI, not from this target: measure"


def _of_data(data: DatasetInspection | None) -> Iterator[str]:
    if data is None:
        yield (
            "no data set was named: what is calibrated or trained is left out, and a job can only say how "
            "near outputs are to the original's"
        )
        return
    if not labelled(data):
        yield (
            "without labels no metric can be measured: techniques learn from the original's outputs, and "
            "agreement with it stands for the metric"
        )
    if scarce(data):
        yield (
            "there are few samples to recover on, so whatever cuts or trains is expected to lose more: some "
            "thousand, labelled or not, make it safe"
        )
    yield from (
        f"the data set: {finding.detail}; {finding.way_out}"
        for finding in data.findings
        if finding.severity != "info"
    )


def _count(number: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _macs(model: ModelInspection) -> str:
    return f" and {_count(model.macs)} multiply-accumulates" if model.macs else ""


def reasons(pipeline: Pipeline) -> str:
    pairs = zip(pipeline.steps, pipeline.reasons, strict=True)
    return "; ".join(f"{step.technique}: {why}" for step, why in pairs)
