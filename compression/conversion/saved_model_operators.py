"""TensorFlow operators that may run: functions of numbers. What reads or writes files, calls Python or keeps
state is refused by its name.
"""

from collections.abc import Iterable

from compression.errors import CompressionError, Suggestion

_ARITHMETIC = """
Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh BatchMatMul BatchMatMulV2 BatchMatMulV3 Cast Ceil
ClipByValue Cos Cosh Cross Cumprod Cumsum Div DivNoNan Einsum Elu Erf Erfc Exp Expm1 Floor FloorDiv FloorMod
Gelu LeakyRelu Log Log1p LogSoftmax MatMul Maximum Minimum Mod Mul MulNoNan Neg OnesLike Pow RealDiv
Reciprocal Relu Relu6 Rint Round Rsqrt Selu Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Square
SquaredDifference Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlogy ZerosLike
"""
_COMPARISON = """
All Any ApproximateEqual Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual LogicalAnd
LogicalNot LogicalOr NotEqual Select SelectV2 Where
"""
_REDUCTION = """
ArgMax ArgMin EuclideanNorm Max Mean Min Prod SegmentSum Sum TopK TopKV2 UnsortedSegmentSum
"""
_SHAPE = """
BatchToSpace BatchToSpaceND BroadcastArgs BroadcastTo Concat ConcatV2 DepthToSpace DynamicStitch EnsureShape
ExpandDims Fill Gather GatherNd GatherV2 Identity IdentityN InvertPermutation LinSpace MatrixBandPart
MatrixDiag MatrixDiagPart MatrixDiagV3 MirrorPad OneHot Pack Pad PadV2 Range Rank Reshape Reverse
ReverseSequence ReverseV2 Roll ScatterNd Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth
Split SplitV Squeeze StopGradient StridedSlice TensorScatterUpdate Tile Transpose Unpack
"""
_NETWORK = """
AvgPool AvgPool3D BiasAdd BiasAddV1 Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2
DepthwiseConv2dNative FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel
FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 L2Loss LRN MaxPool MaxPool3D MaxPoolV2 ResizeBicubic
ResizeBilinear ResizeNearestNeighbor
"""
_CONTROL = """
Const If NoOp PartitionedCall Placeholder PlaceholderWithDefault PreventGradient ReadVariableOp
ResourceGather Snapshot StatefulPartitionedCall StatelessIf StatelessWhile TensorListFromTensor
TensorListGetItem TensorListLength TensorListReserve TensorListSetItem TensorListStack VarHandleOp While
"""
_LISTS = (_ARITHMETIC, _COMPARISON, _REDUCTION, _SHAPE, _NETWORK, _CONTROL)
COMPUTING = frozenset(name for names in _LISTS for name in names.split())
RESTORING = frozenset(
    {
        *("AssignVariableOp", "Const", "Identity", "NoOp", "Placeholder", "PlaceholderWithDefault"),
        *("RestoreV2", "StatefulPartitionedCall", "VarHandleOp"),
    }
)
"""What fills the variables from `variables/`."""
_WAY_OUT = (
    "keep reading, decoding and text out of the model that is saved, or convert it to ONNX with tf2onnx"
)


def check(names: Iterable[str], allowed: frozenset[str]) -> None:
    """Errors: CompressionError `op_refused`."""
    for name in names:
        if name not in allowed:
            raise CompressionError(
                "op_refused",
                f"operator {name[:80]!r} of the SavedModel is none of those that are read",
                suggestions=(Suggestion(_WAY_OUT),),
            )
