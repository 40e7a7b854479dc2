"""Operators that an exported program may call: functions of tensors and numbers, and nothing that reaches a
file, a device or memory of its own choosing (`aten.from_file`, `aten.set_`, an operator of somebody's own).
"""

import re

from compression.errors import CompressionError, Suggestion

_ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z]\w*|_\w+)\.[A-Za-z]\w*", re.ASCII)
_WAY_OUT = "build the model of PyTorch's own operators, or export it to ONNX and upload that"

_OF_NUMBERS = "add sub mul floordiv truediv mod pow neg pos eq ne lt le gt ge and_ or_ getitem"
_OF_SIZES = "int float not max min ite sqrt"
_WRAPPERS = frozenset({"torch.ops.higher_order.wrap_with_set_grad_enabled"})
"""A graph in a graph: `with torch.no_grad()` inside of a model."""

_ARITHMETIC = """
abs absolute add addbmm addcdiv addcmul addmm addmv addr arctan2 atan2 baddbmm bilinear bmm cdist ceil clamp
clamp_max clamp_min clip copysign cross cumprod cumsum deg2rad dist div divide dot einsum exp exp2 expm1 fix
float_power floor floor_divide fmax fmin fmod frac heaviside hypot inner kron ldexp lerp linalg_cross
linalg_det linalg_inv linalg_matmul linalg_matrix_norm linalg_norm linalg_vecdot linalg_vector_norm linear
log log10 log1p log2 logaddexp logaddexp2 logcumsumexp logit logsumexp matmul maximum minimum mm mul
multiply mv nan_to_num neg negative norm outer positive pow rad2deg reciprocal remainder round rsqrt rsub
sgn sign special_erf special_expit special_log1p special_logit special_xlogy sqrt square sub subtract
true_divide trunc xlogy
"""
_TRIGONOMETRY = """
acos acosh arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh cos cosh digamma erf erfc
erfinv lgamma sin sinc sinh tan tanh
"""
_COMPARISON = """
all allclose any bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor eq
equal ge greater greater_equal gt isclose isfinite isin isinf isnan isneginf isposinf le less less_equal
logical_and logical_not logical_or logical_xor lt ne not_equal signbit where
"""
_REDUCTION = """
amax amin aminmax argmax argmin argsort count_nonzero cummax cummin kthvalue max mean median min mode
nanmean nansum prod sort std std_mean sum topk var var_mean
"""
_SHAPE = """
adjoint alias as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to bucketize cat chunk
clone column_stack concat concatenate constant_pad_nd contiguous copy detach diag diag_embed diagonal
diagonal_scatter diff dim dsplit dstack expand expand_as expand_copy fill flatten flip fliplr flipud gather
hsplit hstack index index_add index_copy index_fill index_put index_select is_floating_point item lift
lift_fresh lift_fresh_copy mH mT masked_fill masked_scatter masked_select meshgrid moveaxis movedim narrow
nonzero numel numpy_T one_hot pad permute permute_copy ravel repeat repeat_interleave reshape reshape_as
roll rot90 scatter scatter_add scatter_reduce searchsorted select select_scatter size slice slice_scatter
split split_with_sizes squeeze stack swapaxes swapdims sym_numel sym_size sym_stride t take take_along_dim
tensor_split tile transpose tril triu unbind unflatten unfold unsafe_chunk unsafe_split
unsafe_split_with_sizes unsqueeze view view_as view_copy vsplit vstack zero
"""
_CREATION = """
arange empty empty_like empty_permuted empty_strided eye full full_like hamming_window hann_window linspace
logspace new_empty new_empty_strided new_full new_ones new_zeros ones ones_like scalar_tensor to
tril_indices triu_indices type_as zeros zeros_like
"""
_NETWORK = """
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm celu
channel_shuffle col2im conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
cosine_similarity dropout elu embedding embedding_bag fake_quantize_per_channel_affine
fake_quantize_per_tensor_affine feature_dropout gelu glu grid_sampler grid_sampler_2d group_norm gru
gru_cell hardshrink hardsigmoid hardswish hardtanh im2col instance_norm layer_norm leaky_relu log_sigmoid
log_softmax lstm lstm_cell max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
max_pool3d_with_indices mish native_batch_norm native_dropout native_group_norm native_layer_norm
pairwise_distance pixel_shuffle pixel_unshuffle prelu reflection_pad1d reflection_pad2d reflection_pad3d
relu relu6 replication_pad1d replication_pad2d replication_pad3d rms_norm rnn_relu rnn_tanh rrelu
scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softshrink softsign tanhshrink
threshold upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_trilinear3d
"""
_PRIVATE = """
__and__ __or__ __xor__ _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar
_assert_tensor_metadata _conv_depthwise2d _convolution _fused_rms_norm _local_scalar_dense _log_softmax
_native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
_prelu_kernel _reshape_alias _safe_softmax _scaled_dot_product_attention_math
_scaled_dot_product_flash_attention_for_cpu _softmax _to_copy _unsafe_index _unsafe_index_put _unsafe_view
_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
_upsample_nearest_exact3d _weight_norm _weight_norm_interface sym_constrain_range
sym_constrain_range_for_size
"""
_LISTS = (_ARITHMETIC, _TRIGONOMETRY, _COMPARISON, _REDUCTION, _SHAPE, _CREATION, _NETWORK, _PRIVATE)
ATEN = frozenset(name for names in _LISTS for name in names.split())
_OTHERS = _WRAPPERS.union(
    [f"_operator.{name}" for name in _OF_NUMBERS.split()], [f"torch.sym_{name}" for name in _OF_SIZES.split()]
)


def checked(target: str) -> str:
    """Errors: CompressionError `op_refused`."""
    found = _ATEN.fullmatch(target)
    if target in _OTHERS or (found and found[1] in ATEN):
        return target
    if found and found[1].removesuffix("_") in ATEN:  # add_ does to its input what add does
        return target
    raise refused(f"operator {target[:120]!r} is none of those that are read")


def refused(why: str) -> CompressionError:
    return CompressionError("op_refused", why, suggestions=(Suggestion(_WAY_OUT),))
