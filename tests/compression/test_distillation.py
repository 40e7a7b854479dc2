"""Distillation: students that learn a function from another network, and what is refused."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from compression import distillation, runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.graph import hints
from compression.inspection import Trait
from compression.model import Model
from compression.recipe import Recipe
from compression.step import apply_step
from compression.technique import REGISTRY, Applied, Context, Need, Technique
from compression.training import loop
from tests.compression.channel_networks import Net
from tests.compression.conftest import Pack
from tests.compression.networks import Builder, F, cnn, lstm

STEADY = {"precision": "float32", "validation": 0}


def step(**parameters: object) -> Technique:
    return REGISTRY["distillation"].model_validate({"technique": "distillation", **parameters})


def context(path: Path, data: Path, **more: Any) -> Context:
    return Context(Dataset.open(data), 0, path, **more)


def dense(hidden: int, seed: int, *, x: str = "x", y: str = "y") -> onnx.ModelProto:
    """12 numbers -> 4 classes."""
    b = Builder(seed)
    h = b.node("Gemm", [x, b.weight("in", hidden, 12), b.weight("in.b", hidden, scale=0.5)], "h", transB=1)
    h = b.node("Relu", [h], "h.relu")
    b.node("Gemm", [h, b.weight("out", 4, hidden, scale=0.4), b.weight("out.b", 4, scale=0.1)], y, transB=1)
    return b.model(
        [helper.make_tensor_value_info(x, F, ["batch", 12])],
        [helper.make_tensor_value_info(y, F, ["batch", 4])],
    )


def outputs(model: Model | onnx.ModelProto, x: np.ndarray, name: str = "y") -> np.ndarray:
    proto = model.proto if isinstance(model, Model) else model
    (feed,) = (value.name for value in proto.graph.input)
    return runtime.run(runtime.session(proto), {feed: x})[name]


def inputs(n: int, seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape), np.float32)


def arrays(teacher: onnx.ModelProto, n: int = 300, noise: float = 0.0) -> dict[str, np.ndarray]:
    """Labels are the teacher's decisions, but for a share of `noise`."""
    random = np.random.default_rng(1)
    made = {}
    for split, count in (("train", n), ("calibration", 40), ("test", 40)):
        x = inputs(count, len(split), 12)
        labels = outputs(teacher, x).argmax(1)
        wrong = random.random(count) < noise
        labels[wrong] = random.integers(0, 4, int(wrong.sum()))
        made |= {f"{split}/x": x, f"{split}/label": labels}
    return made


def unlabelled(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in arrays.items() if not name.endswith("label")}


def test_a_student_learns_the_function_without_labels_better_than_from_noisy_ones(
    tmp_path: Path, pack: Pack
) -> None:
    teacher, student = Model(dense(48, 0)), Model(dense(12, 7, x="numbers", y="scores"))
    given, fresh = arrays(teacher.proto, noise=0.4), inputs(2000, 99, 12)
    wanted = outputs(teacher, fresh).argmax(1)
    agreement = {}
    for loss, data in (("distillation", unlabelled(given)), ("labels", given), ("auto", given)):
        training = {**STEADY, "epochs": 16, "batch_size": 32, "loss": loss}
        made, details = step(student="other", training=training).apply(
            teacher, context(tmp_path, pack(data), models={"other": student})
        )
        assert (made.inputs, made.outputs) == (teacher.inputs, teacher.outputs)
        assert details["params"] < details["teacher_params"]
        agreement[loss] = float((outputs(made, fresh).argmax(1) == wanted).mean())
    before = float((outputs(student, fresh, "scores").argmax(1) == wanted).mean())
    assert before < agreement["labels"] < agreement["distillation"] - 0.05
    assert agreement["auto"] > agreement["labels"] + 0.05
    assert agreement["distillation"] > 0.7


def test_the_original_teaches_unless_another_is_named(tmp_path: Path, pack: Pack) -> None:
    small, original, other = Model(dense(24, 3)), Model(dense(48, 0)), Model(dense(48, 5, y="z"))
    data, fresh = pack(unlabelled(arrays(original.proto))), inputs(500, 99, 12)
    training = {**STEADY, "epochs": 12, "batch_size": 32}

    def agreement(other_than: str, **parameters: Any) -> float:
        using = context(tmp_path, data, original=original, models={"better": other})
        made, _ = step(training=training, **parameters).apply(small, using)
        wanted = outputs(other, fresh, "z") if other_than == "original" else outputs(original, fresh)
        return float((outputs(made, fresh).argmax(1) == wanted.argmax(1)).mean())

    assert agreement("better") > agreement("better", teacher="better") + 0.3
    assert agreement("original", teacher="better") > agreement("original") + 0.3


def convolutional(seed: int = 0) -> onnx.ModelProto:
    b = Net(seed)
    x = b.op("Relu", b.conv("x", 3, 16))
    x = b.op("MaxPool", b.op("Relu", b.conv(x, 16, 32)), kernel_shape=[2, 2], strides=[2, 2])
    b.classes(b.op("Relu", b.conv(x, 32, 32)), 32)
    return b.done()


def images(n: int) -> dict[str, np.ndarray]:
    sizes = (("train", n), ("calibration", 40), ("test", 40))
    return {f"{split}/x": inputs(count, len(split), 3, 8, 8) for split, count in sizes}


def test_hints_bring_hidden_maps_together(tmp_path: Path, pack: Pack) -> None:
    model, data = Model(convolutional()), pack(images(128))
    (feeds,) = ({"x": inputs(1, 4, 3, 8, 8)} for _ in range(1))
    training = {**STEADY, "epochs": 10, "batch_size": 32, "learning_rate": 0.02}
    derive = {"width": 0.5, "initialization": "random"}
    distance = {}
    for name, wanted in {"none": (), "auto": "auto"}.items():
        made, details = step(hints=wanted, training=training, derive=derive).apply(
            model, context(tmp_path, data)
        )
        assert (made.inputs, made.outputs) == (model.inputs, model.outputs)
        pairs = hints.matching(hints.Maps(model.proto, feeds), hints.Maps(made.proto, feeds))
        assert details.get("hints", []) == ([pair._asdict() for pair in pairs] if wanted else [])
        distance[name] = _distance(model, made, pairs)
    assert distance["auto"] < 0.7 * distance["none"]


def _distance(one: Model, other: Model, pairs: list[hints.Hint]) -> float:
    x = inputs(64, 123, 3, 8, 8)
    shown = (
        hints.Maps(model.proto, {"x": x[:1]}).with_outputs(tensors)
        for model, tensors in ((one, [p.teacher for p in pairs]), (other, [p.student for p in pairs]))
    )
    first, second = (runtime.run(runtime.session(model), {"x": x}) for model in shown)
    names = hints.names(len(pairs))
    return sum(
        float(distillation.difference(*(torch.from_numpy(v[name]) for v in (first, second))))
        for name in names
    )


def test_named_hints_and_their_weights(tmp_path: Path, pack: Pack) -> None:
    model = Model(convolutional())
    tensor = next(node.output[0] for node in model.proto.graph.node if node.op_type == "Relu")
    wanted = [{"teacher": tensor, "student": tensor, "weight": 3.0}]
    training = {**STEADY, "epochs": 1, "batch_size": 32}
    using = context(tmp_path, pack(images(64)))
    made, details = step(hints=wanted, training=training).apply(model, using)
    assert details["hints"] == wanted
    assert {value.name for value in made.proto.graph.output} == {"y"}
    with pytest.raises(CompressionError, match=r"unfit_hint.*'nowhere'"):
        step(hints=[{"teacher": "nowhere", "student": tensor}], training=training).apply(model, using)


def test_a_hint_is_added_to_what_the_outputs_cost(tmp_path: Path, pack: Pack) -> None:
    model = Model(convolutional())
    split = Dataset.open(pack(images(64))).splits["train"]
    using = Context(None, 0, tmp_path)
    tensor = next(node.output[0] for node in model.proto.graph.node if node.op_type == "Relu")
    shown = Model(hints.Maps(model.proto, {"x": inputs(1, 4, 3, 8, 8)}).with_outputs([tensor]))
    training = step().training  # type: ignore[attr-defined]
    plain = distillation.Objective.of(model, split, training, using, model)
    hinted = distillation._hinted([2.5], shown, split, training, using, shown)
    random = torch.Generator().manual_seed(0)
    own = {"y": torch.randn(4, 5, generator=random), "hint_0": torch.rand(4, 8, 8, generator=random)}
    theirs = {"y": torch.randn(4, 5, generator=random), "hint_0": torch.rand(4, 8, 8, generator=random)}
    batch = {"inputs": {}, "labels": None}
    base = plain(own, _batch(**batch, teacher={"y": theirs["y"]}))
    total = hinted(own, _batch(**batch, teacher=theirs))
    expected = base + 2.5 * distillation.difference(own["hint_0"], theirs["hint_0"])
    torch.testing.assert_close(total, expected)


def _batch(**parts: Any) -> "distillation.Any":
    from compression.training.batches import Batch  # noqa: PLC0415

    return Batch(indices=np.arange(4), **parts)


def test_no_epoch_runs_the_teacher_again(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    model, n = Model(cnn()), 200
    data = {
        f"{split}/image": inputs(count, 1, 1, 12, 12) for split, count in (("train", n), ("calibration", 8))
    }
    rows: Counter[int] = Counter()
    sessions, run = [], runtime.run

    def counting(session: Any, feeds: Mapping[str, np.ndarray], names: Iterable[str] | None = None) -> Any:
        sessions.append(session)  # so that no other one gets its id
        rows[id(session)] += len(next(iter(feeds.values())))
        return run(session, feeds, names)  # type: ignore[arg-type]

    monkeypatch.setattr(runtime, "run", counting)
    training = {**STEADY, "epochs": 5, "batch_size": 32}
    step(hints="auto", training=training).apply(model, context(tmp_path, pack(data)))
    assert max(rows.values()) == n


def bytes_of(applied: Applied) -> bytes:
    return applied.model.proto.SerializeToString()


class KilledError(BaseException):
    pass


def test_killed_and_resumed_gives_the_same_bytes(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student derived at random and hinted is derived again, and goes on where it was."""
    model, data, checkpoint = Model(convolutional()), pack(images(128)), tmp_path / "checkpoint"
    technique = step(
        hints="auto",
        derive={"width": 0.5, "initialization": "random"},
        training={**STEADY, "epochs": 4, "batch_size": 32},
    )
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    difference, calls = distillation.difference, Counter[str]()

    def run(name: str, killed: int = 0, **more: Path) -> Applied:
        def counted(own: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
            calls[name] += 1
            if calls[name] == killed:
                raise KilledError
            return difference(own, teacher)

        monkeypatch.setattr(distillation, "difference", counted)
        return technique.apply(model, context(tmp_path, data, **more))

    undisturbed = run("undisturbed")
    with pytest.raises(KilledError):
        run("killed", 20, checkpoint=checkpoint)
    resumed = run("resumed", checkpoint=checkpoint, resume=checkpoint)
    assert calls["resumed"] + 16 < calls["undisturbed"]
    assert bytes_of(resumed) == bytes_of(undisturbed)


def test_random_and_inherited_weights(tmp_path: Path, pack: Pack) -> None:
    """The same network, another start; what was cut is said."""
    model, data = Model(convolutional()), pack(images(64))
    made = {
        kind: step(derive={"width": 0.25, "initialization": kind}, training={"epochs": 0}).apply(
            model, context(tmp_path, data)
        )
        for kind in ("inherit", "random")
    }
    assert made["inherit"].details["kept"] == made["random"].details["kept"]
    assert {name: len(units) for name, units in made["inherit"].details["kept"].items()} == {
        "conv0.weight": 4,
        "conv2.weight": 8,
        "conv5.weight": 8,
    }
    units = made["inherit"].details["kept"]["conv0.weight"]
    cut = made["inherit"].model.initializer("conv0.weight")
    np.testing.assert_array_equal(cut, model.initializer("conv0.weight")[units])
    drawn = made["random"].model.initializer("conv0.weight")
    assert drawn.shape == cut.shape
    assert not np.isclose(drawn, cut).any()
    assert made["random"].details["macs"] == made["random"].model.inspect().macs


def test_a_quantized_model_teaches(tmp_path: Path, pack: Pack) -> None:
    """Its hidden tensors too; what comes of it is in floating point."""
    original, data = Model(convolutional()), pack(images(96))
    quantize = REGISTRY["static_quantization"].model_validate({"technique": "static_quantization"})
    quantized, _ = quantize.apply(original, context(tmp_path, data))
    assert Trait.QUANTIZED in quantized.inspect().traits
    training = {**STEADY, "epochs": 1, "batch_size": 32}
    technique = step(student="float", hints="auto", training=training)
    made, details = technique.apply(quantized, context(tmp_path, data, models={"float": original}))
    assert not made.inspect().traits
    assert details["hints"]


def test_what_is_known_at_submission() -> None:
    model = Model(cnn()).inspect()
    quantized = model.model_copy(update={"traits": frozenset({Trait.QUANTIZED})})
    assert "quantized" in str(step().check(quantized))
    assert step(student="other").check(quantized) is None
    assert step().check(model) is None
    assert "quantized" in str(step(student="other").check_reference("student", model, quantized))
    assert step(teacher="other").check_reference("teacher", model, quantized) is None
    reason = str(step(student="o").check_reference("student", model, Model(cnn(classes=7)).inspect()))
    assert "[batch, 7]" in reason
    assert "[batch, 10]" in reason
    assert list(step(student="one", teacher="two").references()) == [("student", "one"), ("teacher", "two")]
    assert Need.LABELS in step(training={"loss": "labels"}).required()
    assert Need.LABELS not in step().required()


@pytest.mark.parametrize(
    "parameters",
    [
        {"student": "other", "derive": {"width": 0.25}},
        {"derive": {"width": 1, "depth": 1}},
        {"hints": "auto", "training": {"loss": "labels"}},
    ],
)
def test_contradictions_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"leave out|is the model itself|no teacher"):
        step(**parameters)


def test_a_student_that_only_a_run_unmasks(tmp_path: Path, pack: Pack) -> None:
    model, other = Model(dense(16, 0)), dense(16, 1)
    model.proto.graph.output[0].type.tensor_type.shape.dim[1].ClearField("dim_value")
    wide = Builder(3)
    wide.node("Gemm", ["x", wide.weight("out", 6, 12)], "y", transB=1)
    value = [helper.make_tensor_value_info("y", F, ["batch", None])]
    wrong = wide.model([helper.make_tensor_value_info("x", F, ["batch", 12])], value)
    using = context(tmp_path, pack(arrays(other)), models={"other": Model(wrong)})
    with pytest.raises(CompressionError, match=r"student_misfit.*\[1, 6\].*\[1, 4\]"):
        step(student="other").apply(model, using)


def test_nothing_to_narrow(tmp_path: Path, pack: Pack) -> None:
    data = pack({f"{split}/sequence": inputs(40, 0, 7, 12) for split in ("calibration", "test")})
    with pytest.raises(CompressionError, match="no_student"):
        step().apply(Model(lstm()), context(tmp_path, data))


def test_a_step_on_files(tmp_path: Path, pack: Pack) -> None:
    """With a student from another file, as a worker has it."""
    teacher, student = dense(48, 0), dense(12, 7, x="numbers", y="scores")
    for name, model in (("teacher", teacher), ("student", student)):
        Model(model).save(tmp_path / f"{name}.onnx")
    recipe = {"technique": "distillation", "student": "mdl_1", "training": {"epochs": 2, **STEADY}}
    made = [
        apply_step(
            recipe,
            tmp_path / "teacher.onnx",
            pack(arrays(teacher)),
            tmp_path / f"made{attempt}.onnx",
            seed=3,
            scratch=tmp_path,
            models={"mdl_1": tmp_path / "student.onnx"},
        )
        for attempt in range(2)
    ]
    assert (tmp_path / "made0.onnx").read_bytes() == (tmp_path / "made1.onnx").read_bytes()
    assert made[0].details["objective"] == "classification and distillation"
    assert made[0].inspection.params == Model(student).inspect().params


def test_an_uploaded_student_is_in_floats_again() -> None:
    recipe = Recipe.model_validate(
        {"steps": [{"technique": "distillation", "student": "other"}, {"technique": "static_quantization"}]}
    )
    quantized = frozenset({Trait.QUANTIZED})
    assert recipe.steps[0].traits_after(quantized) == frozenset()
    assert recipe.steps[1].traits_after(frozenset()) == quantized
    derived = Recipe.model_validate({"steps": [{"technique": "distillation"}]}).steps[0]
    assert derived.traits_after(quantized) == quantized
