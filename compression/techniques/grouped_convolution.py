"""Grouped rewriting: kernels within groups of channels, then a 1 x 1 over all channels."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from compression.rewriting.technique import Rewriting, Sizes

Channels = Annotated[int, Field(ge=2, le=1024)]


class GroupedConvolution(Rewriting):
    """Dense k x k convolutions become grouped ones: k x k kernels within groups of channels, and a 1 x 1
    convolution that mixes the groups, so that information still crosses them.

    Each starts from the SVD of every group's kernels and is fitted, block by block, to what the layer gave on
    calibration samples, first of the original's activations, then of the rewritten network's. Layers are
    rewritten where that loses the least for what it saves. Then the network is trained a little, taught by
    the original.
    """

    guidance: ClassVar[str] = (
        "For convolutional networks of wide 3 x 3 layers where depthwise_separable loses too much: a layer "
        "of 128 channels does a quarter of the work in groups of 16, and loses a third of what a depthwise "
        "one does. Runtimes compute channels in blocks, of 16 with AVX-512: smaller groups have fewer "
        "multiply-accumulates and are slower. Goes well before quantization."
    )
    typical: ClassVar = (16, 16)
    written: ClassVar = "a grouped one"
    saves: ClassVar = "do less work in groups of 16 channels"
    tries: ClassVar = ((0.9, 0.002),)

    technique: Literal["grouped_convolution"] = "grouped_convolution"
    group_channels: tuple[Channels, ...] = Field(
        default=(16, 32),
        min_length=1,
        max_length=8,
        description="channels of a group: each layer takes what loses the least for what it saves",
    )
    layers: dict[str, Channels] | None = Field(
        default=None,
        description="by weight, the channels of a group of the layers to rewrite, to repeat a choice. "
        "Nothing is chosen then",
    )

    def forms(self) -> Iterator[Sizes]:
        yield from ((channels, channels) for channels in self.group_channels)

    def given(self) -> Mapping[str, Sizes] | None:
        if self.layers is None:
            return None
        return {name: (channels, channels) for name, channels in self.layers.items()}
