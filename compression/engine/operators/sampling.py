"""Sampling at given coordinates, and regions of detectors."""

import torch
from torch import Tensor
from torch.nn import functional

from compression.engine.graph import Node
from compression.engine.operators.table import Kernel, ints, operator

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@operator("GridSample")
def grid_sample(node: Node) -> Kernel:
    mode = node.text("mode", "bilinear")
    mode = _MODES.get(mode, mode)
    padding, align = node.text("padding_mode", "zeros"), node.flag("align_corners")
    return lambda x, grid: functional.grid_sample(x, grid, mode, padding, align)


@operator("AffineGrid", host=(1,))
def affine_grid(node: Node) -> Kernel:
    align = node.flag("align_corners")
    return lambda theta, size: functional.affine_grid(theta, ints(size), align)


@operator("RoiAlign")
def roi_align(node: Node) -> Kernel:
    """Mask R-CNN's pooling of regions, arXiv:1703.06870: bilinear samples on a grid in each bin."""
    height, width = node.integer("output_height", 1), node.integer("output_width", 1)
    ratio, scale = node.integer("sampling_ratio"), node.number("spatial_scale", 1.0)
    default = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    shift = 0.5 if node.text("coordinate_transformation_mode", default) == "half_pixel" else 0.0
    largest = node.text("mode", "avg") == "max"

    def one(x: Tensor, roi: Tensor) -> Tensor:
        left, top, right, bottom = (roi * scale - shift).tolist()
        extents = [bottom - top, right - left] if shift else [max(bottom - top, 1.0), max(right - left, 1.0)]
        counts = [ratio or -(-extents[0] // height), ratio or -(-extents[1] // width)]
        rows = _sample_points(top, extents[0] / height, height, int(counts[0])).to(x)
        columns = _sample_points(left, extents[1] / width, width, int(counts[1])).to(x)
        parts = _bilinear_parts(x, rows, columns)
        sampled = torch.stack(parts).amax(0) if largest else sum(parts[1:], parts[0])
        bins = sampled.reshape(x.shape[0], height, int(counts[0]), width, int(counts[1]))
        return bins.amax((2, 4)) if largest else bins.mean((2, 4))

    return lambda x, rois, batch: torch.stack(
        [one(x[int(b)], roi) for b, roi in zip(batch, rois, strict=True)]
    )


def _sample_points(start: float, size: float, bins: int, count: int) -> Tensor:
    return start + (torch.arange(bins * count, dtype=torch.float64) + 0.5) * (size / count)


def _bilinear_parts(x: Tensor, rows: Tensor, columns: Tensor) -> list[Tensor]:
    """The four weighted neighbours of every grid point; 0 where the point is more than one pixel outside."""
    (r0, r1, rw0, rw1), (c0, c1, cw0, cw1) = _neighbours(rows, x.shape[1]), _neighbours(columns, x.shape[2])
    return [
        x[:, r][:, :, c] * (rw[:, None] * cw[None])
        for r, rw in ((r0, rw0), (r1, rw1))
        for c, cw in ((c0, cw0), (c1, cw1))
    ]


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inside = ((at >= -1) & (at <= size)).to(at.dtype)
    at = at.clamp(0, size - 1)
    low = at.floor().to(torch.int64)
    high = (low + 1).clamp(max=size - 1)
    upper = at - low
    return low, high, (1 - upper) * inside, upper * inside


@operator("NonMaxSuppression", host=(2, 3, 4))
def non_max_suppression(node: Node) -> Kernel:
    centred = node.flag("center_point_box")

    def kernel(boxes: Tensor, scores: Tensor, *limits: Tensor | None) -> Tensor:
        most, overlap, least = (
            None if limit is None else limit.item() for limit in (*limits, None, None, None)[:3]
        )
        corners = _corners(boxes, centred)
        chosen = [
            [batch, label, index]
            for batch in range(scores.shape[0])
            for label in range(scores.shape[1])
            for index in _greedy(corners[batch], scores[batch, label], overlap or 0.0, least)[
                : int(most or 0)
            ]
        ]
        return torch.tensor(chosen, dtype=torch.int64).reshape(-1, 3)

    return kernel


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    if centred:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat([middle - half, middle + half], -1)
    a, b = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], -1)


def _greedy(boxes: Tensor, scores: Tensor, overlap: float, least: float | None) -> list[int]:
    order = scores.argsort(descending=True, stable=True)
    if least is not None:
        order = order[scores[order] > least]
    kept: list[int] = []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[_iou(boxes[best], boxes[order]) <= overlap]
    return kept


def _iou(box: Tensor, others: Tensor) -> Tensor:
    low, high = torch.maximum(box[:2], others[:, :2]), torch.minimum(box[2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = (others[:, 2:] - others[:, :2]).prod(-1) + (box[2:] - box[:2]).prod(-1)
    return common / (areas - common)
