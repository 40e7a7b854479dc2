"""Each task from files to numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import helper

from compression.dataset import Split
from compression.measure import compare, latency, question
from compression.measurement import Measurements, WantedTask
from compression.model import Model
from tests.compression.conftest import Normalise, Pack, network
from tests.compression.networks import Builder, F
from tests.compression.test_measure import noisy, regression

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 7, (60, 9))
"""Of the transformer, whose output is [N, 9, 7]."""


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.01)
    monkeypatch.setattr(latency, "LEAST", 4)
    monkeypatch.setattr(latency, "SITTINGS", (1, 1))


@pytest.fixture
def measured(normalise: Normalise, pack: Pack) -> Any:
    """Numbers of the transformer and of a disturbed one."""

    def of(test: Mapping[str, np.ndarray], task: WantedTask = "auto") -> Measurements:
        both = normalise(network("transformer")), normalise(noisy(network("transformer"), 0.05))
        return compare(*both, pack({f"test/{name}": values for name, values in test.items()}), task=task)

    return of


def names(found: Measurements) -> list[list[str]]:
    """Of the original and of the other, the one that counts first."""
    both = found.original, found.compressed
    return [[one.metric.name, *(more.name for more in one.metrics)] if one.metric else [] for one in both]


def test_tokens_that_are_their_own_labels_make_a_language_model(measured: Any) -> None:
    found = measured({"tokens": TOKENS, "label": TOKENS})
    assert found.task == "language_model"
    assert names(found) == [["perplexity", "token_accuracy"]] * 2
    assert found.original.metric.value != found.compressed.metric.value
    assert found.compressed.kl > 0


def test_a_language_model_needs_no_labels(measured: Any) -> None:
    told, said = (
        measured({"tokens": TOKENS, "label": TOKENS}),
        measured({"tokens": TOKENS}, "language_model"),
    )
    assert said.original.metric == told.original.metric
    assert said.warnings == ()


def test_transcriptions_as_wide_as_the_steps_are_said_to_be_some(measured: Any) -> None:
    letters = np.where(np.arange(9) < 4, RANDOM.integers(1, 7, (60, 9)), -1)
    data = {"tokens": TOKENS, "label": letters}
    assert names(measured(data)) == [["token_accuracy"]] * 2
    found = measured(data, "ctc")
    assert (found.task, names(found)) == ("ctc", [["cer", "sequence_accuracy"]] * 2)


def test_embeddings_of_pairs(measured: Any) -> None:
    data = {"tokens": TOKENS, "label": np.repeat(RANDOM.normal(size=30), 2)}
    found = measured(data, "similarity")
    assert (found.task, names(found)) == ("similarity", [["spearman", "pearson"]] * 2)
    assert found.original.metric.n == 30
    assert found.compressed.kl is None
    assert found.compressed.agreement is not None
    assert 0 < found.compressed.agreement < 1
    assert measured(data).warnings == (
        "the labels fit no output; no task metric was measured",
        "if rows 2i and 2i + 1 are pairs with one label, ask for task 'similarity'",
    )


def test_without_labels_only_fidelity_is_measured_and_said_so(measured: Any) -> None:
    found = measured({"tokens": TOKENS})
    assert (found.task, names(found)) == (None, [[], []])
    assert found.warnings == ("no labels: only fidelity was measured (agreement, KL divergence, SQNR)",)
    assert None not in {found.compressed.agreement, found.compressed.kl, found.compressed.sqnr_db}


def test_a_task_that_does_not_fit_is_said_so(measured: Any) -> None:
    found = measured({"tokens": TOKENS, "label": TOKENS}, "classification")
    assert (found.task, found.original.metric) == (None, None)
    assert found.warnings == (
        "the labels fit no output as those of task 'classification'; no task metric was measured",
    )


def test_labels_none_of_which_counts(measured: Any) -> None:
    found = measured({"tokens": TOKENS, "label": np.full((60, 9), -100)})
    assert (found.task, found.original.metric) == (None, None)
    assert found.warnings == (
        "no label counts, or outputs are no numbers: no task metric, only fidelity was measured",
    )


def test_labels_beyond_the_classes_are_told_of(measured: Any) -> None:
    found = measured({"tokens": TOKENS, "label": TOKENS[::-1] + 1})
    assert found.warnings == ("a label is 7 where the output has 7 classes: such labels count as wrong",)


def test_random_samples_have_no_task(normalise: Normalise) -> None:
    path = normalise(network("transformer"))
    found = compare(path, path, None, task="language_model")
    assert (found.task, found.original.metric) == (None, None)


@pytest.mark.parametrize("last", ["", "Sigmoid"])
def test_several_labels(last: str, normalise: Normalise, pack: Pack) -> None:
    """A model that knows the answers, by the sign of its logits."""

    def model(bias: float) -> Any:
        b = Builder()
        top = b.node("Add", ["x", b.constant("bias", np.full(3, bias, np.float32))], "h" if last else "y")
        if last:
            b.node(last, [top], "y")
        ends = [helper.make_tensor_value_info(name, F, ["n", 3]) for name in "xy"]
        return b.model(ends[:1], ends[1:])

    x = RANDOM.normal(size=(100, 3)).astype(np.float32)
    data = pack({"test/x": x, "test/label": (x > 0).astype(np.int64)})
    found = compare(normalise(model(0)), normalise(model(0.5)), data)
    assert (found.task, names(found)) == ("multilabel", [["micro_f1", "macro_f1"]] * 2)
    assert found.original.metric is not None
    assert found.original.metric.value == 1
    assert found.compressed.agreement == pytest.approx(np.mean((x > 0) == (x > -0.5)))
    assert found.compressed.kl is None


def test_numbers_agree_where_they_are_near(normalise: Normalise, pack: Pack) -> None:
    """Columns of numbers are no classes: the largest of them decides nothing."""
    x = RANDOM.uniform(1, 2, (100, 3)).astype(np.float32)
    data = pack({"test/x": x, "test/label": x + 0.5})
    found = compare(normalise(regression()), normalise(regression(0.01)), data)
    assert (found.task, names(found)) == ("regression", [["rmse", "mae", "r2"]] * 2)
    assert (found.compressed.agreement, found.compressed.kl) == (1, None)


def test_outputs_of_a_batch_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(question, "_MOST_OUTPUTS", 10 * 9 * 7)
    model = Model(network("transformer"))

    def batch(rows: int) -> int:
        split = Split({"tokens": TOKENS[:rows]}, None)
        return question.ask(model, split).batch

    assert batch(60) == batch(1) == 10
    monkeypatch.setattr(question, "_MOST_OUTPUTS", 1)
    assert batch(60) == 1


def test_reports_of_before_are_still_read(measured: Any) -> None:
    stored = measured({"tokens": TOKENS, "label": TOKENS}).model_dump(mode="json")
    stored.pop("task")
    for one in ("original", "compressed"):
        stored[one].pop("metrics")
        stored[one]["metric"].pop("relative")
    read = Measurements.model_validate(stored)
    assert (read.task, read.original.metrics) == (None, ())
    assert read.original.metric is not None
    assert not read.original.metric.relative
