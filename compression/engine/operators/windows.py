"""Sliding windows: kernel, strides, dilations and pads of convolutions and pools, made explicit for an
input's size.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node


@dataclass(frozen=True)
class Windows:
    """`pads` are (before, after) per spatial axis; `overhang` is what ceil_mode needs beyond them."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[tuple[int, int]]
    overhang: list[int]

    @property
    def symmetric(self) -> bool:
        return not any(self.overhang) and all(before == after for before, after in self.pads)

    @property
    def unpadded(self) -> bool:
        return not any(self.overhang) and not any(map(any, self.pads))

    @property
    def half_padding(self) -> list[int]:
        """The one number per axis that torch takes, of symmetric pads."""
        return [before for before, _ in self.pads]

    def pad(self, x: Tensor, value: float = 0, *, overhang: bool = True) -> Tensor:
        extra = self.overhang if overhang else [0] * len(self.overhang)
        pairs = [(before, after + more) for (before, after), more in zip(self.pads, extra, strict=True)]
        return functional.pad(x, flat_pads(pairs), value=value)


def flat_pads(pairs: list[tuple[int, int]]) -> list[int]:
    """torch's order: last axis first."""
    return [amount for pair in reversed(pairs) for amount in pair]


def windows(node: Node, kernel: list[int], sizes: list[int]) -> Windows:
    """`sizes` are the spatial sizes of the input."""
    rank = len(kernel)
    strides, dilations = node.ints("strides") or [1] * rank, node.ints("dilations") or [1] * rank
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, kernel, strict=True)]
    mode, given = node.text("auto_pad", "NOTSET"), node.ints("pads") or [0] * (2 * rank)
    pads = list(zip(given[:rank], given[rank:], strict=True))
    if mode == "VALID":
        pads = [(0, 0)] * rank
    elif mode.startswith("SAME"):
        surplus = [(-(-n // s) - 1) * s + r - n for n, s, r in zip(sizes, strides, reach, strict=True)]
        pads = [halves(total if node.op_type in _POOLS else max(total, 0), mode) for total in surplus]
    overhang = [0] * rank
    if node.flag("ceil_mode"):
        overhang = [_overhang(*axis) for axis in zip(sizes, strides, reach, pads, strict=True)]
    return Windows(kernel, strides, dilations, pads, overhang)


_POOLS = {"MaxPool", "AveragePool", "LpPool"}
"""Where windows lie further apart than they are long, SAME pools cut the input, as in ONNX Runtime."""


def halves(total: int, mode: str) -> tuple[int, int]:
    """Pads before and after; the odd one goes to the end for SAME_UPPER."""
    before = int((total if mode == "SAME_UPPER" else total + 1) / 2)
    return before, total - before


def _overhang(size: int, stride: int, reach: int, pads: tuple[int, int]) -> int:
    """A last window that is cut short counts, unless it would start in the padding at the end."""
    padded = size + sum(pads)
    count = -(-(padded - reach) // stride) + 1
    if (count - 1) * stride >= size + pads[0]:
        count -= 1
    return max((count - 1) * stride + reach - padded, 0)
