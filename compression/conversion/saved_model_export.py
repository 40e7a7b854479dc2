"""What a TensorFlow session computes, frozen and written as ONNX by tf2onnx."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf2onnx  # type: ignore[import-not-found,import-untyped,unused-ignore]
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.grappler import tf_optimizer

from compression.conversion.original import axes, sample
from compression.conversion.saved_model_session import Running, v1

_OPSET = 18
"""The newest that tf2onnx writes."""
_BATCHES, _SIZE = (2, 3), 9
_BYTE = 1 << 8
"""Where no table of embeddings bounds integers, those of a byte."""


def export(running: Running, path: Path) -> int:
    """Returns what integers have to be below of."""
    inputs, outputs = list(running.inputs.values()), list(running.outputs.values())
    names = [tensor.partition(":")[0] for tensor in outputs]
    needed = v1.graph_util.extract_sub_graph(running.session.graph.as_graph_def(), names)
    with tf.Graph().as_default():
        inlined = _inlined(needed, [*inputs, *outputs])
    frozen = v1.graph_util.convert_variables_to_constants(running.session, inlined, names)
    with tf.Graph().as_default():
        tf.import_graph_def(frozen, name="")
        simple = tf2onnx.tf_loader.tf_optimize(inputs, outputs, frozen)
    renamed = {tensor: name for given in (running.inputs, running.outputs) for name, tensor in given.items()}
    with tf.Graph().as_default() as whole:
        tf.import_graph_def(simple, name="")
        made = tf2onnx.tfonnx.process_tf_graph(
            whole, opset=_OPSET, input_names=inputs, output_names=outputs, tensors_to_rename=renamed
        )
        model = tf2onnx.optimizer.optimize_graph(made).make_model("saved_model")
    below = _rows(simple)
    _name_axes(model.graph, running, _batched(running, below))
    path.write_bytes(model.SerializeToString())
    return below


def _rows(graph: Any) -> int:
    """The smallest number of rows of any table that rows are taken from."""
    stored = {node.name: node.attr["value"].tensor.tensor_shape for node in graph.node if node.op == "Const"}
    gathers = [node.input[0] for node in graph.node if node.op == "GatherV2" and node.input[0] in stored]
    return min([_BYTE, *(int(stored[table].dim[0].size) for table in gathers if len(stored[table].dim) == 2)])


def _inlined(graph: Any, kept: list[str]) -> Any:
    """Functions in the place of their calls: tf2onnx's own optimisation skips graphs of few nodes."""
    config = v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.append("function")
    options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    tf.import_graph_def(graph, name="")
    whole = v1.train.export_meta_graph(graph_def=graph)
    whole.collection_def["train_op"].node_list.value.extend(kept)
    return tf_optimizer.OptimizeGraph(config, whole)


def _batched(running: Running, below: int) -> frozenset[str]:
    """Outputs as long as the batch: told by two of them."""
    arguments = [replace(argument, below=below) for argument in running.arguments]
    found = frozenset(running.outputs)
    for batch in _BATCHES:
        sizes = dict.fromkeys(axes(arguments), _SIZE) | {"batch": batch}
        made = running.run(list(sample(arguments, sizes, np.random.default_rng(0)).values()))
        lengths = zip(running.outputs, made, strict=True)
        found &= {name for name, array in lengths if array.ndim and len(array) == batch}
    return found


def _name_axes(graph: Any, running: Running, batched: frozenset[str]) -> None:
    """tf2onnx numbers them."""
    shapes = {argument.name: argument.shape for argument in running.arguments}
    for value in graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if isinstance(size, str):
                dim.dim_param = size
    for value in graph.output:
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_param"):
                dim.dim_param = "batch" if index == 0 and value.name in batched else ""
