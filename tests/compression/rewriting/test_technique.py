"""What rewritings have in common is no technique by itself."""

from typing import Literal

import pytest

from compression.rewriting.technique import Rewriting
from compression.technique import REGISTRY, Technique


def test_what_techniques_have_in_common_is_not_registered() -> None:
    assert Rewriting not in REGISTRY.values()
    kinds = {name for name, declared in REGISTRY.items() if issubclass(declared, Rewriting)}
    assert kinds == {"depthwise_separable", "grouped_convolution"}


def test_a_name_is_taken_once() -> None:
    with pytest.raises(TypeError, match="two techniques are named 'depthwise_separable'"):

        class Again(Technique):
            technique: Literal["depthwise_separable"] = "depthwise_separable"
