"""SavedModels that mean harm are known before TensorFlow sees them."""

import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from compression.conversion import saved_model_archive, saved_model_graph
from compression.errors import CompressionError
from compression.formats import load_model
from tests.compression.conversion.saved_models import (
    attribute,
    calls,
    content,
    function,
    graph,
    node,
    number,
    restore,
    saved_model,
    signature,
)

DEFAULT = signature("serving_default", "out:0")


def _check(folder: Path, data: bytes) -> saved_model_graph.Plan:
    path = folder / "saved_model.pb"
    path.write_bytes(data)
    return saved_model_graph.check(path)


def _refusal(folder: Path, data: bytes) -> str:
    with pytest.raises(CompressionError) as refused:
        _check(folder, data)
    return refused.value.code


REFUSED = [
    "ReadFile",
    "WriteFile",
    "PyFunc",
    "EagerPyFunc",
    "MergeV2Checkpoints",
    "SaveV2",
    "RestoreV2",
    "Mine",
]


@pytest.mark.parametrize("operator", REFUSED)
def test_an_operator_that_is_no_function_of_numbers_is_refused(operator: str, tmp_path: Path) -> None:
    nodes = [node("x", "Placeholder"), node("bad", operator, "x:0"), node("out", "Identity", "^bad")]
    assert _refusal(tmp_path, saved_model(graph(nodes), DEFAULT)) == "op_refused"


CALL = node("out", "StatefulPartitionedCall", attributes=calls("outer"))
READ = node("bad", "ReadFile")


@pytest.mark.parametrize(
    ("nodes", "functions"),
    [
        ([CALL], [function("outer", READ)]),
        ([node("out", "outer")], [function("outer", READ)]),
        ([CALL], [function("outer", node("a", "While", attributes=calls("inner"))), function("inner", READ)]),
        (
            [
                node(
                    "out", "If", attributes=attribute("branches", content(1, content(9, content(1, "outer"))))
                )
            ],
            [function("outer", READ)],
        ),
        (
            [node("out", "PartitionedCall", attributes=calls("nothing", content(2, calls("outer")[2:])))],
            [function("outer", READ)],
        ),
        ([node("out", "ReadFile") + content(2, "Identity")], []),
        ([node("out", "Identity") + content(2, "ReadFile")], []),
    ],
)
def test_wherever_it_is_called_from(nodes: list[bytes], functions: list[bytes], tmp_path: Path) -> None:
    assert _refusal(tmp_path, saved_model(graph(nodes, functions), DEFAULT)) == "op_refused"


def test_parts_of_a_graph_are_merged_as_its_reader_does(tmp_path: Path) -> None:
    parts = (graph([node("out", "Identity", "bad")]), graph([READ]))
    assert _refusal(tmp_path, saved_model(*parts, DEFAULT)) == "op_refused"


def test_what_does_not_run_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """Every SavedModel carries the function that would save it again."""
    nodes = [CALL, node("save", "PartitionedCall", attributes=calls("saving"))]
    functions = [function("outer", node("a", "Relu")), function("saving", node("m", "MergeV2Checkpoints"))]
    plan = _check(tmp_path, saved_model(graph(nodes, functions), DEFAULT))
    assert plan == saved_model_graph.Plan(0, "serving_default", frozenset({"outer"}))


def test_filling_the_variables_does_nothing_else(tmp_path: Path) -> None:
    nodes = [node("out", "Relu"), node("fill", "StatefulPartitionedCall", attributes=calls("restoring"))]
    good = function("restoring", node("a", "RestoreV2"), node("b", "AssignVariableOp"))
    assert _check(tmp_path, saved_model(graph(nodes, [good]), DEFAULT, restore("fill"))).functions == {
        "restoring"
    }
    bad = function("restoring", node("a", "WriteFile"))
    assert _refusal(tmp_path, saved_model(graph(nodes, [bad]), DEFAULT, restore("fill"))) == "op_refused"


def test_the_signature_is_the_default_or_the_only_one(tmp_path: Path) -> None:
    nodes = graph([node("out", "Relu"), node("other", "Relu")])
    init = signature("__saved_model_init_op", "other")
    assert _check(tmp_path, saved_model(nodes, signature("mine", "out:0"), init)).signature == "mine"
    two = (signature("a", "out:0"), signature("b", "other:0"))
    assert _check(tmp_path, saved_model(nodes, *two, DEFAULT)).signature == "serving_default"
    with pytest.raises(CompressionError, match="2 signatures") as refused:
        _check(tmp_path, saved_model(nodes, *two))
    assert refused.value.code == "invalid_saved_model"
    assert refused.value.suggestions


ENDLESS = [function(f"f{i}", node("a", "While", attributes=calls(f"f{i + 1}"))) for i in range(400)]


def _nested(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = content(2, content(1, "g") + content(2, content(10, content(1, "h") + inner)))
    return inner


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "invalid_saved_model"),
        (b"\xff" * 40, "invalid_saved_model"),
        (saved_model(graph([node("out", "Relu")]), DEFAULT)[:-5], "invalid_saved_model"),
        (saved_model(graph([node("out", "Relu")]), DEFAULT, tag="train"), "invalid_saved_model"),
        (saved_model(graph([node("out", "Relu"), node("out", "ReadFile")]), DEFAULT), "invalid_saved_model"),
        (
            saved_model(
                graph([node("out", "StatefulPartitionedCall", attributes=calls("f0"))], ENDLESS), DEFAULT
            ),
            "limit_nodes",
        ),
        (
            saved_model(graph([node("out", "If", attributes=calls("f", _nested(40)))]), DEFAULT),
            "limit_depth",
        ),
        (
            saved_model(
                graph(
                    [
                        node(
                            "out",
                            "Const",
                            attributes=attribute(
                                "value", content(8, content(2, content(2, number(1, 1 << 40))))
                            ),
                        )
                    ]
                ),
                DEFAULT,
            ),
            "limit_decoded_bytes",
        ),
    ],
    ids=["empty", "noise", "cut off", "not for serving", "same name", "endless calls", "nested", "huge"],
)
def test_a_file_against_the_grammar_is_refused(data: bytes, code: str, tmp_path: Path) -> None:
    assert _refusal(tmp_path, data) == code


def test_only_the_graph_and_its_variables_are_unpacked(tmp_path: Path) -> None:
    wanted = ["m/saved_model.pb", "m/variables/variables.index", "m/variables/variables.data-00000-of-00001"]
    names = [*wanted, "m/assets/words.txt", "m/fingerprint.pb", "m/variables/extra", "other/variables.index"]
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    folder = saved_model_archive.unpack(tmp_path / "m.zip", names, tmp_path / "unpacked")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == sorted(name.removeprefix("m/") for name in wanted)


def test_two_models_in_one_archive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="holds 2 files"):
        saved_model_archive.unpack(
            tmp_path / "m.zip", ["a/saved_model.pb", "b/saved_model.pb"], tmp_path / "x"
        )


@pytest.mark.skipif(find_spec("tensorflow") is not None, reason="this environment reads them")
def test_without_tensorflow_it_says_what_to_install(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("m/saved_model.pb", saved_model(graph([node("out", "Relu")]), DEFAULT))
    with pytest.raises(CompressionError, match=r"pare-server\[tensorflow\]") as refused:
        load_model(tmp_path / "m.zip", "m.zip", tmp_path / "model.onnx", tmp_path)
    assert refused.value.code == "format_unavailable"
