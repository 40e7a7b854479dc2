"""The loop learns each kind of task, told from outputs and labels alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from compression import runtime
from compression.dataset import Split
from compression.errors import CompressionError
from compression.measure.task import Seen
from compression.model import Model
from compression.training import losses
from compression.training.batches import Batch, Batches
from compression.training.form import Form, form_of, logits
from compression.training.objective import Objective
from compression.training.options import Training
from compression.training.tuning import fine_tune
from tests.compression.networks import Builder
from tests.compression.training.problems import I64, WIDTH, F, answers, context, convolutional, dense, inputs

_BY_LABELS = Training(
    epochs=30, batch_size=32, optimizer="adamw", learning_rate=0.01, loss="labels", validation=0
)


def learnt(
    model: Model, split: Split, folder: Path, training: Training = _BY_LABELS
) -> tuple[np.ndarray, str]:
    """Outputs for the samples after training, and what the loop took the task for."""
    trained, details = fine_tune(model, training, context(folder, split))
    first, last = details["history"][0]["loss"], details["history"][-1]["loss"]
    assert last < first
    parts = runtime.run_split(runtime.session(trained.proto), split, trained.inputs)
    return np.concatenate([part["y"] for part in parts]), details["objective"]


@pytest.mark.parametrize("last", ["", "Softmax", "LogSoftmax", "Sigmoid"])
def test_classes(last: str, tmp_path: Path) -> None:
    x = inputs(320, WIDTH)
    labels = answers(x, 4).argmax(-1).astype(np.uint8)
    ending = {"axis": -1} if "Softmax" in last else {}
    found, task = learnt(dense(4, last, **ending), Split({"x": x}, labels), tmp_path)
    assert task == "classification"
    assert (found.argmax(-1) == labels).mean() > 0.9


def test_classes_of_positions_where_negative_labels_count_for_nothing(tmp_path: Path) -> None:
    x = inputs(320, 5, WIDTH)
    labels = answers(x, 3).argmax(-1)
    unknown = np.random.default_rng(1).random(labels.shape) < 0.3
    split = Split({"x": x}, np.where(unknown, -1, labels))
    found, task = learnt(dense(3, shape=("batch", "length", WIDTH)), split, tmp_path)
    assert task == "classification of positions"
    assert (found.argmax(-1) == labels).mean() > 0.9


def test_a_batch_without_any_label_teaches_nothing() -> None:
    output = torch.randn(4, 3, requires_grad=True)
    seen = Seen(output.detach().numpy(), 4, np.zeros(4, int), {})
    task = losses.by_labels(seen, lambda _: Form.LOGITS)
    assert task is not None
    task.loss(output, torch.full((4,), -1)).backward()
    assert output.grad is not None
    assert not output.grad.any()


def test_classes_of_pixels(tmp_path: Path) -> None:
    x = inputs(320, 1, 4, 4)
    labels = np.digitize(x[:, 0], [-0.5, 0.5])
    found, _ = learnt(convolutional(), Split({"x": x}, labels), tmp_path)
    assert (found.argmax(1) == labels).mean() > 0.9


@pytest.mark.parametrize("last", ["", "Sigmoid"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_several_labels_at_once(last: str, dtype: type, tmp_path: Path) -> None:
    x = inputs(320, WIDTH)
    labels = (answers(x, 5) > 0).astype(dtype)
    found, task = learnt(dense(5, last), Split({"x": x}, labels), tmp_path)
    assert task == "multi-label"
    assert ((found > (0.5 if last else 0)) == labels).mean() > 0.9


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression(outputs: int, tmp_path: Path) -> None:
    x = inputs(320, WIDTH)
    labels = 5 * answers(x, outputs)
    found, task = learnt(dense(outputs), Split({"x": x}, labels.squeeze()), tmp_path)
    assert task == "regression"
    assert np.mean((found - labels) ** 2) < 0.25 * np.var(labels)


@pytest.mark.parametrize("last", ["", "Softmax"])
def test_transcription(last: str, tmp_path: Path) -> None:
    """The letters in order; a step that shows none is a blank."""
    random = np.random.default_rng(0)
    shown = random.integers(0, 4, (320, 9))
    x = np.eye(4, WIDTH, dtype=np.float32)[shown] + 0.1 * inputs(320, 9, WIDTH)
    shown[:, 1::2] = 0
    x[:, 1::2] = 0.1 * inputs(320, 4, WIDTH, seed=1)
    labels = np.full((320, 6), -1)
    for row, letters in zip(labels, shown, strict=True):
        written = letters[letters > 0]
        row[: len(written)] = written
    ending = {"axis": -1} if last else {}
    model = dense(4, last, ("batch", "length", WIDTH), **ending)
    found, task = learnt(model, Split({"x": x}, labels), tmp_path)
    assert task == "transcription (CTC)"
    read = found.argmax(-1)
    assert ((read[:, 1:] != read[:, :-1]) | (read[:, 1:] == 0)).any()
    assert (
        np.mean(
            [[*row[row > 0]] == [*want[want > 0]] for row, want in zip(_merged(read), labels, strict=True)]
        )
        > 0.9
    )


def _merged(read: np.ndarray) -> np.ndarray:
    """Repetitions become blanks."""
    again = np.zeros_like(read, bool)
    again[:, 1:] = read[:, 1:] == read[:, :-1]
    return np.where(again, 0, read)


def test_transcription_with_steps_first_is_the_same() -> None:
    output, labels = (
        inputs(6, 9, 4),
        np.array([[1, 2, -1], [3, -1, -1], [1, 1, 2], [2, -1, -1], [1, 3, 0], [2, 2, -1]]),
    )
    values = []
    for array in (output, output.swapaxes(0, 1)):
        task = losses.by_labels(Seen(array, 6, labels, {}), lambda _: Form.LOGITS)
        assert task is not None
        values.append(task.loss(torch.tensor(array), torch.tensor(labels)))
    assert torch.equal(*values)


def test_a_task_that_is_said_is_learnt() -> None:
    """Labels as wide as the output is long are letters to be read, not classes of positions."""
    output, labels = inputs(6, 3, 4), np.array([[1, 2, -1], [3, -1, -1]] * 3)
    seen = Seen(output, 6, labels, {})
    told, said = (losses.by_labels(seen, lambda _: Form.LOGITS, wanted=task) for task in ("auto", "ctc"))
    assert told is not None
    assert said is not None
    assert (told.task, said.task) == ("classification of positions", "transcription (CTC)")


def test_next_tokens() -> None:
    tokens = np.random.default_rng(0).integers(0, 7, (6, 5))
    output = inputs(6, 5, 7)
    task = losses.by_labels(Seen(output, 6, tokens, {"ids": tokens}), lambda _: Form.LOGITS)
    assert task is not None
    assert task.task == "next token"
    likely = torch.tensor(output).log_softmax(-1)
    nats = [-likely[n, t, tokens[n, t + 1]] for n in range(6) for t in range(4)]
    loss = task.loss(torch.tensor(output), torch.tensor(tokens))
    assert float(loss) == pytest.approx(float(sum(nats)) / len(nats), rel=1e-5)


def test_pairs_of_rows_teach_nothing_alone() -> None:
    seen = Seen(inputs(6, 4), 6, np.repeat([0.1, 0.5, 0.9], 2), {})
    assert losses.by_labels(seen, lambda _: Form.LOGITS, wanted="similarity") is None


_SOFT = _BY_LABELS.model_copy(update={"loss": "distillation"})


@pytest.mark.parametrize("last", ["", "Softmax", "LogSoftmax"])
def test_distillation_without_labels(last: str, tmp_path: Path) -> None:
    ending = {"axis": -1} if last else {}
    teacher, student = dense(4, last, **ending), dense(4, last, **ending)
    noise = np.random.default_rng(2)
    for tensor in student.proto.graph.initializer:
        values = np.frombuffer(tensor.raw_data, np.float32)
        tensor.raw_data = (values * noise.uniform(-1, 1, values.shape)).astype(np.float32).tobytes()
    split = Split({"x": inputs(320, WIDTH)}, None)
    trained, details = fine_tune(student, _SOFT, context(tmp_path, split), teacher=teacher)
    assert details["objective"] == "distillation"
    assert details["output"] == "y"
    outputs = [
        np.concatenate([part["y"] for part in runtime.run_split(runtime.session(m.proto), split, m.inputs)])
        for m in (teacher, student, trained)
    ]
    agreed = [(outputs[0].argmax(-1) == one.argmax(-1)).mean() for one in outputs[1:]]
    assert agreed[1] > 0.9 > agreed[0]


def test_a_teacher_and_a_student_of_other_forms() -> None:
    """A perfect student has no loss, whether either ends in a softmax or not."""
    scores = torch.randn(6, 4)
    forms = {
        Form.LOGITS: scores,
        Form.PROBABILITIES: scores.softmax(-1),
        Form.LOG_PROBABILITIES: scores.log_softmax(-1),
    }
    for student, output in forms.items():
        for teacher, target in forms.items():
            assert losses.Softened(1, student, teacher, 4.0)(output, target) == pytest.approx(0, abs=1e-5)
            assert losses.Softened(1, student, teacher, 4.0)(output.flip(1), target) > 0.01


def test_softened_is_the_formula() -> None:
    student, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    p, q = (teacher / 2).softmax(1), (student / 2).softmax(1)
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    found = losses.Softened(1, Form.LOGITS, Form.LOGITS, 2.0)(student, teacher)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_labels_and_teacher_are_weighed_by_alpha(tmp_path: Path) -> None:
    x = inputs(64, WIDTH)
    split, model, other = Split({"x": x}, answers(x, 4).argmax(-1)), dense(4), dense(4, "Softmax", axis=-1)
    values = {}
    for alpha in (0.0, 0.25, 1.0):
        objective = Objective.of(model, split, Training(alpha=alpha), context(tmp_path, split), other)
        batch = batch_of(model, split, objective)
        outputs = {"y": torch.randn(64, 4, generator=torch.Generator().manual_seed(0))}
        values[alpha] = float(objective(outputs, batch))
    assert values[0.25] == pytest.approx(0.75 * values[0.0] + 0.25 * values[1.0], rel=1e-5)


def batch_of(model: Model, split: Split, objective: Objective) -> Batch:
    indices = np.arange(split.n)
    batches = Batches(
        split=split, inputs=model.inputs, indices=indices, size=64, seed=0, teach=objective.teacher
    )
    return batches.of(indices)


def test_raw_positions_are_imitated_in_value(tmp_path: Path) -> None:
    """Boxes are no classes: what softmax does not see, such as an offset, must not move."""
    split = Split({"x": inputs(64, 5, WIDTH)}, None)
    model = dense(4, shape=("batch", "length", WIDTH))
    objective = Objective.of(model, split, Training(), context(tmp_path, split))
    batch = batch_of(model, split, objective)
    assert batch.teacher is not None
    assert float(objective({"y": batch.teacher["y"]}, batch)) == 0
    assert float(objective({"y": batch.teacher["y"] + 1}, batch)) > 0.1


def test_numeric_labels_say_that_outputs_are_no_classes(tmp_path: Path) -> None:
    x = inputs(64, WIDTH)
    split, model = Split({"x": x}, answers(x, 4)), dense(4)
    objective = Objective.of(model, split, Training(loss="distillation"), context(tmp_path, split))
    batch = batch_of(model, split, objective)
    assert batch.teacher is not None
    assert float(objective({"y": batch.teacher["y"] + 1}, batch)) > 0.1


def test_forms() -> None:
    scores = inputs(20, 4)
    soft = torch.tensor(scores).softmax(-1).numpy()
    assert form_of(scores, 1) is Form.LOGITS
    assert form_of(soft, 1) is Form.PROBABILITIES
    assert form_of(np.log(soft), 1) is Form.LOG_PROBABILITIES
    assert form_of(1 / (1 + np.exp(-scores)), 1, "Sigmoid") is Form.INDEPENDENT
    assert form_of(np.full((20, 1), 0.5), 1) is Form.LOGITS  # small numbers are not probabilities yet


def test_a_probability_of_nearly_zero_still_has_a_gradient() -> None:
    scores = torch.tensor([[40.0, 0.0]], requires_grad=True)
    torch.nn.functional.cross_entropy(
        logits(scores.softmax(-1), Form.PROBABILITIES), torch.tensor([1])
    ).backward()
    assert scores.grad is not None
    assert torch.allclose(scores.grad, torch.tensor([[1.0, -1.0]]), atol=1e-3)


@pytest.mark.parametrize(
    ("labels", "code"), [(None, "labels_missing"), (np.zeros((64, 3), np.int64), "labels_unfit")]
)
def test_labels_that_cannot_be(labels: np.ndarray | None, code: str, tmp_path: Path) -> None:
    split = Split({"x": inputs(64, WIDTH)}, labels)
    with pytest.raises(CompressionError, match=code) as refused:
        fine_tune(dense(4), _BY_LABELS, context(tmp_path, split))
    assert refused.value.suggestions[0].patch == {"training": {"loss": "distillation"}}


@pytest.mark.parametrize("transcribed", [False, True])
def test_a_label_beyond_the_classes(transcribed: bool, tmp_path: Path) -> None:
    x = inputs(64, 9, WIDTH) if transcribed else inputs(64, WIDTH)
    labels = np.full((64, 3) if transcribed else 64, 1)
    labels[40] = 4
    model = dense(4, shape=("batch", "length", WIDTH) if transcribed else ("batch", WIDTH))
    with pytest.raises(CompressionError, match="a label is 4 where the output has 4 classes"):
        fine_tune(model, _BY_LABELS, context(tmp_path, Split({"x": x}, labels)))


def test_classes_of_sequences(tmp_path: Path) -> None:
    """Whether a word occurs, learnt through an embedding of integers."""
    b = Builder(5)
    embedded = b.node("Gather", [b.weight("embedding", 20, 16, scale=0.5), "words"], "e")
    pooled = b.node("ReduceMax", [embedded, b.constant("axes", np.array([1]))], "p", keepdims=0)
    b.node("MatMul", [pooled, b.weight("w", 16, 2, scale=0.3)], "y")
    value = helper.make_tensor_value_info
    words = value("words", I64, ["batch", "length"])
    model = Model(b.model([words], [value("y", F, ["batch", 2])], opset=18))
    data = np.random.default_rng(0).integers(0, 20, (320, 12))
    labels = (data == 7).any(1).astype(np.int64)
    found, task = learnt(model, Split({"words": data}, labels), tmp_path)
    assert task == "classification"
    assert (found.argmax(-1) == labels).mean() > 0.95
