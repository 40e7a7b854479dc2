"""What must hold for every technique, present and future: nothing here names one."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.formats import load_dataset, load_model
from compression.model import Model
from compression.recipe import Recipe, canonical
from compression.step import apply_step
from compression.technique import REGISTRY, Promise
from tests.compression.conftest import EXAMPLES, arrays
from tests.compression.networks import NETWORKS

_REFUSALS = {"no_student", "labels_missing", "technique_refused", "target_unreachable"}
"""Codes with which a technique may say that this model, or data set, gives it nothing to do; and all that
begin with `nothing_to_`.
"""


@cache
def files(network: str) -> tuple[Path, Path]:
    folder = Path(mkdtemp(prefix="registry"))
    if network == "example":
        upload, data = EXAMPLES / "fashion_mnist_resnet.onnx", folder / "upload.npz"
        with np.load(EXAMPLES / "fashion_mnist.npz") as whole:  # few of its samples: training is quick
            few = {"calibration": 64, "test": 500}
            np.savez(data, **{f: whole[f][: few[f.split("/")[0]]] for f in whole.files if f[:5] != "train"})
    else:
        upload, data = folder / "upload.onnx", folder / "upload.npz"
        upload.write_bytes(NETWORKS[network]().SerializeToString())
        np.savez(data, **arrays(network))  # type: ignore[arg-type]
    (folder / "scratch").mkdir()
    load_model(upload, upload.name, folder / "model.onnx", folder / "scratch")
    load_dataset(data, data.name, folder / "data.npz", folder / "scratch")
    return folder / "model.onnx", folder / "data.npz"


@cache
def applied(technique: str, network: str, attempt: int = 0) -> Path | CompressionError:
    """The file that a step with default parameters makes of a network."""
    del attempt  # another one is another run
    return apply(technique, *files(network))


def apply(technique: str, model: Path, data: Path) -> Path | CompressionError:
    into = Path(mkdtemp(prefix="step")) / "model.onnx"
    try:
        apply_step({"technique": technique}, model, data, into, seed=0, scratch=into.parent)
    except CompressionError as error:
        return error
    return into


def networks() -> list[str]:
    return [*NETWORKS, *(["example"] if (EXAMPLES / "fashion_mnist_resnet.onnx").exists() else [])]


def reason(technique: str, network: str) -> str | None:
    return REGISTRY[technique](technique=technique).check(Model.open(files(network)[0]).inspect())


def result(technique: str, network: str) -> Path:
    """Skips where the technique says that it has nothing to do there."""
    made = applied(technique, network)
    if isinstance(made, CompressionError):
        assert refuses(made), made
        assert len(made.detail) > 20
        pytest.skip(made.detail)
    return made


def refuses(error: CompressionError) -> bool:
    return error.code in _REFUSALS or error.code.startswith("nothing_to_")


each_technique = pytest.mark.parametrize("technique", REGISTRY)
each_network = pytest.mark.parametrize("network", networks())


def test_the_heavy_libraries_stay_out_of_declarations() -> None:
    code = (
        "import sys, compression.recipe, compression.fit, compression.outcome, compression.formats.sniff;"
        "print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@each_technique
def test_parameters_survive_json(technique: str) -> None:
    step = REGISTRY[technique](technique=technique)
    recipe = Recipe.model_validate({"steps": [{"technique": technique}]})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert REGISTRY[technique].model_validate(json.loads(json.dumps(canonical(step)))) == step


@each_technique
def test_is_documented(technique: str) -> None:
    declared = REGISTRY[technique]
    assert declared.__doc__
    assert len(declared.__doc__) > 80
    assert len(declared.guidance) > 80
    for name, field in declared.model_fields.items():
        assert name == "technique" or field.description, name


@each_technique
@each_network
def test_input_is_untouched_and_bytes_repeat(technique: str, network: str) -> None:
    before = [path.read_bytes() for path in files(network)]
    first = result(technique, network)
    assert [path.read_bytes() for path in files(network)] == before
    second = applied(technique, network, attempt=1)
    assert isinstance(second, Path)
    assert second.read_bytes() == first.read_bytes()


@each_technique
@each_network
def test_inputs_and_outputs_are_the_same(technique: str, network: str) -> None:
    before, after = Model.open(files(network)[0]), Model.open(result(technique, network))
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert {prop.key for prop in before.proto.metadata_props} <= {
        prop.key for prop in after.proto.metadata_props
    }
    assert REGISTRY[technique].adds <= after.inspect().traits


@each_technique
@each_network
def test_result_is_normal_already(technique: str, network: str, tmp_path: Path) -> None:
    """It can be uploaded again, and what comes out is the same file."""
    made = result(technique, network)
    load_model(made, "model.onnx", tmp_path / "again.onnx", tmp_path)
    assert (tmp_path / "again.onnx").read_bytes() == made.read_bytes()


@each_technique
@each_network
def test_outputs_stay_near(technique: str, network: str) -> None:
    if REGISTRY[technique].moves_outputs:
        pytest.skip("outputs may end anywhere")
    path, data = files(network)
    split = Dataset.open(data).splits["test"]
    inputs = Model.open(path).inputs
    reference, outputs = (
        next(runtime.run_split(runtime.session(one), split, inputs))
        for one in (path, result(technique, network))
    )
    for name, expected in reference.items():
        assert outputs[name].shape == expected.shape
        assert outputs[name].dtype == expected.dtype
        assert np.isfinite(outputs[name]).all()
        noise = np.linalg.norm(outputs[name] - expected) / np.linalg.norm(expected)
        assert noise < 0.2, name


@each_technique
def test_promise_to_be_smaller_is_kept_where_it_applies(technique: str) -> None:
    if Promise.SMALLER not in REGISTRY[technique].promises:
        pytest.skip("promises nothing of the kind")
    made = {network: applied(technique, network) for network in networks()}
    ratios = [
        files(network)[0].stat().st_size / path.stat().st_size
        for network, path in made.items()
        if isinstance(path, Path)
    ]
    assert max(ratios) > 1.3


@pytest.mark.parametrize("technique", sorted(REGISTRY))
def test_without_labels_is_refused_or_has_a_way_out_that_holds(technique: str) -> None:
    data = Dataset.open(files("cnn")[1]).inspection
    bare = data.model_copy(
        update={"arrays": tuple(array for array in data.arrays if array.name != "label"), "labelled": False}
    )
    step = {"technique": technique, "training": {"loss": "labels"}}
    trains = "training" in REGISTRY[technique].model_fields
    recipe = Recipe.model_validate({"steps": [step if trains else {"technique": technique}]})
    model = Model.open(files("cnn")[0]).inspect()
    refused = recipe.check(model, bare)
    assert bool(refused) == trains
    for way in recipe.ways_out(bare):
        assert not Recipe.model_validate(way.patch["recipe"]).check(model, bare)


@pytest.mark.parametrize("network", NETWORKS)  # the small ones: there are as many pairs as squares
@pytest.mark.parametrize("second", REGISTRY)
@each_technique
def test_techniques_follow_each_other_or_say_why_not(technique: str, second: str, network: str) -> None:
    model, data = files(network)
    first = applied(technique, network)
    if not isinstance(first, Path):
        pytest.skip("the first has nothing to do")
    recipe = Recipe.model_validate({"steps": [{"technique": technique}, {"technique": second}]})
    errors = recipe.check(Model.open(model).inspect(), Dataset.open(data).inspection)
    if errors:
        assert all(error.pointer.startswith("/recipe/steps/") and len(error.detail) > 20 for error in errors)
        return
    made = apply(second, first, data)
    if isinstance(made, CompressionError):
        assert refuses(made), made
    else:
        runtime.session(made)
