"""TensorFlow SavedModels: the part that one signature needs, frozen and written as ONNX by tf2onnx.

TensorFlow's own loader is not used: it runs what it finds (initialisers, functions for saving). Here the
graph is imported without what is not needed; variables are filled by the one function that restores them.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf2onnx  # type: ignore[import-not-found,import-untyped,unused-ignore]
from tensorflow.core.protobuf import rewriter_config_pb2, saved_model_pb2
from tensorflow.python.grappler import tf_optimizer
from torch import Tensor, nn

from compression.conversion import saved_model_archive, saved_model_graph, saved_model_operators
from compression.conversion.agreement import compare
from compression.conversion.failures import converting, failed
from compression.conversion.layout import channels_first
from compression.conversion.original import Argument, Original, axes, sample
from compression.conversion.saved_model_graph import Plan
from compression.engine.convert import to_numpy, to_torch
from compression.quiet import quiet
from compression.validation import onnx_model

_v1 = tf.compat.v1
_OPSET = 18
"""The newest that tf2onnx writes."""
_SETTINGS = ("config", "config_proto", "executor_type", "_class", "_XlaMustCompile", "_output_shapes")
"""Attributes that tell TensorFlow how to run, not what."""
_LOOPS = frozenset({"If", "StatelessIf", "While", "StatelessWhile"})
_KNOWN = saved_model_operators.COMPUTING | saved_model_operators.RESTORING
_BATCHES, _SIZE = (2, 3), 9
_BYTE = 1 << 8
"""Where no table of embeddings bounds integers, those of a byte."""


def load(path: Path, names: Sequence[str], into: Path, scratch: Path) -> Mapping[str, Any]:
    """`names` are the members' of the archive. Errors: CompressionError."""
    folder = saved_model_archive.unpack(path, names, scratch / "saved_model")
    plan = saved_model_graph.check(folder / saved_model_archive.GRAPH)
    exported = scratch / "exported.onnx"
    with converting("reading it in TensorFlow"), quiet():
        running = _Running.of(folder, plan)
    with converting("TensorFlow -> ONNX"), quiet():
        below = _export(running, exported)
        channels_first(exported)
    onnx_model.normalise(exported, into, folder=scratch)
    exported.unlink()
    version = str(tf.__version__)
    arguments = tuple(replace(argument, below=below) for argument in running.arguments)
    model = Original("tensorflow", version, _Module(running), arguments, tuple(running.outputs))
    return {"conversion": compare(model, into)}


class _Running(NamedTuple):
    session: Any
    inputs: Mapping[str, str]
    """Name of the tensor in the graph by the input's name in the signature."""
    outputs: Mapping[str, str]
    arguments: tuple[Argument, ...]

    @classmethod
    def of(cls, folder: Path, plan: Plan) -> "_Running":
        """A session with the graph of the signature, its variables filled."""
        found = saved_model_pb2.SavedModel.FromString((folder / saved_model_archive.GRAPH).read_bytes())
        graph = found.meta_graphs[plan.graph]
        signature = graph.signature_def[plan.signature]
        wanted = {name: signature.outputs[name].name for name in sorted(signature.outputs)}
        restore = graph.saver_def.restore_op_name
        nodes = [name.partition(":")[0] for name in wanted.values()]
        definition = _needed(graph.graph_def, [*nodes, *([restore] if restore else [])], plan)
        with tf.Graph().as_default() as whole:
            tf.import_graph_def(definition, name="")
            outputs = {
                name: tf.identity(whole.get_tensor_by_name(tensor), name=f"pare_output_{index}").name
                for index, (name, tensor) in enumerate(wanted.items())
            }
            _read_variables(whole)
            session = _v1.Session(config=_one_thread())
            if restore:
                with chdir(folder):  # as another user it sees no directory above
                    session.run(restore, {graph.saver_def.filename_tensor_name: "variables/variables"})
        inputs = {name: signature.inputs[name].name for name in sorted(signature.inputs)}
        arguments = tuple(_argument(name, signature.inputs[name]) for name in inputs)
        return cls(session, inputs, outputs, arguments)

    def run(self, values: Sequence[Any]) -> list[Any]:
        feeds = dict(zip(self.inputs.values(), values, strict=True))
        found: list[Any] = self.session.run(list(self.outputs.values()), feeds)
        return found


def _needed(graph: Any, nodes: list[str], plan: Plan) -> Any:
    """Without functions that are not called; operators are checked again, now as TensorFlow reads them."""
    needed = _v1.graph_util.extract_sub_graph(graph, nodes)
    called = [function for function in needed.library.function if function.signature.name in plan.functions]
    del needed.library.function[:]
    needed.library.function.extend(called)
    for function in needed.library.function:
        for name in ("api_implements", "_noinline"):  # they would keep a call from being put in place
            function.attr.pop(name, None)
    bodies = [node for function in needed.library.function for node in function.node_def]
    every = [*needed.node, *bodies]
    saved_model_operators.check({node.op for node in every} - plan.functions, _KNOWN)
    for node in every:
        node.device = ""
        for name in _SETTINGS:
            node.attr.pop(name, None)
        if node.op in _LOOPS:  # tf2onnx takes them whole, not in pieces
            node.attr["_lower_using_switch_merge"].b = False
    return needed


def _read_variables(graph: Any) -> None:
    """Freezing looks for the value of each variable under this name."""
    known = {operation.name for operation in graph.get_operations()}
    for operation in graph.get_operations():
        name = f"{operation.name}/Read/ReadVariableOp"
        if operation.type == "VarHandleOp" and name not in known:
            dtype = operation.get_attr("dtype")
            tf.raw_ops.ReadVariableOp(resource=operation.outputs[0], dtype=dtype, name=name)


def _one_thread() -> Any:
    return _v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True
    )


def _argument(name: str, info: Any) -> Argument:
    if info.WhichOneof("encoding") != "name" or info.tensor_shape.unknown_rank:
        raise failed(f"input {name!r} is no tensor with a known number of axes")
    dtype = np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype)
    if dtype.kind not in "fiub":
        raise failed(f"input {name!r} is of type {dtype.name}; numbers are read")
    sizes = [dim.size for dim in info.tensor_shape.dim]
    return Argument(name, dtype.name, tuple(_axis(name, at, size) for at, size in enumerate(sizes)))


def _axis(name: str, index: int, size: int) -> int | str:
    if size >= 0:
        return size
    return f"{name}_{index}" if index else "batch"


def _export(running: _Running, path: Path) -> int:
    """Returns what integers have to be below of."""
    inputs, outputs = list(running.inputs.values()), list(running.outputs.values())
    names = [tensor.partition(":")[0] for tensor in outputs]
    needed = _v1.graph_util.extract_sub_graph(running.session.graph.as_graph_def(), names)
    with tf.Graph().as_default():
        inlined = _inlined(needed, [*inputs, *outputs])
    frozen = _v1.graph_util.convert_variables_to_constants(running.session, inlined, names)
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
    config = _v1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.append("function")
    options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    tf.import_graph_def(graph, name="")
    whole = _v1.train.export_meta_graph(graph_def=graph)
    whole.collection_def["train_op"].node_list.value.extend(kept)
    return tf_optimizer.OptimizeGraph(config, whole)


def _batched(running: _Running, below: int) -> frozenset[str]:
    """Outputs as long as the batch: told by two of them."""
    arguments = [replace(argument, below=below) for argument in running.arguments]
    found = frozenset(running.outputs)
    for batch in _BATCHES:
        sizes = dict.fromkeys(axes(arguments), _SIZE) | {"batch": batch}
        made = running.run(list(sample(arguments, sizes, np.random.default_rng(0)).values()))
        lengths = zip(running.outputs, made, strict=True)
        found &= {name for name, array in lengths if array.ndim and len(array) == batch}
    return found


def _name_axes(graph: Any, running: _Running, batched: frozenset[str]) -> None:
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


class _Module(nn.Module):
    def __init__(self, running: _Running) -> None:
        super().__init__()
        self.running = running

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(to_torch(array) for array in self.running.run([to_numpy(one) for one in tensors]))
