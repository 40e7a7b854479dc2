"""Fourier transforms. Complex numbers are a last axis of two."""

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, operator


def _complex(x: Tensor) -> Tensor:
    """In double precision: what should be zero is, in single precision."""
    x = x.double()
    return torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1).to(torch.complex128)


@operator("DFT", host=(1, 2))
def dft(node: Node) -> Kernel:
    inverse, onesided, fixed = node.flag("inverse"), node.flag("onesided"), node.integer("axis", 1)

    def kernel(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        dim = (fixed if node.opset < 20 else -2) if axis is None else int(axis.item())
        dim = dim % x.dim()
        count = x.shape[dim] if length is None else int(length.item())
        if inverse and onesided:
            whole: Tensor = torch.fft.irfft(_complex(x), count if length is not None else None, dim)
            return torch.unsqueeze(whole, -1).to(x.dtype)
        y = torch.fft.ifft(_complex(x), count, dim) if inverse else torch.fft.fft(_complex(x), count, dim)
        return torch.view_as_real(y.narrow(dim, 0, count // 2 + 1) if onesided else y).to(x.dtype)

    return kernel


@operator("STFT", host=(1, 3))
def stft(node: Node) -> Kernel:
    onesided = node.flag("onesided", 1)

    def kernel(
        signal: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None
    ) -> Tensor:
        count = int(length.item()) if length is not None else window.shape[0] if window is not None else 0
        x = signal.squeeze(-1) if signal.shape[-1] == 1 else _complex(signal)
        frames = x.unfold(1, count, int(step.item()))
        if window is not None:
            frames = frames * functional.pad(window, [0, count - window.shape[0]])
        y = torch.fft.rfft(frames) if onesided and not frames.is_complex() else torch.fft.fft(frames)
        return torch.view_as_real(y).to(signal.dtype)

    return kernel
