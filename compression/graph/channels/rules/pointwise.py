"""Element by element, with broadcasting."""

import onnx

from compression.graph.channels.tracer import Tracer, rule

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Cos", "Cosh", "Elu",
    "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu",
    "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
    "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
NARY = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min",
    "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor", "Clip", "Expand",
)  # fmt: skip


@rule(*UNARY)
def _unary(trace: Tracer, node: onnx.NodeProto) -> None:
    trace.same(node.input[0], node.output[0])


@rule("Dropout")
def _dropout(trace: Tracer, node: onnx.NodeProto) -> None:
    for name in filter(None, node.output):
        trace.same(node.input[0], name)


@rule(*NARY)
def _nary(trace: Tracer, node: onnx.NodeProto) -> None:
    operands = node.input[:1] if node.op_type in {"Clip", "Expand"} else node.input
    trace.broadcast([name for name in operands if name], node.output[0])
