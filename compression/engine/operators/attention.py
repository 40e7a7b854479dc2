"""Attention and the rotation of its heads."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from compression.engine.convert import torch_dtype
from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, operator


@dataclass(frozen=True)
class _Cache:
    """Where the queries stand among the keys."""

    past: int
    valid: Tensor | None
    """Keys that are no padding, per batch element."""

    def offset(self, queries: int) -> Tensor | int:
        if self.valid is None or self.past:
            return self.past
        return (self.valid.reshape(-1) - queries).reshape(-1, 1, 1, 1)


@operator("Attention")
def attention(node: Node) -> Kernel:
    """Inputs [batch, heads, sequence, size] or [batch, sequence, heads * size]; grouped heads share keys."""
    query_heads, key_heads = node.integer("q_num_heads"), node.integer("kv_num_heads")

    def kernel(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        *cached: Tensor | None,
    ) -> Any:
        past_key, past_value, valid = (*cached, None, None, None)[:3]
        flat = query.dim() == 3
        if flat:
            query = _heads(query, query_heads)
            key, value = _heads(key, key_heads), _heads(value, key_heads)
        if past_key is not None and past_value is not None:
            key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
        cache = _Cache(0 if past_key is None else past_key.shape[2], valid)
        bias = _bias(node, (query, key), mask, cache)
        y, scores = _attend(node, (query, key, value), bias)
        return y.transpose(1, 2).flatten(2) if flat else y, key, value, scores

    return kernel


def _heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(*x.shape[:-1], count, -1).transpose(1, 2)


def _bias(node: Node, operands: tuple[Tensor, Tensor], mask: Tensor | None, cache: _Cache) -> Tensor | None:
    """What is added to the scores: the mask, and -inf where a query may not look. None if it may look
    everywhere.
    """
    query, key = operands
    bias = None if mask is None else _additive(mask, key.shape[2], query.dtype)
    allowed = _allowed(node, query, key, cache)
    if allowed is None:
        return bias
    blocked = torch.zeros(allowed.shape, dtype=query.dtype, device=query.device).masked_fill(
        ~allowed, -torch.inf
    )
    return blocked if bias is None else bias + blocked


def _additive(mask: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    missing = keys - mask.shape[-1]
    return torch.nn.functional.pad(mask, [0, missing], value=-torch.inf) if missing > 0 else mask


def _allowed(node: Node, query: Tensor, key: Tensor, cache: _Cache) -> Tensor | None:
    queries, keys = query.shape[2], key.shape[2]
    left, right = node.integer("left_window_size", -1), node.integer("right_window_size", -1)
    columns = torch.arange(keys, device=query.device)
    places = torch.arange(queries, device=query.device)[:, None] + cache.offset(queries)
    rules: list[Tensor] = []
    if node.flag("is_causal"):
        rules.append(columns <= places)
    if left >= 0:
        rules.append(places - columns <= left)
    if right >= 0:
        rules.append(columns - places <= right)
    if cache.valid is not None:
        rules.append(columns < cache.valid.reshape(-1, 1, 1, 1))
    return reduce(torch.logical_and, rules) if rules else None


def _attend(
    node: Node, operands: tuple[Tensor, Tensor, Tensor], bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The result, and the scores at the stage `qk_matmul_output_mode` asks for. A query that may look nowhere
    gets 0.
    """
    query, key, value = operands
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    root = float(node.attributes.get("scale", query.shape[-1] ** -0.5)) ** 0.5
    stages = [(query * root) @ (key * root).transpose(-1, -2)]
    softcap = node.number("softcap")
    stages.append(softcap * torch.tanh(stages[0] / softcap) if softcap > 0 else stages[0])
    stages.append(stages[1] if bias is None else stages[1] + bias)
    scores = stages[2]
    if "softmax_precision" in node.attributes:
        scores = scores.to(torch_dtype(node.integer("softmax_precision")))
    weights = torch.softmax(scores, -1).to(query.dtype)
    if bias is not None:
        weights = weights.masked_fill(bias.amax(-1, keepdim=True) == -torch.inf, 0)
    stages.append(weights)
    return weights @ value, stages[node.integer("qk_matmul_output_mode")].to(query.dtype)


@operator("RotaryEmbedding")
def rotary_embedding(node: Node) -> Kernel:
    interleaved, heads = node.flag("interleaved"), node.integer("num_heads")

    def kernel(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
        flat = x.dim() == 3
        y = x.reshape(*x.shape[:-1], heads, -1) if flat else x.transpose(1, 2)
        rotated = node.integer("rotary_embedding_dim") or y.shape[-1]
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
        turned, rest = y[..., :rotated], y[..., rotated:]
        a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
        parts = (cos * a - sin * b, sin * a + cos * b)
        turned = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
        y = torch.cat([turned, rest], -1)
        return y.flatten(2) if flat else y.transpose(1, 2)

    return kernel
