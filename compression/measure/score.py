"""How each task is scored."""

from collections.abc import Mapping
from typing import Protocol, assert_never

from compression.dataset import Array
from compression.measure.classification import Classification, Positions
from compression.measure.language import LanguageModel
from compression.measure.multilabel import MultiLabel
from compression.measure.paired import Evidence
from compression.measure.regression import Regression
from compression.measure.similarity import Pairs, Similarity
from compression.measure.task import MASK, Told
from compression.measure.transcription import Transcription
from compression.measurement import Metric


class Score(Protocol):
    """Add batch after batch, in the order of the data set, then read."""

    def add(self, output: Array, labels: Array) -> None: ...

    def metrics(self) -> tuple[Metric, ...]:
        """The one that counts first; none where no label counted."""
        ...

    def evidence(self) -> Evidence:
        """Of the one that counts. Two models judged on the same samples are compared by it."""
        ...


def score(told: Told, inputs: Mapping[str, Array]) -> Score:  # noqa: PLR0911  one for each task
    """`inputs` are those of all samples, by input of the model."""
    match told.task:
        case "classification":
            return Classification()
        case "tokens":
            return Positions(told.axis or 0)
        case "multilabel":
            return MultiLabel(told.threshold)
        case "regression":
            return Regression()
        case "similarity":
            return Pairs(inputs.get(MASK)) if told.pairs else Similarity()
        case "language_model":
            return LanguageModel(told.ahead, inputs.get(MASK))
        case "ctc":
            return Transcription(told.batch_first)
        case _ as unreachable:
            assert_never(unreachable)
