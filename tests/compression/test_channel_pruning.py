"""Channel pruning as a step: budgets, limits, replay, recovery, and going on after an interruption."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compression import runtime
from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.inspection import Trait
from compression.model import Model
from compression.pruning.criteria import ABSOLUTE
from compression.pruning.selection import Budget, Limits, select, smallest
from compression.technique import Applied, Context, Need
from compression.techniques.channel_pruning import ChannelPruning
from compression.training.checkpoint import Checkpoint
from tests.compression.channel_networks import CHANNEL_NETWORKS
from tests.compression.conftest import EXAMPLES, Pack
from tests.compression.networks import lstm

QUICK = {"training": None, "samples": 64}
CRITERIA = ["reconstruction", "l1", "l2", "taylor", "activation_mean", "apoz", "bn_scale", "random"]


@pytest.fixture(scope="module")
def example() -> Model:
    return Model(onnx.load(EXAMPLES / "fashion_mnist_resnet.onnx"))


@pytest.fixture
def context(pack: Pack, tmp_path: Path) -> Context:
    """With some of the example's images."""
    few = {"calibration": 128, "test": 400}
    with np.load(EXAMPLES / "fashion_mnist.npz") as whole:
        arrays = {n: whole[n][: few[n.split("/")[0]]] for n in whole.files if n[:5] != "train"}
    return Context(Dataset.open(pack(arrays)), 0, tmp_path)


@pytest.fixture(scope="module")
def small() -> Model:
    return Model(CHANNEL_NETWORKS["residual"]())


@pytest.fixture
def noise(pack: Pack, tmp_path: Path) -> Context:
    """Data for the small network."""
    images = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    return Context(Dataset.open(pack({"calibration/x": images})), 0, tmp_path)


def pruned(model: Model, context: Context, **fields: Any) -> Applied:
    step = ChannelPruning.model_validate({"technique": "channel_pruning", **QUICK, **fields})
    return step.apply(model, context)


def accuracy(model: Model, context: Context) -> float:
    assert context.data
    split = context.data.splits["test"]
    parts = runtime.run_split(runtime.session(model.proto), split, model.inputs)
    scores = np.concatenate([next(iter(part.values())) for part in parts])
    return float((scores.argmax(1) == split.labels).mean())


def shapes(model: Model) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.proto.graph.initializer}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_half_of_the_macs_by_every_criterion(criterion: str, example: Model, context: Context) -> None:
    model, details = pruned(example, context, criterion=criterion)
    before, after = details["macs"].values()
    assert (before, after) == (example.inspect().macs, model.inspect().macs)
    assert 0.42 < after / before <= 0.5  # channels go in blocks of 16
    assert model.outputs == example.outputs
    assert all(kept["kept"] % 8 == 0 for kept in details["groups"].values())
    assert json.loads(json.dumps(details)) == details


def test_taylor_on_floats_that_are_read_only_in_their_file(small: Model, noise: Context) -> None:
    details = pruned(small, noise, criterion="taylor", reconstruct=False).details
    assert details["macs"]["after"] <= 0.5 * details["macs"]["before"]


def test_reconstruction_keeps_what_magnitudes_lose(example: Model, context: Context) -> None:
    whole = accuracy(example, context)
    plain = accuracy(pruned(example, context, criterion="l1", reconstruct=False).model, context)
    corrected = accuracy(pruned(example, context, criterion="l1").model, context)
    best = accuracy(pruned(example, context).model, context)
    assert plain < 0.5
    assert min(corrected, best) > whole - 0.03


def test_targets(small: Model, noise: Context) -> None:
    details = pruned(small, noise, target="params", criterion="l1", reconstruct=False).details
    assert details["params"]["after"] <= 0.5 * details["params"]["before"]
    details = pruned(small, noise, target="latency", ratio=0.2, criterion="l1", reconstruct=False).details
    assert details["macs"]["after"] < details["macs"]["before"]


def test_uniform_takes_the_same_share_of_each_group(small: Model, noise: Context) -> None:
    details = pruned(small, noise, scope="uniform", criterion="random", round_to=1).details
    shares = [group["kept"] / group["units"] for group in details["groups"].values()]
    assert max(shares) - min(shares) < 0.1


def test_a_cut_is_repeated_from_its_details(small: Model, noise: Context) -> None:
    first = pruned(small, noise, ratio=0.6)
    again = pruned(small, noise, kept=first.details["kept"], ratio=0.1)
    assert again.model.serialized == first.model.serialized
    assert again.details["kept"] == first.details["kept"]


def test_several_cuts_are_repeated_as_one(small: Model, noise: Context) -> None:
    model, details = pruned(small, noise, ratio=0.9, blocks=True, steps=2, round_to=2, min_channels=2)
    assert details["kept"]
    assert details["dropped"]
    again = pruned(small, noise, kept=details["kept"], dropped=details["dropped"], reconstruct=False)
    assert shapes(again.model) == shapes(model)
    assert again.details["kept"] == details["kept"]
    values = [onnx.numpy_helper.to_array(one.initializers["conv0.weight"]) for one in (again.model, model)]
    np.testing.assert_array_equal(*values)


def test_what_is_excluded_stays(example: Model, context: Context) -> None:
    fields = {"criterion": "l1", "ratio": 0.3, "reconstruct": False}
    details = pruned(example, context, exclude=["stem.0.weight", "relu_3"], **fields).details
    assert details["groups"]["stem.0.weight"]["kept"] == 32
    assert details["groups"]["stages.1.first.0.weight"]["kept"] == 32
    assert details["groups"]["stages.0.first.0.weight"]["kept"] < 32


def test_a_useless_block_is_dropped_whole(small: Model, noise: Context) -> None:
    model, details = pruned(small, noise, ratio=0.45, blocks=True)
    assert details["dropped"] == ["add10"]
    assert not any(name.startswith(("conv7", "conv9")) for name in shapes(model))
    assert details["kept"] == {}


def test_attention_and_feed_forward_of_an_encoder(tmp_path: Path, pack: Pack) -> None:
    source = Model(CHANNEL_NETWORKS["encoder_packed"]())
    rows = np.random.default_rng(0).standard_normal((32, 5, 24)).astype(np.float32)
    context = Context(Dataset.open(pack({"calibration/x": rows})), 0, tmp_path)
    model, details = pruned(source, context, target="params", ratio=0.4)
    groups = details["groups"]
    assert groups["linear0.weight"]["kept"] < 4 or groups["linear17.weight"]["kept"] < 40
    assert runtime.run(runtime.session(model.proto), {"x": rows[:2]})["y"].shape == (2, 5, 5)


def test_recovery_trains_and_is_recorded(example: Model, context: Context) -> None:
    fields = {"criterion": "l1", "ratio": 0.7, "reconstruct": False}
    raw = pruned(example, context, **fields)
    training = {"epochs": 6, "batch_size": 32, "validation": 0}
    model, details = pruned(example, context, **{**fields, "training": training})
    assert accuracy(model, context) > accuracy(raw.model, context) + 0.02
    assert len(details["recovery"]) == 1
    assert not any(node.op_type == "BatchNormalization" for node in model.proto.graph.node)


class _Killed(Exception):
    pass


@pytest.mark.parametrize("stage", ["cut 1", "cut 2"])
def test_goes_on_from_a_checkpoint(
    stage: str, small: Model, noise: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"epochs": 3, "batch_size": 16, "validation": 0, "precision": "float32"}
    fields = {"steps": 2, "training": training, "ratio": 0.4}
    expected = pruned(small, noise, **fields)
    monkeypatch.setattr("compression.training.loop.EPOCH_SECONDS", 0.0)
    left = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", _killing(stage))
        with pytest.raises(_Killed):
            pruned(small, replace(noise, checkpoint=left), **fields)
    resumed = pruned(small, replace(noise, resume=left, checkpoint=left), **fields)
    assert resumed.model.serialized == expected.model.serialized
    assert resumed.details["kept"] == expected.details["kept"]
    assert len(resumed.details["recovery"]) == 2


def _killing(stage: str) -> Callable[[Checkpoint, Path], None]:
    """Writes, until the stage has left a checkpoint after its first epoch."""
    write = Checkpoint.write

    def killing(checkpoint: Checkpoint, path: Path) -> None:
        write(checkpoint, path)
        if checkpoint.stage == stage and checkpoint.progress["step"] > 0:
            raise _Killed

    return killing


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"ratio": 0.999}, "target_unreachable"),
        ({"min_channels": 10_000}, "nothing_to_prune"),
        ({"kept": {"stem.0.weight": (32,)}}, "unknown_group"),
        ({"kept": {"stem": (1,)}}, "unknown_group"),
        ({"dropped": ("add_122",)}, "unknown_block"),
    ],
)
def test_what_cannot_be_done(fields: dict[str, Any], code: str, example: Model, context: Context) -> None:
    with pytest.raises(CompressionError) as caught:
        pruned(example, context, criterion="l1", **fields)
    assert caught.value.code == code


def test_an_unreachable_target_comes_with_one_that_is_reached(example: Model, context: Context) -> None:
    with pytest.raises(CompressionError) as caught:
        pruned(example, context, ratio=0.99, criterion="l1", reconstruct=False)
    patch = caught.value.suggestions[0].patch
    assert patch
    model, _ = pruned(example, context, criterion="l1", reconstruct=False, **patch)
    assert model.inspect().params < example.inspect().params / 10


def test_nothing_to_prune(tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        pruned(Model(lstm()), Context(None, 0, tmp_path), criterion="l1", reconstruct=False, target="params")
    assert caught.value.code == "nothing_to_prune"


def test_weights_alone_need_no_data() -> None:
    step = ChannelPruning(criterion="l1", training=None, reconstruct=False)
    assert step.required() == frozenset()
    assert ChannelPruning().required() == {Need.CALIBRATION}
    by_labels = ChannelPruning.model_validate({"training": {"loss": "labels"}})
    assert by_labels.required() == {Need.CALIBRATION, Need.LABELS}


@pytest.mark.parametrize("trait", [Trait.QUANTIZED, Trait.HALF_PRECISION])
def test_refusals(trait: Trait, example: Model) -> None:
    inspection = example.inspect()
    assert ChannelPruning().check(inspection) is None
    assert "original" in str(ChannelPruning().check(inspection.model_copy(update={"traits": {trait}})))
    assert "channels" in str(ChannelPruning().check(inspection.model_copy(update={"operators": {"Add": 1}})))


def test_limits() -> None:
    counts = Limits(round_to=8, min_channels=16, max_ratio=0.9).range(128, 128)
    assert [counts.count(wanted) for wanted in (0, 19, 21, 64, 128)] == [16, 16, 24, 64, 128]
    assert Limits(8, 8, 0.5).range(64, 40).count(0) == 32
    assert Limits(8, 8, 0.5).range(64, 24).count(0) == 24
    assert [Limits(8, 8, 0.9).range(12, 12).count(wanted) for wanted in (0, 3.4, 12)] == [2, 3, 12]
    assert [Limits(16, 8, 0.9).range(24, 24).count(wanted) for wanted in (0, 13, 24)] == [8, 16, 24]
    assert [Limits(16, 8, 0.9).range(64, 64).count(wanted) for wanted in (0, 30, 64)] == [16, 32, 64]
    assert [Limits(16, 8, 0.9).range(12, 12).count(wanted) for wanted in (0, 3.4, 12)] == [2, 3, 12]


def test_selection_takes_the_cheapest_losses_within_the_budget() -> None:
    scores = {"a": np.arange(1.0, 33), "b": np.arange(1.0, 33) * 100}
    limits = {name: Limits(1, 1, 0.99).range(32, 32) for name in scores}
    budget = Budget(lambda kept: len(kept["a"]) + len(kept["b"]), 40)
    kept = select(scores, {"a": 1.0, "b": 1.0}, limits, budget)
    assert kept is not None
    assert len(kept["a"]) + len(kept["b"]) == 40
    assert len(kept["b"]) > 30
    assert kept["a"] == sorted(kept["a"])[-len(kept["a"]) :]
    assert select(scores, {"a": 1.0, "b": 1.0}, limits, Budget(lambda _kept: 2, 1)) is None
    halves = dict.fromkeys(scores, Limits(8, 8, 0.5).range(32, 32))
    assert smallest(scores, halves) == {"a": list(range(16, 32)), "b": list(range(16, 32))}


def test_only_losses_are_weighed_against_costs() -> None:
    assert {"reconstruction", "taylor"} == ABSOLUTE
