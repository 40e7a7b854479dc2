"""What a sound upload becomes."""

import io
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import zstandard
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from compression import runtime
from compression.errors import CompressionError
from compression.formats import load_model, sniff
from compression.graph import serialization
from compression.model import Model
from tests.compression import hostile, networks
from tests.compression.conftest import Normalise, network


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_model_in_order_keeps_all_it_says(name: str, normalise: Normalise) -> None:
    before = network(name)
    after = onnx.load(normalise(before))
    assert after == before


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_pieces_are_the_bytes_of_protobuf(name: str) -> None:
    proto = network(name)
    assert b"".join(serialization.chunks(proto)) == proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_large_file_is_read_in_pieces(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "_LARGE", 0)
    path = tmp_path / "model.onnx"
    content = network(name).SerializeToString(deterministic=True)
    path.write_bytes(content)
    assert serialization.parse(path) == onnx.ModelProto.FromString(content)
    for length in range(1, len(content), max(1, len(content) // 99)):
        path.write_bytes(content[:length])
        try:
            whole = onnx.ModelProto.FromString(content[:length])
        except DecodeError:
            with pytest.raises(DecodeError):
                serialization.parse(path)
        else:
            assert serialization.parse(path) == whole


def test_nodes_are_sorted_and_a_sorted_graph_is_left_alone(normalise: Normalise) -> None:
    proto = network("cnn")
    nodes = [node.name for node in proto.graph.node]
    proto.graph.node.reverse()
    assert {node.name for node in onnx.load(normalise(proto)).graph.node} == set(nodes)
    runtime.session(normalise(proto))


def test_weights_in_constants_and_inputs_become_plain_initializers(normalise: Normalise) -> None:
    proto = network("cnn")
    weight = proto.graph.initializer[0]
    proto.graph.node.insert(0, helper.make_node("Constant", [], [weight.name], value=weight))
    proto.graph.initializer.remove(weight)
    other = proto.graph.initializer[3]
    proto.graph.input.append(helper.make_tensor_value_info(other.name, TensorProto.FLOAT, list(other.dims)))
    model = Model.open(normalise(proto))
    assert [spec.name for spec in model.inputs] == ["image"]
    assert len(model.proto.graph.input) == 1
    assert model.proto.graph.node[0].op_type == "Conv"
    assert np.array_equal(model.initializer(weight.name), numpy_helper.to_array(weight))


def test_functions_are_expanded(normalise: Normalise) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    body = [helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Neg", ["c"], ["b"])]
    function = helper.make_function("own", "f", ["a"], ["b"], body, opsets[:1])
    nodes = [
        helper.make_node("f", ["x"], ["m"], domain="own"),
        helper.make_node("f", ["m"], ["y"], domain="own"),
    ]
    proto = hostile.model(nodes, functions=[function], opsets=opsets[1:])
    model = Model.open(normalise(proto))
    assert [node.op_type for node in model.proto.graph.node] == ["Relu", "Neg"] * 2
    assert not model.proto.functions
    result = runtime.run(runtime.session(model.proto), {"x": np.ones((1, 4), np.float32)})
    assert np.array_equal(result["y"], np.zeros((1, 4)))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.zst"])
def test_external_data_of_an_archive_is_moved_inside(kind: str, tmp_path: Path) -> None:
    weight = np.arange(16, dtype=np.float32)
    proto = hostile.external(
        [("location", "data/w.bin"), ("offset", "8"), ("length", "64")]
    ).SerializeToString()
    data = bytes(8) + weight.tobytes()
    if kind == "zip":
        packed = hostile.packed({"deep/model.onnx": proto, "deep/data/w.bin": data})
    else:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as archive:
            for name, content in (("./deep/model.onnx", proto), ("./deep/data/w.bin", data)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        packed = buffer.getvalue() if kind != "tar.zst" else zstandard.compress(buffer.getvalue())
    (tmp_path / "upload").write_bytes(packed)
    load_model(tmp_path / "upload", f"model.{kind}", tmp_path / "model.onnx", tmp_path)
    assert np.array_equal(Model.open(tmp_path / "model.onnx").initializer("w"), weight.reshape(4, 4))


def test_inspection_says_what_the_model_is(normalise: Normalise) -> None:
    model = Model.open(normalise(network("cnn")))
    seen = model.inspect()
    assert seen.model_dump(include={"opset", "nodes", "macs", "traits"}) == {
        "opset": 17, "nodes": 13, "macs": 144 * (32 * 9 + 32 * 9 + 32 * 32 * 9) + 320, "traits": frozenset(),
    }  # fmt: skip
    assert seen.operators["Conv"] == 3
    assert seen.inputs[0].model_dump() == {"name": "image", "dtype": "float32", "shape": ("batch", 1, 12, 12)}
    assert seen.bytes == len(model.serialized)


def test_too_large_is_never_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(b"\x08\x08\x12\x00")
        file.truncate(2**31)
    with pytest.raises(CompressionError, match="too_large"):
        load_model(path, "model.onnx", tmp_path / "model.onnx", tmp_path)


@pytest.mark.parametrize("filename", ["model.onnx", "model", "MODEL.ONNX", "model.bin2", "ünïcode.onnx"])
def test_onnx_is_known_by_content(filename: str) -> None:
    sniff.check_head(network("cnn").SerializeToString()[:4096], filename, "model")


def test_a_model_is_no_data_set_and_the_other_way_round() -> None:
    head = network("cnn").SerializeToString()[:4096]
    with pytest.raises(CompressionError, match=r"format_refused: .*\.npz"):
        sniff.check_head(head, "data", "dataset")
    with pytest.raises(CompressionError, match="format_mismatch"):
        sniff.check_head(hostile.packed({"x.npy": b""}), "model.onnx", "model")
