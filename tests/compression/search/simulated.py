"""A search without networks: real techniques, and measurements that follow what they are expected to give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from compression.inspection import ArraySpec, DatasetInspection, ModelInspection, TensorSpec
from compression.measurement import Measurement, Measurements, Metric, Ratio
from compression.recipe import Recipe
from compression.search.budget import Budget
from compression.search.plan import Moment, Next, plan
from compression.search.sampler import sample
from compression.search.space import Pipeline, Space, epochs, families
from compression.search.trial import Trial
from compression.technique import Proposal, Stage

MODEL = ModelInspection(
    format="onnx",
    opset=20,
    ir_version=10,
    producer="tests",
    inputs=(TensorSpec(name="image", dtype="float32", shape=("batch", 1, 28, 28)),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 10)),),
    operators={"Conv": 15, "Relu": 13, "Add": 6, "Gemm": 1},
    nodes=35,
    params=700_000,
    macs=80_000_000,
    bytes=2_800_000,
    traits=frozenset(),
)
_SPLITS = {"train": 60_000, "calibration": 512, "test": 10_000}
DATA = DatasetInspection(
    format="npz",
    arrays=tuple(
        ArraySpec(name=name, split=split, dtype="uint8", shape=(n, *shape))
        for split, n in _SPLITS.items()
        for name, shape in (("image", (1, 28, 28)), ("label", ()))
    ),
    splits=_SPLITS,
    labelled=True,
    bytes=55_000_000,
)
ORIGINAL = Measurement(
    bytes=2_800_000,
    bytes_zstd=2_600_000,
    params=700_000,
    nonzero_params=700_000,
    macs=80_000_000,
    peak_activation_bytes=400_000,
    metric=Metric(name="accuracy", value=0.94, ci95=(0.93, 0.95), n=5000),
)


def step(name: str, smaller: float, faster: float, drop: float, **fields: object) -> Proposal:
    recipe = Recipe.model_validate({"steps": [{"technique": name, **fields}]})
    return Proposal(recipe.steps[0], smaller, faster, drop, "medium", "because it is a test")


def proposals() -> list[Proposal]:
    cuts = [
        step("channel_pruning", 1 / (1 - r) ** 0.9, 1 / (1 - r), 0.02 * r**3, ratio=r)
        for r in (0.3, 0.6, 0.9)
    ]
    return [
        *cuts,
        step("magnitude_pruning", 3.0, 1.0, 0.004, sparsity=0.8),
        step("static_quantization", 4.0, 2.5, 0.001),
        step("half_precision", 2.0, 1.0, 0.0),
        step("quantization_aware_training", 4.0, 2.5, 0.0),
    ]


def simulated_space(given: Sequence[Proposal] | None = None) -> Space:
    given = proposals() if given is None else given
    by_stage = {
        stage: tuple(families([each for each in given if type(each.step).stage is stage])) for stage in Stage
    }
    return Space(MODEL, DATA, by_stage)


def measured(faster: float, smaller: float, drop: float) -> Measurements:
    metric = Metric(name="accuracy", value=0.94 - drop, ci95=(0.9, 1.0), n=5000)
    after = ORIGINAL.model_copy(
        update={"metric": metric, "bytes": round(ORIGINAL.bytes / smaller), "macs": 80_000_000}
    )
    ratios = {
        "latency": Ratio(value=faster),
        "bytes": Ratio(value=smaller),
        "bytes_zstd": Ratio(value=smaller),
    }
    return Measurements(original=ORIGINAL, compressed=after, ratios=ratios)


_MEASURING = 4.0
_FIXED = 2.0


@dataclass
class Simulation:
    """Runs trials one after the other, on as many seats as there are, by a clock of its own."""

    space: Space
    budget: Budget
    seats: int = 1
    seconds_per_epoch: float = 40.0
    seed: int = 0
    _cached: set[tuple[str, float]] = field(default_factory=set)

    def run(self, until: Callable[[Sequence[Trial]], bool] = lambda _: False) -> list[Trial]:
        trials: list[Trial] = []
        ends: dict[int, float] = {}
        self._cached = set()
        clock = 0.0
        while not until(trials):
            new = plan(self.space, self.budget, trials, Moment(clock, self.seats, self.seed), sample)
            for each in new:
                lasts = self._lasts(each)
                ends[len(trials)] = clock + lasts
                work = self._work(each)
                trials.append(Trial(len(trials), each.steps, each.share, "open", None, work, _MEASURING))
            if not ends:
                return trials
            number = min(ends, key=lambda one: (ends[one], one))
            clock = ends.pop(number)
            trials[number] = self._over(trials[number])
        return trials

    def _work(self, each: Next) -> list[float]:
        return [_FIXED + self.seconds_per_epoch * epochs([own]) * each.share for own in each.steps]

    def _lasts(self, each: Next) -> float:
        """Steps that were done before, after the same ones, are not done again."""
        seconds = _MEASURING
        for at, own in enumerate(self._work(each)):
            key = str(each.steps[: at + 1]), each.share
            seconds += own if key not in self._cached else 0.0
            self._cached.add(key)
        return seconds

    def _over(self, trial: Trial) -> Trial:
        pipeline = self._pipeline(trial)
        untrained = 1 + 4 * (1 - min(trial.share, 1)) if trial.trained else 1
        found = measured(pipeline.faster, pipeline.smaller, pipeline.drop * untrained)
        return replace(trial, state="succeeded", measurements=found)

    def _pipeline(self, trial: Trial) -> Pipeline:
        chosen = []
        for each in trial.steps:
            family = next(
                f for own in self.space.families.values() for f in own if f.technique == each["technique"]
            )
            chosen.append((family, float(each[family.field]) if family.field else None))
        made = self.space.pipeline(chosen)
        assert made is not None
        return made
