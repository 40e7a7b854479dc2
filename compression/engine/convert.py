"""Tensors between ONNX, numpy and torch, bit for bit. Types narrower than a byte are held in the next wider
one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.BOOL: torch.bool,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT8E4M3FN: torch.float8_e4m3fn,
    TensorProto.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    TensorProto.FLOAT8E5M2: torch.float8_e5m2,
    TensorProto.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    TensorProto.FLOAT8E8M0: torch.float8_e8m0fnu,
}

NARROW: dict[int, torch.dtype] = {
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT2: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.FLOAT4E2M1: torch.float32,
}
"""Types torch has no tensors of: their values live in these."""

FLOAT8 = (
    torch.float8_e4m3fn,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2,
    torch.float8_e5m2fnuz,
    torch.float8_e8m0fnu,
)
BITS_OF: dict[torch.dtype, torch.dtype] = {torch.bfloat16: torch.int16, **dict.fromkeys(FLOAT8, torch.uint8)}
NUMPY = {dtype: helper.tensor_dtype_to_np_dtype(kind) for kind, dtype in DTYPES.items() if dtype in BITS_OF}
"""numpy's extension types for what it has not itself."""
TORCH = {dtype: kind for kind, dtype in NUMPY.items()}
HOLDERS: dict[str, type[np.generic]] = {
    "uint4": np.uint8,
    "int4": np.int8,
    "uint2": np.uint8,
    "int2": np.int8,
    "float4_e2m1fn": np.float32,
}


def torch_dtype(onnx_type: int) -> torch.dtype:
    """The type of the torch tensor that holds values of this ONNX element type."""
    return DTYPES.get(onnx_type) or NARROW[onnx_type]


def to_torch(array: npt.NDArray[Any]) -> Tensor:
    """A tensor of its own memory."""
    name = array.dtype.name
    if array.dtype in TORCH:
        dtype = TORCH[array.dtype]
        bits = np.int16 if dtype == torch.bfloat16 else np.uint8
        return torch.from_numpy(array.copy().view(bits)).view(dtype)
    if name in HOLDERS:
        array = array.astype(HOLDERS[name])
    return torch.from_numpy(np.array(array, order="C"))


def to_numpy(tensor: Tensor) -> npt.NDArray[Any]:
    """Contiguous whatever the memory format; bfloat16 and float8 as extension types."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype not in BITS_OF:
        array: npt.NDArray[Any] = tensor.numpy()
        return array
    return tensor.view(BITS_OF[tensor.dtype]).numpy().view(NUMPY[tensor.dtype])


def from_proto(tensor: TensorProto) -> Tensor:
    return to_torch(numpy_helper.to_array(tensor))


def assign(tensor: TensorProto, value: Tensor) -> None:
    """Set a stored tensor's values in the encoding it has (`float_data` or raw); untouched if they are the
    same bits.
    """
    before = numpy_helper.to_array(tensor)
    after = to_numpy(value).astype(before.dtype, copy=False)
    if before.tobytes() == after.tobytes():
        return
    if tensor.float_data:
        tensor.float_data[:] = after.ravel().tolist()
        return
    tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))
