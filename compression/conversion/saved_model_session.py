"""A TensorFlow session with the part of a SavedModel that one signature needs.

TensorFlow's own loader is not used: it runs what it finds (initialisers, functions for saving). Here the
graph is imported without what is not needed; variables are filled by the one function that restores them.
"""

from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from compression.conversion import saved_model_archive, saved_model_operators
from compression.conversion.failures import failed
from compression.conversion.original import Argument
from compression.conversion.saved_model_graph import Plan

v1 = tf.compat.v1
_SETTINGS = ("config", "config_proto", "executor_type", "_class", "_XlaMustCompile", "_output_shapes")
"""Attributes that tell TensorFlow how to run, not what."""
_LOOPS = frozenset({"If", "StatelessIf", "While", "StatelessWhile"})
_KNOWN = saved_model_operators.COMPUTING | saved_model_operators.RESTORING


class Running(NamedTuple):
    session: Any
    inputs: Mapping[str, str]
    """Name of the tensor in the graph by the input's name in the signature."""
    outputs: Mapping[str, str]
    arguments: tuple[Argument, ...]

    @classmethod
    def of(cls, folder: Path, plan: Plan) -> "Running":
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
            session = v1.Session(config=_one_thread())
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
    needed = v1.graph_util.extract_sub_graph(graph, nodes)
    functions = needed.library.function
    called = [function for function in functions if function.signature.name in plan.functions]
    del functions[:]
    functions.extend(called)
    for function in functions:
        for name in ("api_implements", "_noinline"):  # they would keep a call from being put in place
            function.attr.pop(name, None)
    bodies = [node for function in functions for node in function.node_def]
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
    return v1.ConfigProto(
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
