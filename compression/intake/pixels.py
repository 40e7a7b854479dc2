"""Pixels -> the numbers that a model takes: the same of decoded images and of those that come as arrays."""

import numpy as np

from compression.dataset import Array
from compression.preprocessing import ImageOptions


def numbers(pixels: Array, options: ImageOptions) -> Array:
    """Of [height, width, channels], in one piece. Bytes are put in order before they become floats, four
    times as many.
    """
    if options.colour == "BGR":
        pixels = pixels[..., ::-1]
    channels: tuple[int, ...] = (-1,)
    if options.layout == "NCHW":
        pixels, channels = pixels.transpose(2, 0, 1), (-1, 1, 1)
    return scaled(np.ascontiguousarray(pixels), options, channels)


def scaled(pixels: Array, options: ImageOptions, channels: tuple[int, ...]) -> Array:
    """`channels`: the shape of values of which each channel has its own; () where all have one."""
    if options.dtype == "uint8":
        return pixels
    values = pixels * np.float32(options.scale)
    if options.mean:
        values -= np.array(options.mean, np.float32).reshape(channels)
    if options.std:
        values /= np.array(options.std, np.float32).reshape(channels)
    return values
