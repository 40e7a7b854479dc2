"""Parts of the search for sub-networks: the space, shared weights, statistics, prices, and the choice."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression import runtime
from compression.dataset import Split
from compression.engine import Engine, insert_batchnorm, normalise
from compression.graph import shapes
from compression.model import Model
from compression.subnets.choosing import frontier, within
from compression.subnets.judging import recalibrated
from compression.subnets.latency import Latency, Table
from compression.subnets.network import Network
from compression.subnets.options import Options
from compression.subnets.prices import Counted
from compression.subnets.search import Found, Search
from compression.subnets.segments import segments
from compression.subnets.space import Space, Subnet, widths
from compression.subnets.starts import ranked, starts
from compression.subnets.supernet import Sandwich, Supernet
from compression.technique import Context, quiet
from compression.training.batches import Batch
from compression.training.options import Training
from tests.compression.channel_networks import CHANNEL_NETWORKS

IMAGES = np.random.default_rng(0).standard_normal((32, 3, 8, 8)).astype(np.float32)
TOKENS = np.random.default_rng(0).standard_normal((32, 5, 24)).astype(np.float32)
INPUTS = {"residual": IMAGES, "dense_block": IMAGES, "encoder_packed": TOKENS}


@cache
def network(name: str = "residual", *, normalised: bool = False) -> Network:
    model = normalise(Model(CHANNEL_NETWORKS[name]()))
    if normalised:
        model = insert_batchnorm(model, [{"x": torch.from_numpy(INPUTS[name])}])
    return Network(model, {"x": INPUTS[name][:1]})


def whole_space(of: Network) -> Space:
    """Of groups whose order of importance is by chance."""
    sizes = {name: group.size for name, group in of.groups.items()}
    random = np.random.default_rng(1)
    scores = {name: random.random(size) for name, size in sizes.items()}
    counts = {name: tuple(range(2, size + 1)) for name, size in sizes.items()}
    return Space(scores, counts, of.blocks)


def run(model: onnx.ModelProto, x: runtime.Array) -> runtime.Array:
    return runtime.run(runtime.session(model), {"x": x})["y"]


def drawn(space: Space, seed: int) -> Subnet:
    return space.random(np.random.default_rng(seed))


# The space


def test_widths_are_multiples_and_hold_the_whole() -> None:
    found = widths({"wide": 64, "odd": 30, "narrow": 8, "heads": 4}, (0.25, 0.5), 8)
    assert found == {"wide": (16, 32, 64), "odd": (8, 16, 30), "narrow": (2, 4, 8), "heads": (1, 2, 4)}
    assert widths({"narrow": 8}, (0.9,), 8) == {}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_narrower_subnets_lie_within_wider_ones(seed: int) -> None:
    space = whole_space(network())
    one = drawn(space, seed)
    wider = Subnet(
        tuple(min(at + 1, len(own) - 1) for at, own in zip(one.widths, space.widths.values(), strict=True))
    )
    small, large = space.kept(one), space.kept(wider)
    for name, units in large.items():
        assert set(small[name]) <= set(units)
    assert space.kept(space.largest) == {}
    assert len(one.dropped) <= space.droppable == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), limit=st.floats(0.05, 1))
def test_what_is_fitted_is_within_the_limit(seed: int, limit: float) -> None:
    of = network()
    space = whole_space(of)
    price = Counted("macs", of, space).of
    subnet = drawn(space, seed)
    fitted = space.fitted(subnet, price, limit)
    assert price(fitted) <= limit or fitted == space.smallest
    if price(subnet) <= limit:
        assert fitted == subnet


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), limit=st.floats(0.3, 1))
def test_neighbours_are_within_the_limit_and_leave_no_room_in_it(seed: int, limit: float) -> None:
    of = network()
    space = whole_space(of)
    price, generator = Counted("macs", of, space).of, np.random.default_rng(seed)
    start = space.fitted(drawn(space, seed), price, limit)
    moved = space.neighbour(start, price, limit, generator)
    assert price(moved) <= limit
    assert len(moved.dropped) <= space.droppable
    assert moved == start or all(
        price(Subnet(tuple(own + (at == group) for at, own in enumerate(moved.widths)), moved.dropped))
        > limit
        for group, most in enumerate(space.largest.widths)
        if moved.widths[group] < most
    )


def test_not_more_than_half_of_the_blocks_go() -> None:
    space = Space({}, {}, ("a", "b", "c", "d", "e"))
    assert space.smallest.dropped == ("c", "d", "e")
    assert space.fitted(Subnet((), space.blocks), lambda _one: 0.0, 1.0).dropped == ("c", "d", "e")
    assert space.size == 1 + 5 + 10 + 10
    assert {len(drawn(space, seed).dropped) for seed in range(40)} == {0, 1, 2, 3}


def test_the_start_by_importance_leaves_out_what_matters_least_for_its_cost() -> None:
    scores = {"matters": np.full(8, 9.0), "costs": np.arange(1.0, 9), "idle": np.full(8, 1.5)}
    space = Space(scores, {name: tuple(range(1, 9)) for name in scores}, ("block",))

    def price(subnet: Subnet) -> float:
        matters, costs, idle = subnet.widths
        return (matters + 3 * costs + idle) / 35

    assert ranked(space, price, 0.6, absolute=True) == Subnet((7, 3, 5))
    assert ranked(space, price, 0.6, absolute=False) == Subnet((7, 4, 2))
    assert ranked(space, price, -1, absolute=True) is None
    first, *uniform = starts(space, price, 0.6, absolute=True)
    assert first == Subnet((7, 3, 5))
    assert [one.dropped for one in uniform] == [(), ("block",)]
    assert all(max(one.widths) - min(one.widths) <= 1 for one in uniform)


# Carving and its costs


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(INPUTS)))
def test_costs_are_those_of_the_network_that_is_carved(seed: int, name: str) -> None:
    of = network(name)
    space = whole_space(of)
    subnet = drawn(space, seed)
    kept = space.kept(subnet)
    again = Network(Model(of.carved(kept, subnet.dropped)), of.feeds)
    assert of.cost(kept, subnet.dropped) == again.cost({}, ())
    assert set(of.told(kept, subnet.dropped)) == set(kept) & set(again.groups)


def test_blocks_that_follow_each_other_can_both_go() -> None:
    of = network()
    assert of.blocks == ("add5", "add10")
    left = of.carved({}, of.blocks)
    assert [node.op_type for node in left.graph.node][:2] == ["Conv", "Relu"]
    assert not any(node.op_type == "Add" for node in left.graph.node)
    assert run(left, IMAGES).shape == (32, 5)


# Shared weights


def supernet(of: Network, space: Space, subnets: list[Subnet]) -> tuple[Supernet, Engine]:
    """Whose weights have moved since the graph was read."""
    made = Supernet(space, of.feeds, Sandwich(space.largest, space.smallest, lambda _step: subnets))
    engine = Engine.from_model(Model(of.looked.model))
    made.attach(engine)
    with torch.no_grad():
        for at, (_, value) in enumerate(engine.parameters_by_role()):
            value.mul_(1 + 0.01 * at).add_(0.003)
    made.before_step(0, 1)
    return made, engine


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(INPUTS)))
def test_a_subnet_on_shared_weights_is_the_network_that_is_carved(seed: int, name: str) -> None:
    of = network(name)
    space = whole_space(of)
    subnet = drawn(space, seed)
    made, engine = supernet(of, space, [subnet])
    engine.eval()
    smallest, other = made.others({"x": torch.from_numpy(INPUTS[name])})
    for one, outputs in ((space.smallest, smallest), (subnet, other)):
        carved = made.trained().carved(space.kept(one), one.dropped)
        np.testing.assert_allclose(outputs["y"].detach(), run(carved, INPUTS[name]), rtol=1e-4, atol=1e-4)


def test_only_what_a_subnet_has_is_trained_by_it() -> None:
    of = network()
    space = whole_space(of)
    made, engine = supernet(of, space, [])
    (outputs,) = made.others({"x": torch.from_numpy(IMAGES)})
    outputs["y"].square().sum().backward()
    values = engine.values()
    gradient = values["conv2.weight"].grad
    assert gradient is not None
    trained = {int(unit) for unit in gradient.flatten(1).abs().sum(1).nonzero()}
    assert trained <= set(space.kept(space.smallest)["conv2.weight"])
    assert values["conv7.weight"].grad is None


def test_statistics_of_the_whole_are_left_alone() -> None:
    of = network(normalised=True)
    made, engine = supernet(of, whole_space(of), [])
    engine.train()
    before = {name: value.clone() for name, value in engine.values().items()}
    made.others({"x": torch.from_numpy(IMAGES)})
    for name, value in engine.values().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_validation_is_of_the_largest_and_training_of_all(tmp_path: Path) -> None:
    of = network()
    space = whole_space(of)
    model, split = Model(of.looked.model), Split({"x": IMAGES}, None)
    made, engine = supernet(of, space, [])
    goal = made.objective(model, split, Training(), Context(None, 0, tmp_path))
    inputs = {"x": torch.from_numpy(IMAGES)}
    batch = Batch(np.arange(len(IMAGES)), inputs, None, {"y": torch.from_numpy(run(model.proto, IMAGES))})
    outputs = engine(inputs)
    with torch.no_grad():
        (small,) = made.others(inputs)
        alone, other = float(goal(outputs, batch)), float(goal(small, batch))
    assert float(goal(outputs, batch).detach()) == pytest.approx((alone + other) / 2)
    assert alone != pytest.approx(other)


def test_the_loop_sees_the_largest_that_is_allowed() -> None:
    of = network()
    space = whole_space(of)
    largest = drawn(space, 3)
    made = Supernet(space, of.feeds, Sandwich(largest, space.smallest, lambda _step: []))
    engine = Engine.from_model(Model(of.looked.model)).eval()
    made.attach(engine)
    carved = made.trained().carved(space.kept(largest), largest.dropped)
    outputs = engine(x=torch.from_numpy(IMAGES))["y"].detach()
    np.testing.assert_allclose(outputs, run(carved, IMAGES), rtol=1e-4, atol=1e-4)
    made.after_training()
    whole = engine(x=torch.from_numpy(IMAGES))["y"].detach()
    np.testing.assert_allclose(whole, run(of.looked.model, IMAGES), rtol=1e-4, atol=1e-4)


def test_statistics_of_the_largest_are_kept_in_checkpoints() -> None:
    of = network(normalised=True)
    first, engine = supernet(of, whole_space(of), [])
    engine.train()
    engine(x=torch.from_numpy(IMAGES))
    second, _ = supernet(of, whole_space(of), [])
    moved = {name: value.clone() for name, value in first.state().items()}
    assert any(not torch.equal(value, second.state()[name]) for name, value in moved.items())
    second.restore(moved)
    assert all(torch.equal(value, second.state()[name]) for name, value in moved.items())


# Statistics


def test_recalibrated_statistics_are_those_of_the_layers_own_inputs() -> None:
    of = network(normalised=True)
    graph = of.looked.model.graph
    wrong = Engine.from_model(Model(of.looked.model))
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    for node in norms:
        wrong.values()[node.input[3]].add_(3)
        wrong.values()[node.input[4]].mul_(7)
    halves = [{"x": torch.from_numpy(part)} for part in (IMAGES[:16], IMAGES[16:])]
    right = recalibrated(wrong.write_back(), halves)
    sources = [node.input[0] for node in norms]
    opened = onnx.ModelProto()
    opened.CopyFrom(right.proto)
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sources)
    seen = runtime.run(runtime.session(opened), {"x": IMAGES})
    for node in norms:
        values = seen[node.input[0]]
        mean = values.mean((0, 2, 3))
        np.testing.assert_allclose(right.initializer(node.input[3]), mean, atol=0.1 * values.std())
        np.testing.assert_allclose(right.initializer(node.input[4]), values.var((0, 2, 3)), rtol=0.2)


def test_without_batchnorm_there_is_nothing_to_recalibrate() -> None:
    model = Model(network().looked.model)
    assert recalibrated(model, []) is model


# Latency


def test_what_a_runtime_fuses_is_one_segment() -> None:
    of = network()
    types = shapes.infer(of.looked.model, {"x": (1, 3, 8, 8)})
    kinds = [[node.op_type for node in one.nodes] for one in segments(of.looked.model.graph, types)]
    assert kinds[:4] == [["Conv", "Relu"], ["Conv", "Relu"], ["Conv", "Add", "Relu"], ["Conv", "Relu"]]
    assert kinds[-1] == ["Gemm"]
    assert sum(map(len, kinds)) == len(of.looked.model.graph.node)


def test_each_segment_is_measured_once(tmp_path: Path) -> None:
    of = network()
    known = shapes.infer(of.looked.model, {"x": (1, 3, 8, 8)})
    table = Table(tmp_path)
    first = table.seconds(of.looked.model, known)
    count = len(table)
    assert first == table.seconds(of.looked.model, known)
    assert 0 < count == len(table) < first[1]  # both blocks have the same two


def test_latency_of_a_wide_network_follows_its_width(tmp_path: Path) -> None:
    model = normalise(Model(_wide()))
    of = Network(model, {"x": np.zeros((1, 64, 32, 32), np.float32)})
    space = Space({"w0": np.zeros(128)}, {"w0": (16, 64, 128)}, ())
    latency = Latency(of, space, tmp_path)
    predicted = [latency.of(Subnet((at,))) for at in range(3)]
    assert predicted[2] == 1
    assert predicted[0] < predicted[1] < 0.8
    assert latency.measured(Subnet((1,))) == pytest.approx(predicted[1], rel=0.5)


def _wide() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = [
        random.standard_normal(shape).astype(np.float32) for shape in ((128, 64, 3, 3), (64, 128, 3, 3))
    ]
    pads = {"kernel_shape": [3, 3], "pads": [1] * 4}
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w0"], ["a"], **pads),
        onnx.helper.make_node("Relu", ["a"], ["b"]),
        onnx.helper.make_node("Conv", ["b", "w1"], ["y"], **pads),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 64, 32, 32])
        for name in ("x", "y")
    ]
    constants = [onnx.numpy_helper.from_array(value, f"w{at}") for at, value in enumerate(weights)]
    graph = onnx.helper.make_graph(nodes, "wide", ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


# The search and the choice


def options(**fields: Any) -> Options:
    given = {
        "ratio": 0.5, "target": "macs", "widths": (0.5, 1.0), "depth": True, "round_to": 1, "criterion": "l1",
        "samples": 1, "subnets": 1, "trials": 100, "population": 20, "sampler": "nsga2",
        "finalists": 1, "final_epochs": 0, "training": Training(), "recovery": None,
    }  # fmt: skip
    return Options(**{**given, **fields})


PLAIN = Space(
    {name: np.zeros(8) for name in "abc"}, {name: tuple(range(1, 9)) for name in "abc"}, ("first", "second")
)


def _cost(subnet: Subnet) -> float:
    return (sum(subnet.widths) + 3) / 24 * (1 - 0.2 * len(subnet.dropped))


def _scores(subnet: Subnet) -> Mapping[str, float]:
    """`a` matters, `c` does not, and neither does the first block."""
    a, b, _ = subnet.widths
    return {"validation_loss": (7 - a) * 3.0 + (7 - b) + 20.0 * ("second" in subnet.dropped)}


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "local"])
def test_the_search_finds_what_matters(sampler: str) -> None:
    found = Search(PLAIN, _cost, _scores, 0.5).run(options(sampler=sampler), 0, quiet)
    best = min(found, key=lambda one: one.loss)
    assert max(one.cost for one in found) <= 0.5
    assert len({one.subnet for one in found}) == len(found)
    assert best.subnet.dropped == ("first",)
    assert best.loss <= 4  # a whole, b nearly


def test_the_search_repeats_for_its_seed() -> None:
    first, again, other = (
        Search(PLAIN, _cost, _scores, 0.5).run(options(trials=30), seed, quiet) for seed in (0, 0, 1)
    )
    assert first == again != other


def judged(cost: float, loss: float) -> Found:
    return Found(Subnet((round(cost * 100),)), cost, {"validation_loss": loss})


def test_the_frontier_leaves_out_what_is_beaten() -> None:
    points = [judged(0.2, 3), judged(0.3, 4), judged(0.4, 1), judged(0.4, 2), judged(0.5, 1)]
    assert frontier(points) == [points[0], points[2]]


def test_finalists_are_within_the_limit_as_measured() -> None:
    points = [judged(0.2, 5), judged(0.3, 4), judged(0.4, 3), judged(0.49, 2), judged(0.5, 1)]
    assert within(points, 0.5, lambda one: one.widths[0] / 100, 2)[0] == [points[4], points[3]]
    best, checks = within(points, 0.5, lambda one: one.widths[0] / 80, 1)  # a quarter more than predicted
    assert best == [points[2]]
    assert checks == [(0.5, 0.625), (0.4, 0.5)]
    assert within(points, 0.1, lambda _one: 0.3, 3)[0] == points[:1]


def test_finalists_differ_in_their_blocks_first() -> None:
    def one(loss: float, *dropped: str) -> Found:
        return Found(Subnet((round(loss),), dropped), 0.5, {"validation_loss": loss})

    points = [one(1), one(2), one(3, "a"), one(4), one(5, "b"), one(6, "a")]
    accepted, _ = within(points, 0.5, lambda _one: 0.5, 5)
    assert [found.loss for found in accepted] == [1, 3, 5, 2, 6]
