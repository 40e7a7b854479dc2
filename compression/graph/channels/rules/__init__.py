"""Rules by family of operators; importing them fills the table."""

from compression.graph.channels.rules import (
    attention,
    convolution,
    layout,
    normalization,
    pointwise,
    product,
    selection,
)

__all__ = ["attention", "convolution", "layout", "normalization", "pointwise", "product", "selection"]
