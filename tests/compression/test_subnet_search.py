"""Subnet search as a step: budgets, what is chosen, going on after an interruption, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from compression.dataset import Dataset
from compression.errors import CompressionError
from compression.inspection import Trait
from compression.model import Model
from compression.technique import Applied, Context, Need
from compression.techniques.channel_pruning import ChannelPruning
from compression.techniques.subnet_search import SubnetSearch
from compression.training.checkpoint import Checkpoint
from tests.compression.channel_networks import CHANNEL_NETWORKS
from tests.compression.conftest import Pack
from tests.compression.networks import lstm

BRIEF = {"epochs": 2, "batch_size": 16, "precision": "float32"}
QUICK: dict[str, Any] = {
    "training": BRIEF,
    "recovery": BRIEF,
    "trials": 24,
    "population": 8,
    "finalists": 1,
    "round_to": 4,
    "samples": 32,
}


@pytest.fixture(scope="module")
def small() -> Model:
    """Two residual blocks, the second of which adds nothing."""
    return Model(CHANNEL_NETWORKS["residual"]())


@pytest.fixture
def noise(pack: Pack, tmp_path: Path) -> Context:
    images = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    return Context(Dataset.open(pack({"calibration/x": images})), 0, tmp_path)


def searched(model: Model, context: Context, **fields: Any) -> Applied:
    step = SubnetSearch.model_validate({"technique": "subnet_search", **QUICK, **fields})
    return step.apply(model, context)


def shapes(model: Model) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.proto.graph.initializer}


@pytest.mark.parametrize("target", ["macs", "params"])
def test_the_budget_is_kept_and_told(target: str, small: Model, noise: Context) -> None:
    model, details = searched(small, noise, target=target, ratio=0.6)
    counted = {"macs": (small.inspect().macs, model.inspect().macs)}
    counted["params"] = (small.inspect().params, model.inspect().params)
    assert {name: tuple(details[name].values()) for name in counted} == counted
    before, after = counted[target]
    assert before
    assert after
    assert after / before == pytest.approx(details["cost"])
    assert details["cost"] <= 0.4
    assert (model.inputs, model.outputs) == (small.inputs, small.outputs)
    assert json.loads(json.dumps(details))["frontier"] == details["frontier"]


def test_the_frontier_gets_better_with_the_cost_and_ends_in_the_choice(small: Model, noise: Context) -> None:
    details = searched(small, noise, ratio=0.3, trials=40).details
    front = details["frontier"]
    costs, losses = ([point[name] for point in front] for name in ("cost", "validation_loss"))
    assert costs == sorted(costs)
    assert losses == sorted(losses, reverse=True)
    assert front[-1]["validation_loss"] == details["validation_loss"]
    assert 1 < len(front) <= details["judged"] <= 40


def test_the_best_finalist_is_taken(small: Model, noise: Context) -> None:
    model, details = searched(small, noise, finalists=3, final_epochs=0.5, recovery={**BRIEF, "epochs": 1})
    finalists = details["finalists"]
    losses = [one["validation_loss"] for one in finalists]
    assert len(losses) == 3
    assert losses == sorted(losses)
    assert finalists[0]["cost"] == details["cost"]
    assert model.inspect().macs == details["macs"]["after"]


def test_what_was_not_trained_starts_from_the_original(small: Model, noise: Context) -> None:
    untrained = {**BRIEF, "epochs": 0}
    fields = {"training": untrained, "recovery": None, "depth": False}
    model, details = searched(small, noise, **fields)
    (finalist,) = details["finalists"]
    assert finalist["start"] == "original"
    step = ChannelPruning(kept=details["kept"], dropped=details["dropped"], samples=32, training=None)
    assert step.apply(small, noise).model.serialized == model.serialized


def test_without_a_supernet_the_corrected_original_is_judged(small: Model, noise: Context) -> None:
    details = searched(small, noise, training=None, recovery=None, depth=False, sampler="local").details
    assert details["supernet"] is None
    (finalist,) = details["finalists"]
    assert finalist["start"] == "original"
    assert finalist["validation_loss"] == pytest.approx(details["validation_loss"], rel=1e-4)


def test_without_a_supernet_blocks_go_too(small: Model, noise: Context) -> None:
    details = searched(small, noise, training=None, ratio=0.45, trials=40).details
    assert details["dropped"] == ["add10"]


def test_any_point_can_be_cut_out_by_channel_pruning(small: Model, noise: Context) -> None:
    model, details = searched(small, noise, ratio=0.4, recovery=None)
    step = ChannelPruning(kept=details["kept"], dropped=details["dropped"], reconstruct=False, training=None)
    assert shapes(step.apply(small, noise).model) == shapes(model)


def test_a_block_that_adds_nothing_is_left_out(small: Model, noise: Context) -> None:
    model, details = searched(small, noise, ratio=0.45, trials=60)
    assert details["dropped"] == ["add10"]
    assert not any(name.startswith(("conv7", "conv9")) for name in shapes(model))


def test_without_depth_all_blocks_stay(small: Model, noise: Context) -> None:
    details = searched(small, noise, depth=False).details
    assert details["dropped"] == details["blocks"] == []


def test_latency_is_predicted_and_measured(small: Model, noise: Context) -> None:
    details = searched(small, noise, target="latency", ratio=0.1, trials=6).details
    assert details["checks"]
    assert all(check > 0 for pair in details["checks"] for check in pair)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "local"])
def test_repeats(sampler: str, small: Model, noise: Context) -> None:
    first, second = (searched(small, noise, sampler=sampler) for _ in range(2))
    assert first.model.serialized == second.model.serialized
    assert first.details["frontier"] == second.details["frontier"]


class _Killed(Exception):
    pass


@pytest.mark.parametrize("stage", ["supernet", "recovery"])
def test_goes_on_from_a_checkpoint(
    stage: str, small: Model, noise: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = searched(small, noise)
    monkeypatch.setattr("compression.training.loop.EPOCH_SECONDS", 0.0)
    left = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", _killing(stage))
        with pytest.raises(_Killed):
            searched(small, replace(noise, checkpoint=left))
    if stage == "recovery":
        monkeypatch.setattr("compression.subnets.search.Search.run", None)  # nothing is searched again
    resumed = searched(small, replace(noise, resume=left, checkpoint=left))
    assert resumed.model.serialized == expected.model.serialized
    assert resumed.details["frontier"] == expected.details["frontier"]


def _killing(stage: str) -> Callable[[Checkpoint, Path], None]:
    """Writes, until the stage has left a checkpoint after its first epoch."""
    write = Checkpoint.write

    def killing(checkpoint: Checkpoint, path: Path) -> None:
        write(checkpoint, path)
        if checkpoint.stage == stage and checkpoint.progress["step"] > 0:
            raise _Killed

    return killing


def test_an_unreachable_target_comes_with_one_that_is_reached(small: Model, noise: Context) -> None:
    with pytest.raises(CompressionError) as caught:
        searched(small, noise, ratio=0.99)
    assert caught.value.code == "target_unreachable"
    patch = caught.value.suggestions[0].patch
    assert patch
    assert searched(small, noise, **patch).details["cost"] <= 1 - patch["ratio"]


def test_nothing_is_elastic(small: Model, noise: Context) -> None:
    with pytest.raises(CompressionError, match="nothing in the model is elastic") as caught:
        searched(small, noise, depth=False, round_to=64, widths=[0.9])
    assert caught.value.code == "nothing_to_prune"


def test_a_network_without_units_or_blocks(pack: Pack, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((16, 7, 12)).astype(np.float32)
    with pytest.raises(CompressionError) as caught:
        searched(Model(lstm()), Context(Dataset.open(pack({"calibration/sequence": rows})), 0, tmp_path))
    assert caught.value.code == "nothing_to_prune"


@pytest.mark.parametrize(
    "fields",
    [{"widths": []}, {"widths": [0.0]}, {"widths": [1.0], "depth": False}, {"ratio": 1}, {"trials": 0}],
)
def test_parameters_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SubnetSearch.model_validate({"technique": "subnet_search", **fields})


@pytest.mark.parametrize("trait", [Trait.QUANTIZED, Trait.HALF_PRECISION])
def test_refusals(trait: Trait, small: Model) -> None:
    inspection = small.inspect()
    assert SubnetSearch().check(inspection) is None
    assert "original" in str(SubnetSearch().check(inspection.model_copy(update={"traits": {trait}})))
    assert "choose" in str(SubnetSearch().check(inspection.model_copy(update={"operators": {"Add": 1}})))


def test_labels_are_asked_for_by_either_training() -> None:
    assert SubnetSearch().required() == {Need.CALIBRATION}
    for name in ("training", "recovery"):
        step = SubnetSearch.model_validate({"technique": "subnet_search", name: {"loss": "labels"}})
        assert step.required() == {Need.CALIBRATION, Need.LABELS}


def test_examine_tells_what_is_elastic(small: Model) -> None:
    told = SubnetSearch.examine(small)
    assert told["widths"] == {
        "conv0.weight": [8, 16],
        "conv2.weight": [8, 16, 24],
        "conv7.weight": [8, 16, 24],
    }
    assert told["blocks"] == ["add5", "add10"]
    assert 0.5 < told["searchable_macs"] < 1
