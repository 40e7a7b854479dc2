"""A matrix rounded as the options say."""

import numpy as np
import numpy.typing as npt

from compression.kernels import blocks
from compression.kernels.activation_scaling import output_error
from compression.kernels.blocks import Blocks
from compression.weight_only.matrices import Matrix, padded
from compression.weight_only.options import Options

Doubles = npt.NDArray[np.float64]


def rounded(matrix: Matrix, moment: Doubles | None, options: Options, bits: int) -> Blocks:
    """`moment`: second moments of what it reads, [inputs, inputs]; of methods that look at it."""
    block = options.block_size
    weight = padded(matrix.weight, block)
    match options.method:
        case "rtn":
            return blocks.nearest(weight, bits, block)
        case "hqq":
            return blocks.half_quadratic(weight, bits, block)
        case "awq":
            return blocks.nearest(weight, bits, block, np.diag(_known(moment, weight)))
        case "gptq":
            return blocks.second_order(weight, _known(moment, weight), bits, block)


def _known(moment: Doubles | None, weight: npt.NDArray[np.float32]) -> Doubles:
    assert moment is not None  # noqa: S101  of every source
    return np.pad(moment, (0, weight.shape[1] - len(moment)))


def weight_error(matrix: Matrix, found: Blocks) -> float:
    """Squared, over the sum of squares."""
    weight = matrix.weight
    difference = found.restored[:, : weight.shape[1]] - weight
    return float(np.square(difference).sum() / max(float(np.square(weight).sum()), 1e-30))


def noise(matrix: Matrix, found: Blocks, moment: Doubles | None) -> float:
    """Of the outputs, over their power; of the weights, where nothing is known of the inputs."""
    return weight_error(matrix, found) if moment is None else _share(matrix, found, moment)


def _share(matrix: Matrix, found: Blocks, moment: Doubles) -> float:
    weight = matrix.weight
    restored = found.restored[:, : weight.shape[1]]
    power = output_error(weight, moment, np.zeros_like(weight))
    return output_error(weight, moment, restored) / max(power, 1e-30)
