"""What a mixed model loses, as a whole: noise of its outputs, and the metric where there are labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression import runtime
from compression.dataset import Dataset, Split
from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.measurement import Metric, WantedTask
from compression.model import Model
from compression.sensitivity.evaluation import Evaluator, thinned


@dataclass(frozen=True)
class Verdict:
    sqnr_db: float | None
    agreement: float | None
    drop: float | None
    """Of a metric: points, or a share of the original's value where it has no upper end. None: unknown."""
    metric: str | None
    samples: int

    @property
    def json(self) -> Mapping[str, Any]:
        return {
            "sqnr_db": self.sqnr_db,
            "agreement": self.agreement,
            "metric": self.metric,
            "metric_drop": self.drop,
            "judged_on": self.samples,
        }


@dataclass(frozen=True)
class Judge:
    """Compares with the original, on the same samples."""

    evaluator: Evaluator
    original: Metric | None

    @classmethod
    def of(cls, model: Model, split: Split, task: WantedTask, threads: int) -> "Judge":
        """Errors: CompressionError E_MODEL_RUN, `dataset_misfit`."""
        session = runtime.session(model.proto, threads=threads)
        evaluator = Evaluator.of(model, split, task, session)
        if evaluator.asked.question is None:
            return cls(evaluator, None)
        return cls(evaluator, evaluator.scores(lambda feeds: runtime.run(session, feeds)).metric)

    def verdict(self, made: Model, threads: int) -> Verdict:
        """Errors: CompressionError E_MODEL_RUN."""
        session = runtime.session(made.proto, threads=threads)
        scores = self.evaluator.scores(lambda feeds: runtime.run(session, feeds))
        before, after = self.original, scores.metric
        return Verdict(
            scores.sqnr_db,
            scores.agreement,
            None if before is None or after is None else before.loss(after),
            None if before is None else before.name,
            self.evaluator.samples,
        )


def labelled(data: Dataset, samples: int, model: Model) -> Split:
    """Samples to read a metric off, never those of the test split: it only proves.

    Errors: CompressionError `labels_missing`.
    """
    for name in ("calibration", "train"):
        split = data.split(name)
        if split is not None and split.labels is not None:
            return thinned(split, samples, model.inputs)
    raise CompressionError(
        "labels_missing",
        "max_metric_drop needs labels in the calibration or the train split",
        ErrorKind.UNSUPPORTED,
        suggestions=[Suggestion("Limit the noise of the outputs instead", {"min_sqnr_db": 20})],
    )
