"""Groups found on graphs: which slices go together, and what stays."""

import numpy as np
import onnx
import pytest

from compression.graph import channels
from compression.graph.channels.regrouping import blocks
from compression.graph.channels.slices import Slices
from compression.model import Model
from compression.samples import first, made_up
from tests.compression.channel_networks import CHANNEL_NETWORKS
from tests.compression.networks import lstm


def found(model: onnx.ModelProto) -> channels.Channels:
    opened = Model(model)
    (feeds,) = first(made_up(opened, 0).split, opened.inputs, 1)
    return channels.find(model, feeds)


SIZES = {
    "cnn": {"stem.weight": 32},
    "transformer": {"query.weight": 4, "ffn.weight": 64},
    "residual": {"conv0.weight": 16, "conv2.weight": 24, "conv7.weight": 24},
    "dense_block": {"conv0.weight": 8, "conv2.weight": 4, "conv5.weight": 4, "conv8.weight": 10},
    "gated": {"conv0.weight": 8, "conv4.weight": 6},
    "uneven": {
        "conv0.weight": 6,
        "conv0.weight:2": 6,
        "conv3.weight": 6,
        "conv7.weight": 3,
        "conv10.weight": 7,
    },
    "grouped": {"conv0.weight": 4, "conv6.weight": 12, "conv11.weight": 9},
    "decoder": {"conv0.weight": 8, "up.weight": 3, "conv9.weight": 6, "conv11.weight": 7},
    "flattened": {"conv0.weight": 6, "wide": 20},
    "flattened_last": {"conv0.weight": 6, "wide": 20},
    "shuffled": {"conv0.weight": 3, "conv7.weight": 6},
    "encoder_chain": {"linear0.weight": 4, "linear50.weight": 40},
    "encoder_packed": {"linear0.weight": 4, "linear17.weight": 40},
    "encoder_operator": {"linear0.weight": 2, "linear11.weight": 40},
    "encoder_einsum": {"w0": 4, "w2": 6, "linear10.weight": 40},
    "unknown": {"conv5.weight": 10},
}
"""Units of each group: heads in attention, whole groups where a convolution or a norm has some."""


@pytest.mark.parametrize("network", SIZES)
def test_groups_by_their_first_weight(network: str) -> None:
    groups = found(CHANNEL_NETWORKS[network]()).groups
    assert {group.name: group.size for group in groups} == SIZES[network]


def test_a_head_has_all_its_slices_of_q_k_v_and_the_output() -> None:
    heads = found(CHANNEL_NETWORKS["encoder_packed"]()).groups[0]
    (produced,), (contracted,) = heads.produced, heads.contracted
    assert (produced.tensor, produced.axis) == ("linear0.weight", 1)
    assert produced.indices[1].tolist() == [
        *range(6, 12), *range(30, 36), *range(54, 60)
    ]  # fmt: skip
    assert contracted.indices[1].tolist() == list(range(6, 12))


def test_a_recurrent_network_has_none() -> None:
    assert found(lstm()).groups == ()


def test_constant_nodes_are_weights_too() -> None:
    model = CHANNEL_NETWORKS["gated"]()
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    nodes.extend(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    assert {group.name: group.size for group in found(model).groups} == SIZES["gated"]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((2, 3, 4), (2, 12), [([0], [0]), ([1, 2], [1])]),
        ((2, 12), (2, 3, 1, 4), [([0], [0]), ([1], [1, 3])]),
        ((6, 4), (4, 6), [([0, 1], [0, 1])]),
        ((1, 5), (5,), [([1], [0])]),
        ((0, 3), (3, 0), None),
    ],
)
def test_shapes_refined(source: tuple[int, ...], target: tuple[int, ...], expected: object) -> None:
    assert blocks(source, target) == expected


def test_sets_are_those_of_a_plain_union_find() -> None:
    random = np.random.default_rng(0)
    slices = Slices()
    ids = slices.take(300)
    parent = dict.fromkeys(range(301))

    def root(at: int) -> int:
        while (above := parent[at]) is not None:
            at = above
        return at

    for _ in range(4):
        pairs = random.choice(ids, (40, 2))
        slices.join(pairs[:, 0], pairs[:, 1])
        for one, other in pairs.tolist():
            if root(one) != root(other):
                parent[max(root(one), root(other))] = min(root(one), root(other))
        assert slices.labels().tolist() == [root(at) for at in range(301)]
