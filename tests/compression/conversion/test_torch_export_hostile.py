"""Exported programs that mean harm."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compression.conversion.exported_programs import (
    WEIGHTS,
    Change,
    edited,
    graph,
    load,
    refusal,
    replaced,
    save_small,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # PyTorch's own, of its trees


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small(tmp_path_factory.mktemp("program") / "small.pt2")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('pathlib').Path('MARKER').touch()",
        "Symbol('s0').__class__",
        "Symbol('__import__(\"os\")')",
        "Symbol('s0', commutative=open('MARKER', 'w'))",
        "lambda: 0",
        "[x for x in (1, 2)]",
        "Pow(Pow(Integer(9), Integer(8)), Integer(8))",
        "Pow(Integer(9), Integer(999999999))",
        "LShift(Integer(1), Integer(999999999))",
        "Integer('1' * 9)",
        "Add(" * 4000,
        "s0 if s0 else 1",
        "f'{s0}'",
    ],
)
def test_an_expression_that_is_no_size_is_refused(text: str, small: Path, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        text_here = text.replace("MARKER", str(tmp_path / "marker"))
        graph(document)["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": text_here, "hint": None}}

    assert refusal(edited(small, tmp_path / "evil.pt2", change), tmp_path) == "pt2_expr"
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.__init__.default",
        "torch.ops.mine.evil.default",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
        "_operator.attrgetter",
        "math.factorial",
        "#extension:evil",
    ],
)
def test_an_operator_that_is_not_known_is_refused(target: str, small: Path, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        graph(document)["nodes"][-1]["target"] = target

    assert refusal(edited(small, tmp_path / "evil.pt2", change), tmp_path) == "op_refused"


def _custom_object(document: dict[str, Any]) -> None:
    graph(document)["nodes"][-1]["inputs"][0]["arg"] = {"as_custom_obj": {"name": "x", "class_fqn": "y"}}


def _operator_argument(document: dict[str, Any]) -> None:
    graph(document)["nodes"][-1]["inputs"][0]["arg"] = {"as_operator": "torch.load"}


@pytest.mark.parametrize("change", [_custom_object, _operator_argument])
def test_an_argument_that_is_no_tensor_is_refused(change: Change, small: Path, tmp_path: Path) -> None:
    assert refusal(edited(small, tmp_path / "evil.pt2", change), tmp_path) == "op_refused"


def _name_with_code(document: dict[str, Any]) -> None:
    graph(document)["nodes"][-1]["name"] = "x = open('/tmp/marker', 'w')\n    y"


def _value_with_code(document: dict[str, Any]) -> None:
    values = graph(document)["tensor_values"]
    values["a): pass\nimport os\ndef f("] = values["x"]


def _path_of_weight(document: dict[str, Any]) -> None:
    specs = document["graph_module"]["signature"]["input_specs"]
    next(spec["parameter"] for spec in specs if "parameter" in spec)["parameter_name"] = "a.__class__.forward"


def _text_for_number(document: dict[str, Any]) -> None:
    graph(document)["tensor_values"]["x"]["storage_offset"] = {"as_int": "0"}


def _huge_number(document: dict[str, Any]) -> None:
    graph(document)["tensor_values"]["x"]["storage_offset"] = {"as_int": 1 << 80}


def _unknown_union(document: dict[str, Any]) -> None:
    graph(document)["nodes"][-1]["inputs"][0]["arg"] = {"create": 1}


def _missing(document: dict[str, Any]) -> None:
    del graph(document)["nodes"]


@pytest.mark.parametrize(
    "change",
    [
        _name_with_code,
        _value_with_code,
        _path_of_weight,
        _text_for_number,
        _huge_number,
        _unknown_union,
        _missing,
    ],
)
def test_a_document_against_the_grammar_is_refused(change: Change, small: Path, tmp_path: Path) -> None:
    assert refusal(edited(small, tmp_path / "evil.pt2", change), tmp_path) == "invalid_pt2"


def test_what_is_not_needed_to_compute_never_reaches_pytorch(small: Path, tmp_path: Path) -> None:
    """Guards are compiled, structures of arguments are imported, examples are unpickled."""
    marker = tmp_path / "marker"
    touch = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    tree = {
        "type": "collections.defaultdict",
        "context": json.dumps(["os", "system", []]),
        "children_spec": [],
    }

    def change(document: dict[str, Any]) -> None:
        document["guards_code"] = [touch]
        for entry in document["graph_module"]["module_call_graph"]:
            if entry["signature"]:
                entry["signature"]["in_spec"] = json.dumps([1, tree])
        for node in graph(document)["nodes"]:
            node["metadata"] = {"source_fn_stack": "a,torch.nn.os", "from_node": "[1]"}

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (touch,)

    torch.save(Evil(), tmp_path / "evil.pt")
    guarded = edited(small, tmp_path / "edited.pt2", change)
    pickled = (tmp_path / "evil.pt").read_bytes()
    assert load(replaced(guarded, tmp_path / "evil.pt2", "data/sample_inputs/model.pt", pickled), tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("data/aotinductor/model/model.so", "member_refused"),
        ("data/aotinductor/model/model.wrapper.json", "member_refused"),
        ("models/second.json", "member_refused"),
        ("data/weights/model.pt", "pt2_pickle"),
        ("data/constants/custom_obj_0", "pt2_pickle"),
        ("data/constants/opaque_obj_0", "pt2_pickle"),
        ("../model.json", "path_refused"),
    ],
)
def test_members_that_are_no_weights_are_refused(name: str, code: str, small: Path, tmp_path: Path) -> None:
    assert refusal(replaced(small, tmp_path / "evil.pt2", name, b"x"), tmp_path) == code


def _first(document: dict[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = next(iter(document["config"].values()))
    return payload


def _pickled_weight(document: dict[str, Any]) -> None:
    _first(document)["use_pickle"] = True


def _longer_than_stored(document: dict[str, Any]) -> None:
    _first(document)["tensor_meta"]["sizes"][0] = {"as_int": 5}


def _repeated(document: dict[str, Any]) -> None:
    _first(document)["tensor_meta"].update(
        sizes=[{"as_int": 1 << 20}, {"as_int": 1 << 20}], strides=[{"as_int": 0}, {"as_int": 0}]
    )


def _before_its_start(document: dict[str, Any]) -> None:
    _first(document)["tensor_meta"]["strides"] = [{"as_int": -4}, {"as_int": 1}]


def _elsewhere(document: dict[str, Any]) -> None:
    _first(document)["path_name"] = "weight_77"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_pickled_weight, "pt2_pickle"),
        (_longer_than_stored, "invalid_pt2"),
        (_repeated, "limit_decoded_bytes"),
        (_before_its_start, "invalid_pt2"),
        (_elsewhere, "invalid_pt2"),
    ],
)
def test_a_weight_lies_in_the_bytes_that_are_there(
    change: Change, code: str, small: Path, tmp_path: Path
) -> None:
    assert refusal(edited(small, tmp_path / "evil.pt2", change, WEIGHTS), tmp_path) == code


def test_an_empty_weight_declares_no_values(small: Path, tmp_path: Path) -> None:
    """PyTorch makes zeros of any size of it."""
    path = replaced(small, tmp_path / "evil.pt2", "data/weights/weight_0", b"")
    assert refusal(path, tmp_path) == "invalid_pt2"
