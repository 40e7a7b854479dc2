"""Large models: weights stay in files, and nothing that is made of them differs from what memory gives."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compression import mapped, runtime
from compression.errors import CompressionError
from compression.formats import load_model
from compression.graph import preparation, serialization
from compression.measure import compare
from compression.model import Model
from compression.step import apply_step

WIDE, HIGH = 640, 512


def _network(external: str | None = None) -> onnx.ModelProto:
    """Two layers of more than a mebibyte, one of them a Gemm whose weight is transposed."""
    random = np.random.default_rng(0)
    shapes = {"first": (HIGH, WIDE), "second": (HIGH, WIDE), "bias": (HIGH,)}
    initializers = [
        numpy_helper.from_array(random.normal(0, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], "product"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Gemm", ["b", "second", "bias"], ["y"], "gemm", transB=1),
    ]
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, ["n", HIGH])], [value("y", TensorProto.FLOAT, ["n", HIGH])]
    graph = helper.make_graph(nodes, "g", *ends, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if external:
        onnx.external_data_helper.convert_model_to_external_data(model, location=external)
    return model


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.onnx"
    Model(_network()).save(path)
    return path


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the network counts as large."""
    monkeypatch.setattr(mapped, "FROM", 1)
    monkeypatch.setattr(mapped, "LARGE", 1)


large = pytest.mark.usefixtures("_large")


@large
def test_an_outline_is_small_and_stands_for_the_same_bytes(whole: Path) -> None:
    model = Model.open(whole)
    assert model.is_large
    assert len(model.outline.SerializeToString()) < 8192
    assert model.proto == onnx.load(whole)
    assert (model.serialized, model.size) == (whole.read_bytes(), whole.stat().st_size)
    assert model.sha256 == hashlib.sha256(whole.read_bytes()).hexdigest()
    assert np.array_equal(model.initializer("second"), numpy_helper.to_array(model.initializers["second"]))


@large
@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.INT64])
def test_values_of_every_type_are_read_from_the_file(tmp_path: Path, kind: int) -> None:
    values = np.arange(3 << 20).astype(helper.tensor_dtype_to_np_dtype(kind))
    model = _network()
    model.graph.initializer.append(numpy_helper.from_array(values, "more"))
    model.graph.initializer[-1].metadata_props.add(key="after", value="the values")
    Model(model).save(tmp_path / "model.onnx")
    reread = Model.open(tmp_path / "model.onnx")
    assert mapped.is_mapped(reread.outline.graph.initializer[-1])
    assert reread.initializer("more").astype(np.int64).tobytes() == values.astype(np.int64).tobytes()
    assert reread.serialized == Model(model).serialized


@large
@pytest.mark.parametrize("optimise", [False, True])
def test_a_session_on_mapped_weights_gives_the_same(whole: Path, *, optimise: bool) -> None:
    feeds = {"x": np.random.default_rng(1).standard_normal((3, HIGH), dtype=np.float32)}
    there = runtime.session(Model.open(whole).outline, optimise=optimise, prepack=True)
    plain = runtime.session(onnx.load(whole), optimise=optimise)
    assert np.array_equal(runtime.run(there, feeds)["y"], runtime.run(plain, feeds)["y"])


@pytest.mark.parametrize(
    "step",
    [
        {"technique": "half_precision"},
        {"technique": "half_precision", "type": "bfloat16"},
        {"technique": "half_precision", "scope": "all"},
        {"technique": "dynamic_quantization"},
        {"technique": "dynamic_quantization", "per_channel": False, "reduce_range": True},
    ],
)
def test_techniques_give_a_large_model_the_bytes_they_give_a_small_one(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, step: dict[str, str]
) -> None:
    made = []
    for size, limit in (("small", 1 << 40), ("large", 1)):
        monkeypatch.setattr(mapped, "FROM", limit)
        monkeypatch.setattr(mapped, "LARGE", limit)
        (tmp_path / size).mkdir()
        result = apply_step(step, whole, None, tmp_path / f"{size}.onnx", seed=0, scratch=tmp_path / size)
        made.append(((tmp_path / f"{size}.onnx").read_bytes(), result))
    assert made[0] == made[1]


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("keep", ["none", "auto"])
def test_static_quantization_rounds_a_large_model_as_a_small_one(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, keep: str, bits: int
) -> None:
    rows = np.random.default_rng(2).standard_normal((16, HIGH), dtype=np.float32)
    np.savez(tmp_path / "data.npz", **{"calibration/x": rows})  # type: ignore[arg-type]
    step = {"technique": "static_quantization", "keep": keep, "weight_bits": bits}
    made = []
    for limit in (1 << 40, 1):
        monkeypatch.setattr(mapped, "FROM", limit)
        monkeypatch.setattr(mapped, "LARGE", limit)
        (tmp_path / str(limit)).mkdir()
        result = apply_step(
            step | ({"keep": "none"} if limit > 1 else {}),
            whole,
            tmp_path / "data.npz",
            tmp_path / f"{limit}.onnx",
            seed=0,
            scratch=tmp_path / str(limit),
        )
        made.append((onnx.load(tmp_path / f"{limit}.onnx"), result.details))
    (small, told), (large, told_of_large) = made
    assert large.graph.initializer == small.graph.initializer
    assert [node.op_type for node in large.graph.node] == [node.op_type for node in small.graph.node]
    assert told_of_large == told


@large
def test_a_prepared_graph_is_the_same_of_a_large_model(tmp_path: Path, whole: Path) -> None:
    model = Model.open(whole)
    large, small = (Model(preparation.prepare(one, tmp_path)) for one in (model.outline, model.proto))
    assert mapped.size(large.outline) == HIGH * WIDE * 4 * 2
    assert large.inspect() == small.inspect().model_copy(update={"bytes": large.size})
    assert all(
        np.array_equal(large.initializer(name), small.initializer(name)) for name in small.initializers
    )


@large
def test_external_data_is_ingested_without_being_read_into_the_message(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    onnx.save(_network("weights.bin"), folder / "model.onnx")
    archive = tmp_path / "model.tar"
    with tarfile.open(archive, "w") as file:
        for path in folder.iterdir():
            file.add(path, path.name)
    (tmp_path / "scratch").mkdir()
    load_model(archive, "model.tar", tmp_path / "normal.onnx", tmp_path / "scratch")
    assert onnx.load(tmp_path / "normal.onnx") == onnx.load(whole)


@large
def test_a_hostile_file_may_refer_to_nothing_but_itself(tmp_path: Path, whole: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * (HIGH * WIDE * 4))
    model = onnx.load(whole)
    mapped.refer(model.graph.initializer[0], mapped.Place(secret, 0, HIGH * WIDE * 4))
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CompressionError) as refused:
        load_model(path, "hostile.onnx", tmp_path / "normal.onnx", tmp_path)
    assert refused.value.code == "external_data_refused"


@large
@pytest.mark.parametrize(("offset", "length"), [(0, HIGH * WIDE * 4 + 4), (1 << 40, HIGH * WIDE * 4)])
def test_a_hostile_reference_to_the_file_itself_is_checked(
    tmp_path: Path, whole: Path, offset: int, length: int
) -> None:
    path = tmp_path / "hostile.onnx"
    model = onnx.load(whole)
    mapped.refer(model.graph.initializer[0], mapped.Place(path, offset, length))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CompressionError) as refused:
        load_model(path, "hostile.onnx", tmp_path / "normal.onnx", tmp_path)
    assert refused.value.code in {"invalid_onnx", "external_data_range"}


@large
def test_values_of_another_length_than_declared_are_refused(tmp_path: Path) -> None:
    model = _network()
    model.graph.initializer[0].dims[0] += 1
    path = tmp_path / "hostile.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CompressionError) as refused:
        load_model(path, "hostile.onnx", tmp_path / "normal.onnx", tmp_path)
    assert refused.value.code == "invalid_onnx"


@large
def test_large_models_are_compared_one_after_the_other(tmp_path: Path, whole: Path) -> None:
    apply_step({"technique": "half_precision"}, whole, None, tmp_path / "half.onnx", seed=0, scratch=tmp_path)
    measured = compare(whole, tmp_path / "half.onnx", None)
    assert measured.ratios["bytes"].value == pytest.approx(2, rel=0.01)
    assert (measured.compressed.sqnr_db or 0) > 60
    assert [layer.tensor for layer in measured.layers] == ["a", "b", "y"]
    assert any("one after the other" in warning for warning in measured.warnings)


def test_more_than_protobuf_can_hold_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serialization, "LONGEST", 1 << 20)
    with pytest.raises(CompressionError) as refused:
        Model(_network()).save(tmp_path / "model.onnx")
    assert refused.value.code == "too_large"
    assert refused.value.suggestions
