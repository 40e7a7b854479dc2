"""Attention in the one form that survives quantization: a masked score is replaced, never added to.

transformers' own adds the smallest float to it: an addition that would be rounded on a grid of that width,
and of which the mean over a batch is no number.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

NAME = "replaced_scores"


def _attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_options: Any,
) -> tuple[Tensor, Tensor]:
    """Of (batch, heads, length, size), with fewer heads of keys and values where they share; `attention_mask`
    is true where a score counts. Gives (batch, length, heads, size) and the weights. It drops nothing out.
    """
    shared = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, shared), repeat_kv(value, shared)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = torch.where(attention_mask, scores, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _mask(**arguments: Any) -> Tensor | None:
    """Of booleans, and never left out: what happens to mask nothing in the example is to mask later."""
    return sdpa_mask(**{**arguments, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
