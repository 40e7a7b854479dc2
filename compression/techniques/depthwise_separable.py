"""Depthwise-separable rewriting: a kernel for each channel, then a 1 x 1 over all channels."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from compression.rewriting.technique import Rewriting, Sizes

Multiplier = Annotated[int, Field(ge=1, le=16)]


class DepthwiseSeparable(Rewriting):
    """Dense k x k convolutions become depthwise-separable ones: a k x k kernel for each channel, and a 1 x 1
    convolution that mixes the channels, as in networks made for phones.

    Each starts from the rank-1 SVD of every channel's kernels and is fitted, block by block, to what the
    layer gave on calibration samples, first of the original's activations, then of the rewritten network's.
    Layers are rewritten where that loses the least for what it saves. Then the network is trained a little,
    taught by the original.
    """

    guidance: ClassVar[str] = (
        "For convolutional networks of 3 x 3 layers, the largest saving of all rewritings: a layer does an "
        "eighth of the work, where channel_pruning would leave a third of its channels. Goes well before "
        "quantization. Networks made for phones have no dense convolution left, and are refused."
    )
    typical: ClassVar = (1, 1)
    written: ClassVar = "a depthwise-separable one"
    saves: ClassVar = "do an eighth of the work as depthwise-separable ones"
    tries: ClassVar = ((0.67, 0.003), (0.98, 0.008))

    technique: Literal["depthwise_separable"] = "depthwise_separable"
    max_multiplier: Multiplier = Field(
        default=1,
        description="kernels for each channel, at most: a layer takes more where what it loses is worth it",
    )
    layers: dict[str, Multiplier] | None = Field(
        default=None,
        description="by weight, the multipliers of the layers to rewrite, to repeat a choice. Nothing is "
        "chosen then",
    )

    def forms(self) -> Iterator[Sizes]:
        yield from ((1, multiplier) for multiplier in range(1, self.max_multiplier + 1))

    def given(self) -> Mapping[str, Sizes] | None:
        if self.layers is None:
            return None
        return {name: (1, multiplier) for name, multiplier in self.layers.items()}
