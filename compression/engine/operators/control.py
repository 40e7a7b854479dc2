"""Control flow and sequences."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from compression.engine.graph import Node, Value
from compression.engine.operators.table import Context, Kernel, Subgraph, ints, operator, unsupported


def _subgraph(node: Node, name: str) -> Subgraph:
    return cast("Subgraph", node.attributes[name])


@operator("If", contextual=True)
def if_(node: Node) -> Kernel:
    branches = _subgraph(node, "else_branch"), _subgraph(node, "then_branch")

    def kernel(context: Context, condition: Tensor, *captured: Value) -> tuple[Value, ...]:
        return tuple(branches[bool(condition.item())](context, (), captured))

    return kernel


@operator("Loop", contextual=True)
def loop(node: Node) -> Kernel:
    body, carried = _subgraph(node, "body"), len(node.inputs) - 2

    def kernel(
        context: Context, most: Tensor | None, condition: Tensor | None, *rest: Value
    ) -> tuple[Value, ...]:
        state, captured = list(rest[:carried]), rest[carried:]
        limit = torch.iinfo(torch.int64).max if most is None else int(most.item())
        going, step, scans = condition is None or bool(condition.item()), 0, list[list[Value]]()
        while going and step < limit:
            inputs = (torch.tensor(step), torch.tensor(True), *state)
            flag, *results = body(context, inputs, captured)
            state, going, step = results[:carried], bool(flag.item()), step + 1
            scans.append(results[carried:])
        count = len(node.outputs) - carried
        return (*state, *_stacked(scans, count))

    return kernel


def _stacked(scans: Sequence[Sequence[Value]], count: int) -> list[Tensor]:
    if not scans:
        return [torch.empty(0)] * count
    return [torch.stack(list(column)) for column in zip(*scans, strict=True)]


@operator("Scan", contextual=True)
def scan(node: Node) -> Kernel:
    if node.opset < 9:
        raise unsupported(node, "Scan before opset 9")
    body, inputs = _subgraph(node, "body"), node.integer("num_scan_inputs")
    carried = len(node.inputs) - inputs
    outputs = len(node.outputs) - carried
    in_axes, out_axes = (
        node.ints("scan_input_axes") or [0] * inputs,
        node.ints("scan_output_axes") or [0] * outputs,
    )
    in_back, out_back = node.ints("scan_input_directions"), node.ints("scan_output_directions")

    def kernel(context: Context, *values: Value) -> tuple[Value, ...]:
        state, captured = list(values[:carried]), values[carried + inputs :]
        columns = [
            x.unbind(axis) for x, axis in zip(values[carried : carried + inputs], in_axes, strict=True)
        ]
        columns = [c[::-1] if in_back and in_back[n] else c for n, c in enumerate(columns)]
        scans = []
        for row in zip(*columns, strict=True):
            results = body(context, (*state, *row), captured)
            state = results[:carried]
            scans.append(results[carried:])
        made = [list(column) for column in zip(*scans, strict=True)]
        made = [m[::-1] if out_back and out_back[n] else m for n, m in enumerate(made)]
        return (*state, *(torch.stack(m, axis) for m, axis in zip(made, out_axes, strict=True)))

    return kernel


@operator("SequenceConstruct")
def sequence_construct(_node: Node) -> Kernel:
    return lambda *tensors: list(tensors)


@operator("SequenceEmpty")
def sequence_empty(_node: Node) -> Kernel:
    return list


@operator("SequenceAt", host=(1,))
def sequence_at(_node: Node) -> Kernel:
    return lambda sequence, position: sequence[int(position.item())]


@operator("SequenceLength")
def sequence_length(_node: Node) -> Kernel:
    return lambda sequence: torch.tensor(len(sequence))


@operator("SequenceInsert", host=(2,))
def sequence_insert(_node: Node) -> Kernel:
    def kernel(sequence: list[Tensor], tensor: Tensor, position: Tensor | None = None) -> list[Tensor]:
        result = list(sequence)
        result.insert(len(result) if position is None else int(position.item()), tensor)
        return result

    return kernel


@operator("SequenceErase", host=(1,))
def sequence_erase(_node: Node) -> Kernel:
    def kernel(sequence: list[Tensor], position: Tensor | None = None) -> list[Tensor]:
        index = (-1 if position is None else int(position.item())) % len(sequence)
        return [*sequence[:index], *sequence[index + 1 :]]

    return kernel


@operator("SplitToSequence", host=(1,))
def split_to_sequence(node: Node) -> Kernel:
    axis, keepdims = node.integer("axis"), node.flag("keepdims", 1)

    def kernel(x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        if sizes is None:
            return [part if keepdims else part.squeeze(axis) for part in torch.split(x, 1, axis)]
        return list(torch.split(x, ints(sizes) if sizes.dim() else int(sizes.item()), axis))

    return kernel


@operator("ConcatFromSequence")
def concat_from_sequence(node: Node) -> Kernel:
    axis, new = node.integer("axis"), node.flag("new_axis")

    def kernel(sequence: list[Tensor]) -> Any:
        return torch.stack(sequence, axis) if new else torch.cat(sequence, axis)

    return kernel
