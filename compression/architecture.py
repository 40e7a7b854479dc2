"""Architecture: the kind of network that a model is, told from its operators. What can be gained depends on
it.
"""

from enum import StrEnum

from compression.inspection import DatasetInspection, ModelInspection

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm", "Einsum")
_FUSED_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})
_DEPTHWISE_SHARE = 0.15
"""Of the convolutions: a third of MobileNetV2's, a fifth of those of networks with squeeze-and-excitation."""
_BOUNDED = frozenset({"Clip", "HardSwish", "HardSigmoid"})
_SMALL_MACS = 2_000_000
_SCARCE = 2000


class Architecture(StrEnum):
    CONVOLUTIONAL = "convolutional"
    MOBILE = "mobile"
    """Convolutional, with depthwise layers: little redundancy is left in it."""
    TRANSFORMER = "transformer"
    RECURRENT = "recurrent"
    DENSE = "dense"
    OTHER = "other"
    """No layers with weights that techniques know."""


def architecture(model: ModelInspection) -> Architecture:
    operators = model.operators
    convolutions = sum(operators.get(name, 0) for name in _CONVOLUTIONS)
    products = sum(operators.get(name, 0) for name in _PRODUCTS)
    if _RECURRENT & set(operators):
        return Architecture.RECURRENT
    if _FUSED_ATTENTION & set(operators) or (operators.get("Softmax") and products > max(2, convolutions)):
        return Architecture.TRANSFORMER
    if convolutions:
        mobile = _depthwise(model, convolutions) >= _DEPTHWISE_SHARE * convolutions
        return Architecture.MOBILE if mobile else Architecture.CONVOLUTIONAL
    return Architecture.DENSE if products else Architecture.OTHER


def small(model: ModelInspection) -> bool:
    """Whether a run is mostly the runtime's own overhead, so that fewer multiplications hardly show."""
    return model.macs is not None and model.macs < _SMALL_MACS


def _depthwise(model: ModelInspection, convolutions: int) -> int:
    """As channel pruning counted them; without that, a network full of bounded activations is taken for one
    with them.
    """
    counted = model.abilities.get("channel_pruning", {}).get("depthwise")
    if isinstance(counted, int):
        return counted
    bounded = sum(model.operators.get(name, 0) for name in _BOUNDED)
    return convolutions if 3 * bounded >= convolutions else 0


def scarce(data: DatasetInspection | None) -> bool:
    """Whether there is little to train on: what was cut is then hardly recovered."""
    if data is None:
        return False
    split = "train" if "train" in data.splits else "calibration"
    return data.splits.get(split, 0) < _SCARCE
