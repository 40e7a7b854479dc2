import pytest

from compression.errors import CompressionError
from compression.exports.tflite.convert import convert
from tests.compression.exports.tflite.conftest import Weights, graph
from tests.compression.exports.tflite.test_operators import IMAGES, UP, ints

REFUSED: dict[str, tuple[str, Weights, str]] = {
    "an_operator": ("y = LpNormalization (x)", {}, "LpNormalization ('node0')"),
    "three_axes": (
        "u = Unsqueeze (x, a) y = Conv (u, w)",
        {"a": ints(2), "w": (8, 6, 1, 3, 3)},
        "Conv ('node1')",
    ),
    "a_computed_weight": ("y = Conv (x, x)", {}, "Conv ('node0')"),
    "rounding_up": (
        (
            "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1,"
            " count_include_pad = 1> (x)"
        ),
        {},
        "AveragePool ('node0')",
    ),
    "borders": (
        "y = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 0, 0]> (x)",
        {},
        "AveragePool",
    ),
    "a_mean_that_is_read": (
        "n, y = LayerNormalization (x, s)",
        {"s": (9,)},
        "LayerNormalization ('node0')",
    ),
    "groups": ("y = ConvTranspose <group = 2> (x, v)", {"v": (6, 4, 3, 3)}, "ConvTranspose ('node0')"),
    "cubic": ('y = Resize <mode = "cubic"> (x, none, scales)', UP, "Resize"),
    "reflection": ('y = Pad <mode = "reflect"> (x, p)', {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, "Pad"),
    "backwards": (
        "y = Slice (x, s, e, a, t)",
        {"s": ints(5), "e": ints(1), "a": ints(1), "t": ints(-1)},
        "Slice",
    ),
    "half": ("h = Cast <to = 10> (x) y = Cast <to = 1> (h)", {}, "Cast ('node0'): computes in float16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_take_is_named(case: str) -> None:
    body, weights, sentence = REFUSED[case]
    with pytest.raises(CompressionError) as caught:
        convert(graph(body, weights, "n, 6, 9, 9"), "LiteRT")
    assert caught.value.code == "format_unsupported"
    assert sentence in caught.value.detail


def test_two_open_axes_of_a_reshape_are_refused() -> None:
    model = graph("y = Reshape (x, s)", {"s": ints(0, 0, 81)}, "n, c, 9, 9")
    with pytest.raises(CompressionError, match="two axes of its output are open"):
        convert(model, "LiteRT")


def test_an_open_image_is_not_interpolated() -> None:
    with pytest.raises(CompressionError, match="by other than repeating pixels"):
        convert(graph(*IMAGES["bilinear"], "n, 6, h, w"), "LiteRT")


def test_a_size_rounded_up_must_be_known() -> None:
    model = graph(
        "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)", {}, "n, 6, h, w"
    )
    with pytest.raises(CompressionError, match="rounds up the size of an open axis"):
        convert(model, "LiteRT")
