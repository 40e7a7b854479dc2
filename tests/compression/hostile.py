"""Files that mean harm: each is made here, with the code it must be refused with and where.

`stage` says who refuses: `sniff` the API on the first bytes, `load` the inspection, `run` the job; `ok`
nobody.
"""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import zstandard
from onnx import TensorProto, helper, numpy_helper

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Stage = Literal["sniff", "load", "run", "ok"]


@dataclass(frozen=True)
class Case:
    name: str
    row: int
    filename: str
    make: Callable[[], bytes]
    stage: Stage
    codes: frozenset[str]
    purpose: Literal["model", "dataset"] = "model"


CASES: dict[str, Case] = {}


def case(
    row: int, filename: str, stage: Stage, *codes: str, purpose: Literal["model", "dataset"] = "model"
) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        CASES[make.__name__] = Case(make.__name__, row, filename, make, stage, frozenset(codes), purpose)
        return make

    return register


def value(name: str, kind: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto] | None = None, **more: object
) -> onnx.ModelProto:
    """x float [n, 4] -> y float."""
    graph = helper.make_graph(
        nodes, "g", [value("x", F, ["n", 4])], [value("y", F, ["n", "m"])], weights or []
    )
    opsets = [helper.make_opsetid("", 17), *more.pop("opsets", [])]  # type: ignore[misc]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def linear() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [weight])


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


# --- what is not ONNX at all


@case(1, "empty.onnx", "sniff", "empty_file")
def empty() -> bytes:
    return b""


@case(2, "random.onnx", "load", "invalid_onnx")
def random_bytes() -> bytes:
    return b"\x0b" + os.urandom(4095)


@case(3, "cut.onnx", "load", "invalid_onnx")
def truncated() -> bytes:
    return linear().SerializeToString()[:-5]


@case(4, "zip.onnx", "sniff", "format_mismatch")
def zip_named_onnx() -> bytes:
    return packed({"model.onnx": linear().SerializeToString()})


PICKLE = b"\x80\x02cposix\nsystem\nX\x15\x00\x00\x00touch /tmp/pare-pwned\x85R."
"""Runs a command in whoever loads it."""


@case(5, "pickle.safetensors", "sniff", "format_mismatch")
def pickle_named_safetensors() -> bytes:
    return PICKLE


@case(6, "model.pt", "sniff", "format_refused")
def pickle_pt() -> bytes:
    return PICKLE


@case(7, "legacy.pt", "sniff", "format_refused")
def legacy_tar_pt() -> bytes:
    return tarred((tarfile.TarInfo("sys_info"), PICKLE), (tarfile.TarInfo("pickle"), PICKLE))


@case(7, "script.pt", "sniff", "format_refused")
def torchscript() -> bytes:
    return packed(
        {"model/data.pkl": PICKLE, "model/code/__torch__.py": b"def f(): ...", "model/version": b"3\n"}
    )


@case(7, "script.zip", "sniff", "format_refused")
def torchscript_named_zip() -> bytes:
    return torchscript()


@case(13, "program.pt2", "load", "invalid_archive")
def pt2_crc() -> bytes:
    data = bytearray(packed({"archive/models/model.json": b"{}" * 200}))
    data[60] ^= 0xFF
    return bytes(data)


@case(13, "program.pt2", "load", "invalid_archive")
def pt2_encrypted_flag() -> bytes:
    data = bytearray(packed({"archive/models/model.json": b"{}" * 200}))
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@case(13, "program.pt2", "load", "format_refused")
def pt2_sound() -> bytes:
    return packed({"archive/models/model.json": b"{}"})


@case(13, "model.zip", "load", "invalid_archive")
def zip_cut() -> bytes:
    return packed({"model.onnx": linear().SerializeToString()})[:-30]


# --- external data


def external(
    entries: list[tuple[str, str]], dims: tuple[int, ...] = (4, 4), tensors: int = 1
) -> onnx.ModelProto:
    weights = [
        TensorProto(
            name="w" if at == 0 else f"w{at}", data_type=F, dims=dims, data_location=TensorProto.EXTERNAL
        )
        for at in range(tensors)
    ]
    for weight in weights:
        for key, text in entries:
            weight.external_data.add(key=key, value=text)
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights)


def with_file(proto: onnx.ModelProto, data: bytes = bytes(64), name: str = "w.bin") -> bytes:
    return packed({"model.onnx": proto.SerializeToString(), name: data})


@case(19, "parent.onnx", "load", "external_data_refused")
def external_parent() -> bytes:
    return external([("location", "../secret.bin")]).SerializeToString()


@case(19, "parent.zip", "load", "external_data_refused")
def external_parent_in_zip() -> bytes:
    return with_file(external([("location", "../secret.bin")]))


@case(20, "absolute.onnx", "load", "external_data_refused")
def external_absolute() -> bytes:
    return external([("location", "/etc/passwd")]).SerializeToString()


@case(21, "environ.onnx", "load", "external_data_refused")
def external_environ() -> bytes:
    return external([("location", "/proc/self/environ")]).SerializeToString()


@case(22, "zero.onnx", "load", "external_data_refused")
def external_device() -> bytes:
    return external([("location", "/dev/zero")]).SerializeToString()


@case(22, "absent.onnx", "load", "external_data_refused")
def external_absent() -> bytes:
    return external([("location", "w.bin")]).SerializeToString()


@case(23, "symlink.tar", "load", "link_refused")
def tar_symlink() -> bytes:
    link = tarfile.TarInfo("w.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    proto = external([("location", "w.bin")]).SerializeToString()
    return tarred((tarfile.TarInfo("model.onnx"), proto), (link, b""))


@case(23, "symlink.zip", "load", "link_refused")
def zip_symlink() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", external([("location", "w.bin")]).SerializeToString())
        link = zipfile.ZipInfo("w.bin")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


@case(25, "hardlink.tar", "load", "link_refused")
def tar_hardlink() -> bytes:
    link = tarfile.TarInfo("w.bin")
    link.type, link.linkname = tarfile.LNKTYPE, "/etc/passwd"
    proto = external([("location", "w.bin")]).SerializeToString()
    return tarred((tarfile.TarInfo("model.onnx"), proto), (link, b""))


@case(26, "nul.zip", "load", "external_data_refused")
def external_nul() -> bytes:
    return with_file(external([("location", "w.bin\0/../x")]))


def _ranged(*entries: tuple[str, str]) -> bytes:
    return with_file(external([("location", "w.bin"), *entries]))


@case(28, "offset.zip", "load", "external_data_range")
def external_offset_negative() -> bytes:
    return _ranged(("offset", "-8"))


@case(28, "offset.zip", "load", "external_data_range")
def external_offset_far() -> bytes:
    return _ranged(("offset", str(2**40)))


@case(28, "length.zip", "load", "external_data_range")
def external_length_huge() -> bytes:
    return _ranged(("length", str(2**50)))


@case(28, "length.zip", "load", "external_data_range")
def external_length_other() -> bytes:
    return _ranged(("length", "32"))


@case(28, "short.zip", "load", "external_data_range")
def external_file_short() -> bytes:
    return with_file(external([("location", "w.bin")]), bytes(60))


@case(29, "key.zip", "load", "external_data_refused")
def external_key_class() -> bytes:
    return _ranged(("__class__", "x"))


@case(29, "key.zip", "load", "external_data_refused")
def external_key_basepath() -> bytes:
    return _ranged(("basepath", "/etc"))


@case(32, "shared.zip", "load", "limit_decoded_bytes")
def external_shared() -> bytes:
    return with_file(external([("location", "w.bin")], (64, 64), 50_000), bytes(64 * 64 * 4))


@case(32, "sound.zip", "ok")
def external_sound() -> bytes:
    return with_file(external([("location", "w.bin"), ("offset", "0"), ("length", "64")]))


# --- graphs


@case(33, "laughs.onnx", "load", "limit_nodes")
def billion_laughs() -> bytes:
    """30 functions, each calling the one before ten times: 10^30 nodes."""
    functions = []
    for level in range(30):
        kind, domain = ("Relu", "") if level == 0 else (f"f{level - 1}", "lol")
        names = [f"t{at}" for at in range(11)]
        body = [helper.make_node(kind, [names[at]], [names[at + 1]], domain=domain) for at in range(10)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("lol", 1)]
        functions.append(helper.make_function("lol", f"f{level}", ["t0"], ["t10"], body, opsets))
    top = helper.make_node("f29", ["x"], ["y"], domain="lol")
    return model([top], functions=functions, opsets=[helper.make_opsetid("lol", 1)]).SerializeToString()


@case(33, "recursion.onnx", "load", "invalid_onnx")
def recursive_function() -> bytes:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("lol", 1)]
    body = [helper.make_node("f", ["a"], ["b"], domain="lol")]
    function = helper.make_function("lol", "f", ["a"], ["b"], body, opsets)
    top = helper.make_node("f", ["x"], ["y"], domain="lol")
    return model([top], functions=[function], opsets=[helper.make_opsetid("lol", 1)]).SerializeToString()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def nested_ifs(depth: int) -> bytes:
    """If within If, written from the inside out: no recursion on our side."""
    output = _field(12, value("r", F, ["n", 4]).SerializeToString())
    inner = (
        _field(1, helper.make_node("Identity", ["x"], ["r"]).SerializeToString())
        + _field(2, b"leaf")
        + output
    )
    for level in range(depth):
        graph_type = _varint(20 << 3) + bytes([onnx.AttributeProto.GRAPH])
        leaf = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["r"])], "leaf", [], [value("r", F, ["n", 4])]
        )
        branches = _field(5, _field(1, b"then_branch") + _field(6, inner) + graph_type)
        branches += _field(5, _field(1, b"else_branch") + _field(6, leaf.SerializeToString()) + graph_type)
        node = _field(1, b"c") + _field(2, b"r" if level < depth - 1 else b"y") + _field(4, b"If") + branches
        inner = _field(1, node) + _field(2, b"g") + (output if level < depth - 1 else b"")
    top = model([], [numpy_helper.from_array(np.array(True), "c")])
    top.graph.ClearField("name")
    return top.SerializeToString() + _field(7, inner)


@case(35, "nest.onnx", "ok")
def if_nest_12() -> bytes:
    return nested_ifs(12)


@case(35, "nest.onnx", "load", "limit_depth")
def if_nest_40() -> bytes:
    return nested_ifs(40)


@case(35, "nest.onnx", "load", "limit_depth")
def if_nest_5000() -> bytes:
    return nested_ifs(5000)


def _loop(trips: int, scan: bool) -> bytes:
    body_inputs = [value("i", I64, []), value("c", BOOL, []), value("s", F, ["n", 4])]
    body_outputs = [value("c2", BOOL, []), value("s2", F, ["n", 4])]
    nodes = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["s"], ["s2"])]
    if scan:
        nodes.append(helper.make_node("Tile", ["s", "reps"], ["big"]))
        body_outputs.append(value("big", F, ["n", "m"]))
    body = helper.make_graph(nodes, "body", body_inputs, body_outputs)
    weights = [
        numpy_helper.from_array(np.array(trips, np.int64), "trips"),
        numpy_helper.from_array(np.array(True), "go"),
        numpy_helper.from_array(np.array([1, 1 << 22], np.int64), "reps"),
    ]
    loop = helper.make_node("Loop", ["trips", "go", "x"], ["y", "all"] if scan else ["y"], body=body)
    proto = model([loop], weights)
    if scan:
        proto.graph.output.append(value("all", F, ["k", "n", "m"]))
    return proto.SerializeToString()


@case(36, "forever.onnx", "run", "E_SANDBOX_TIMEOUT")
def loop_forever() -> bytes:
    return _loop(2**62, scan=False)


@case(37, "growing.onnx", "run", "E_SANDBOX_OOM")
def loop_growing() -> bytes:
    return _loop(2**40, scan=True)


def _bomb(node: onnx.NodeProto, *weights: tuple[str, np.ndarray]) -> bytes:
    return model(
        [node], [numpy_helper.from_array(array, name) for name, array in weights]
    ).SerializeToString()


_RUN = ("E_SANDBOX_OOM", "E_MODEL_RUN")


def _shaped(*sizes: int) -> bytes:
    return _bomb(helper.make_node("ConstantOfShape", ["s"], ["y"]), ("s", np.array(sizes, np.int64)))


@case(38, "fill.onnx", "run", *_RUN)
def constant_of_shape_4tb() -> bytes:
    return _shaped(1 << 20, 1 << 20)


@case(38, "fill.onnx", "run", *_RUN)
def constant_of_shape_overflow() -> bytes:
    return _shaped(1 << 33, 1 << 33)


@case(38, "fill.onnx", "run", *_RUN)
def constant_of_shape_negative() -> bytes:
    return _shaped(4, -5)


@case(39, "tile.onnx", "run", *_RUN)
def tile() -> bytes:
    return _bomb(helper.make_node("Tile", ["x", "r"], ["y"]), ("r", np.array([1 << 20, 1 << 20], np.int64)))


@case(39, "expand.onnx", "run", *_RUN)
def expand() -> bytes:
    shape = np.array([1 << 20, 1 << 20, 1, 4], np.int64)
    return _bomb(helper.make_node("Expand", ["x", "s"], ["y"]), ("s", shape))


@case(39, "range.onnx", "run", *_RUN)
def range_() -> bytes:
    numbers = [(name, np.array(number, np.float32)) for name, number in (("a", 0), ("b", 1e15), ("c", 1))]
    return _bomb(helper.make_node("Range", ["a", "b", "c"], ["y"]), *numbers)


@case(39, "resize.onnx", "run", *_RUN)
def resize() -> bytes:
    scales = np.array([1 << 20, 1 << 20], np.float32)
    return _bomb(helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest"), ("s", scales))


@case(39, "pad.onnx", "run", *_RUN)
def pad() -> bytes:
    return _bomb(
        helper.make_node("Pad", ["x", "p"], ["y"]), ("p", np.array([0, 0, 1 << 40, 1 << 40], np.int64))
    )


def _dimensions(*dims: int) -> bytes:
    proto = linear()
    del proto.graph.initializer[0].dims[:]
    proto.graph.initializer[0].dims.extend(dims)
    proto.graph.initializer[0].raw_data = bytes(4)
    return proto.SerializeToString()


@case(41, "dims.onnx", "load", "invalid_onnx", "limit_decoded_bytes")
def dims_huge() -> bytes:
    return _dimensions(1 << 40)


@case(41, "dims.onnx", "load", "invalid_onnx")
def dims_overflow() -> bytes:
    return _dimensions(1 << 33, 1 << 33)


@case(41, "dims.onnx", "load", "invalid_onnx")
def dims_negative() -> bytes:
    return _dimensions(-4)


@case(41, "dims.onnx", "load", "invalid_onnx")
def dims_zero_times_overflow() -> bytes:
    return _dimensions(0, 1 << 62, 1 << 62)


def _conv(**attributes: object) -> bytes:
    weight = numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)],
        "g", [value("x", F, ["n", 1, 8, 8])], [value("y", F, ["n", 2, "h", "v"])], [weight],
    )  # fmt: skip
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


@case(42, "conv.onnx", "run", "E_MODEL_RUN")
def conv_group_zero() -> bytes:
    return _conv(group=0)


@case(42, "conv.onnx", "run", "E_MODEL_RUN")
def conv_stride_zero() -> bytes:
    return _conv(strides=[0, 0])


@case(42, "conv.onnx", "run", "E_MODEL_RUN")
def conv_dilation_huge() -> bytes:
    return _conv(dilations=[1 << 40, 1 << 40])


@case(44, "evil.onnx", "load", "op_refused")
def custom_domain() -> bytes:
    opsets = [helper.make_opsetid("evil.ops", 1)]
    return model(
        [helper.make_node("Run", ["x"], ["y"], domain="evil.ops")], opsets=opsets
    ).SerializeToString()


@case(44, "unknown.onnx", "load", "op_refused")
def unknown_operator() -> bytes:
    return model([helper.make_node("Frobnicate", ["x"], ["y"])]).SerializeToString()


@case(46, "cycle.onnx", "load", "invalid_onnx")
def cycle() -> bytes:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Add", ["a", "x"], ["b"])]
    return model([*nodes, helper.make_node("Relu", ["b"], ["y"])]).SerializeToString()


@case(46, "twice.onnx", "load", "invalid_onnx")
def duplicate_output() -> bytes:
    return model(
        [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])]
    ).SerializeToString()


@case(46, "dangling.onnx", "load", "invalid_onnx")
def dangling_input() -> bytes:
    return model([helper.make_node("Add", ["x", "nothing"], ["y"])]).SerializeToString()


@case(46, "dangling.onnx", "load", "invalid_onnx")
def dangling_output() -> bytes:
    return model([helper.make_node("Relu", ["x"], ["z"])]).SerializeToString()


@case(46, "opset.onnx", "load", "invalid_onnx")
def opset_999() -> bytes:
    proto = linear()
    proto.opset_import[0].version = 999
    return proto.SerializeToString()


@case(46, "ir.onnx", "load", "invalid_onnx")
def ir_99() -> bytes:
    proto = linear()
    proto.ir_version = 99
    return proto.SerializeToString()


@case(48, "chain.onnx", "load", "limit_nodes")
def chain_100k() -> bytes:
    nodes = [helper.make_node("Relu", [f"t{at}" if at else "x"], [f"t{at + 1}"]) for at in range(100_000)]
    nodes[-1].output[0] = "y"
    return model(nodes).SerializeToString()


@case(48, "chain.onnx", "ok")
def chain_10k() -> bytes:
    nodes = [helper.make_node("Relu", [f"t{at}" if at else "x"], [f"t{at + 1}"]) for at in range(10_000)]
    nodes[-1].output[0] = "y"
    return model(nodes).SerializeToString()


def _filled(array: np.ndarray) -> bytes:
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [numpy_helper.from_array(array, "w")]
    ).SerializeToString()


@case(50, "nan.onnx", "ok")
def weights_nan() -> bytes:
    return _filled(np.full((4, 4), np.nan, np.float32))


@case(50, "inf.onnx", "ok")
def weights_inf() -> bytes:
    return _filled(np.full((4, 4), np.inf, np.float32))


@case(50, "none.onnx", "ok")
def weights_zero_size() -> bytes:
    return _filled(np.zeros((4, 0), np.float32))


@case(50, "denormal.onnx", "ok")
def weights_fp16_denormal() -> bytes:
    half = numpy_helper.from_array(np.full((4, 4), 6e-8, np.float16), "h")
    nodes = [helper.make_node("Cast", ["h"], ["w"], to=F), helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, [half]).SerializeToString()


# --- protobuf itself


@case(2, "bomb.onnx", "load", "limit_nodes")
def empty_messages() -> bytes:
    """Two bytes on the wire, a hundred in memory: 60,000 empty nodes."""
    return _varint(1 << 3) + b"\x08" + _field(7, b"\x0a\x00" * 60_000)


@case(2, "deep.onnx", "load", "limit_depth", "invalid_onnx")
def deep_types() -> bytes:
    """A sequence of a sequence of …, 100,000 deep."""
    inner, sizes = b"", 0
    parts = []
    for _ in range(100_000):
        head = b"\x0a" + _varint(sizes)
        head = b"\x22" + _varint(sizes + len(head)) + head
        parts.append(head)
        sizes += len(head)
    inner = b"".join(reversed(parts))
    return _varint(1 << 3) + b"\x08" + _field(7, _field(11, _field(1, b"x") + _field(2, inner)))


@case(2, "groups.onnx", "load", "invalid_onnx")
def wire_groups() -> bytes:
    return b"\x08\x08" + b"\x0b" * 1000


# --- archives


@case(64, "bomb.zip", "load", "archive_ratio")
def zip_bomb() -> bytes:
    return packed({"model.onnx": linear().SerializeToString(), "w.bin": bytes(200 << 20)})


@case(64, "nested.zip", "load", "member_refused")
def zip_nested() -> bytes:
    return packed({"model.onnx": linear().SerializeToString(), "more.zip": packed({"a": b"b"})})


@case(64, "overlap.zip", "load", "invalid_archive")
def zip_overlap() -> bytes:
    """Two entries of the directory that share one member's bytes."""
    data = packed({"a.onnx": linear().SerializeToString()})
    start, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    entry = data[start:end]
    tail = bytearray(data[end:])
    tail[8:10] = tail[10:12] = struct.pack("<H", 2)
    tail[12:16] = struct.pack("<I", 2 * len(entry))
    return data[:start] + entry + entry.replace(b"a.onnx", b"b.onnx") + bytes(tail)


def _named(name: str) -> bytes:
    return packed({"model.onnx": linear().SerializeToString(), name: b"x"})


@case(65, "path.zip", "load", "path_refused")
def zip_parent() -> bytes:
    return _named("../x")


@case(65, "path.zip", "load", "path_refused")
def zip_absolute() -> bytes:
    return _named("/tmp/x")  # noqa: S108


@case(65, "path.zip", "load", "path_refused")
def zip_inner_parent() -> bytes:
    return _named("a/../../b")


@case(65, "path.zip", "load", "path_refused")
def zip_drive() -> bytes:
    return _named("C:/x")


def _special(kind: bytes) -> bytes:
    info = tarfile.TarInfo("w.bin")
    info.type = kind
    return tarred((tarfile.TarInfo("model.onnx"), linear().SerializeToString()), (info, b""))


@case(67, "device.tar", "load", "member_refused")
def tar_device() -> bytes:
    return _special(tarfile.CHRTYPE)


@case(67, "fifo.tar", "load", "member_refused")
def tar_fifo() -> bytes:
    return _special(tarfile.FIFOTYPE)


@case(67, "pax.tar", "load", "path_refused")
def tar_pax_path() -> bytes:
    info = tarfile.TarInfo("w.bin")
    info.pax_headers = {"path": "../../x"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b""))
    return buffer.getvalue()


@case(68, "zeros.tar.gz", "load", "archive_ratio", "limit_decoded_bytes")
def tar_gz_zeros() -> bytes:
    info = tarfile.TarInfo("w.bin")
    info.size = 300 << 20
    return gzip.compress(info.tobuf() + bytes(info.size), 1)


@case(67, "sparse.tar", "load", "member_refused", "invalid_archive")
def tar_sparse() -> bytes:
    """64 GiB of holes, told by extended headers."""
    info = tarfile.TarInfo("w.bin")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(64 << 30),
        "GNU.sparse.map": f"0,0,{64 << 30},0",
    }
    return _extended(info)


@case(67, "empty.tar", "load", "link_refused")
def tar_link_without_name() -> bytes:
    info = tarfile.TarInfo("")
    info.type, info.linkname = tarfile.SYMTYPE, ""
    return tarred((tarfile.TarInfo("model.onnx"), linear().SerializeToString()), (info, b""))


@case(67, "empty.tar", "load", "path_refused")
def tar_file_without_name() -> bytes:
    info = tarfile.TarInfo("w.bin")
    info.pax_headers = {"path": ""}
    return _extended(info)


@case(67, "header.tar", "load", "invalid_archive")
def tar_header_of_megabytes() -> bytes:
    info = tarfile.TarInfo("w.bin")
    info.pax_headers = {"comment": "x" * (4 << 20)}
    return _extended(info)


def _extended(info: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b""))
    return buffer.getvalue()


@case(68, "zeros.tar.zst", "load", "archive_ratio", "limit_decoded_bytes")
def tar_zst_zeros() -> bytes:
    """10 GB, of which no more is decoded than the limit."""
    info = tarfile.TarInfo("w.bin")
    info.size = 10 << 30
    return _zeros(info)


@case(68, "zeros.tar.zst", "load", "archive_ratio", "limit_decoded_bytes", purpose="dataset")
def images_zst_zeros() -> bytes:
    info = tarfile.TarInfo("a/0.png")
    info.size = 10 << 30
    return _zeros(info)


def _zeros(info: tarfile.TarInfo) -> bytes:
    """Frames of zeros one after another, as `zstd` reads them."""
    many = zstandard.compress(bytes(16 << 20))
    return zstandard.compress(info.tobuf()) + many * 640


@case(68, "cut.tar.zst", "load", "invalid_archive")
def tar_zst_cut() -> bytes:
    whole = tarred((tarfile.TarInfo("model.onnx"), os.urandom(4096)))
    return zstandard.compress(whole)[:-2000]


@case(68, "window.tar.zst", "load", "invalid_archive")
def tar_zst_window() -> bytes:
    """A frame that wants two gigabytes to look back on."""
    block = bytes([1, 0, 1]) + bytes(32)
    return b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3]) + block


@case(64, "many.zip", "load", "invalid_archive")
def zip_of_many_members() -> bytes:
    return packed({"model.onnx": linear().SerializeToString()} | {f"{at}": b"" for at in range(10_001)})


# --- data sets


@case(8, "data.zip", "load", "member_refused", purpose="dataset")
def dataset_pickle_member() -> bytes:
    return packed({"test/image.npy": npy(np.zeros((4, 2), np.float32)), "test/label.pkl": PICKLE})


@case(8, "data.npz", "load", "member_refused", purpose="dataset")
def dataset_joblib_member() -> bytes:
    return packed({"test/image.npy": npy(np.zeros((4, 2), np.float32)), "test/label.joblib": PICKLE})


@case(13, "data.npz", "load", "invalid_archive", purpose="dataset")
def npz_crc() -> bytes:
    data = bytearray(packed({"x.npy": npy(np.arange(400, dtype=np.float32))}))
    data[80] ^= 0xFF
    return bytes(data)


@case(13, "data.npz", "load", "invalid_archive", purpose="dataset")
def npz_cut() -> bytes:
    return packed({"x.npy": npy(np.arange(400, dtype=np.float32))})[:-40]


@case(60, "data.npz", "load", "npy_pickle", purpose="dataset")
def npy_object() -> bytes:
    return packed({"x.npy": npy(np.array([{}, {}], dtype=object))})


def _header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return packed({"x.npy": b"\x93NUMPY" + bytes([version, 0]) + size + text.encode() + data})


@case(61, "data.npz", "load", "invalid_npy", purpose="dataset")
def npy_shape_huge() -> bytes:
    return _header("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}\n")


@case(61, "data.npz", "load", "invalid_npy", purpose="dataset")
def npy_shape_negative() -> bytes:
    return _header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}\n", bytes(16))


@case(61, "data.npz", "load", "invalid_npy", purpose="dataset")
def npy_descr_eval() -> bytes:
    return _header(
        "{'descr': __import__('os').system('touch /tmp/pare-pwned'), 'fortran_order': False, 'shape': (1,)}\n"
    )


@case(61, "data.npz", "load", "invalid_npy", purpose="dataset")
def npy_header_64k() -> bytes:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)" + " " * 65_000 + "}\n"
    return _header(text, bytes(4))


@case(61, "data.npz", "load", "invalid_npy", purpose="dataset")
def npy_header_nested() -> bytes:
    return _header("(" * 3000 + ")" * 3000 + "\n")


@case(62, "bomb.npz", "load", "limit_decoded_bytes", purpose="dataset")
def npz_bomb() -> bytes:
    """1 MB that becomes 1 GiB, written without having 1 GiB in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (1 << 30,)}
        )
        for _ in range(256):
            member.write(bytes(4 << 20))
    return buffer.getvalue()


@case(62, "lying.npz", "load", "invalid_archive", "invalid_npy", purpose="dataset")
def npz_lying_size() -> bytes:
    """The directory declares less than there is."""
    data = bytearray(packed({"x.npy": npy(np.zeros(100_000, np.float32))}))
    at = data.rfind(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1000)
    return bytes(data)


@case(4, "model.npz", "sniff", "format_mismatch", purpose="dataset")
def onnx_named_npz() -> bytes:
    return linear().SerializeToString()


@case(5, "data.npz", "sniff", "format_mismatch", purpose="dataset")
def pickle_named_npz() -> bytes:
    return PICKLE


@case(6, "data.pkl", "sniff", "format_refused", purpose="dataset")
def pickle_dataset() -> bytes:
    return PICKLE
