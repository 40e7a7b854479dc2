"""Number format and layout are measured without leaving a trace, and outputs keep their type."""

import pytest
import torch

from compression.engine import Engine, Precision, choose_precision, use_precision
from tests.compression.engine.graphs import classifier


def test_measuring_changes_nothing() -> None:
    subject = classifier()
    engine = Engine.from_model(subject).eval()
    state = torch.random.get_rng_state()
    choice = choose_precision(engine, {"image": torch.randn(2, 3, 8, 8, generator=torch.Generator())})
    assert isinstance(choice, Precision)
    assert engine.write_back().serialized == subject.serialized
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in engine.parameters())
    assert (engine.training, engine.frozen_statistics, engine.autocast) == (False, False, None)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_precision_computes_the_same(autocast: torch.dtype | None, channels_last: bool) -> None:
    subject, image = classifier(), torch.randn(4, 3, 8, 8)
    wanted = Engine.from_model(subject).eval()(image=image)["logits"]
    engine = Engine.from_model(subject).eval()
    use_precision(engine, Precision(autocast, channels_last))
    result = engine(image=image)["logits"]
    assert result.dtype == torch.float32
    tolerance = 1e-5 if autocast is None else 0.05
    torch.testing.assert_close(result, wanted, rtol=tolerance, atol=tolerance)
    result.sum().backward()
    assert all(parameter.grad is not None for parameter in engine.parameters())
    assert engine.write_back().serialized == subject.serialized


def test_weights_follow_the_layout() -> None:
    engine = Engine.from_model(classifier())
    use_precision(engine, Precision(channels_last=True))
    assert engine.values()["body.weight"].is_contiguous(memory_format=torch.channels_last)
    use_precision(engine, Precision())
    assert engine.values()["body.weight"].is_contiguous()
