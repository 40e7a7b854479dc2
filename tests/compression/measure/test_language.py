import numpy as np
import pytest

from compression.measure import fidelity, language
from compression.measure.language import LanguageModel
from compression.measurement import Metric
from tests.compression.measure.scoring import coverage, read

VOCABULARY = 11


def problem(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and tokens drawn by their probabilities at the position before."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, 6, VOCABULARY)).astype(np.float32)
    drawn = (logits + random.gumbel(size=logits.shape)).argmax(2)
    return logits, np.concatenate([random.integers(0, VOCABULARY, (n, 1)), drawn[:, :-1]], axis=1)


def perplexity(logits: np.ndarray, tokens: np.ndarray, counted: np.ndarray) -> tuple[float, float]:
    """Token by token, the label one later; and the share foreseen."""
    nats, right = [], []
    for row, label, use in zip(logits.astype(float), tokens, counted, strict=True):
        for step in range(len(label) - 1):
            if use[step + 1]:
                nats.append(np.log(np.exp(row[step]).sum()) - row[step, label[step + 1]])
                right.append(row[step].argmax() == label[step + 1])
    return float(np.exp(np.mean(nats))), float(np.mean(right))


@pytest.mark.parametrize("last", ["logits", "log_probabilities", "probabilities"])
def test_labels_that_are_the_inputs_are_read_one_later(last: str) -> None:
    logits, tokens = problem(80)
    counted = np.random.default_rng(1).random(tokens.shape) < 0.7
    output = logits
    if last != "logits":
        output = fidelity.probabilities(logits).astype(np.float32)
        output = np.log(output) if last == "log_probabilities" else output
    found = read(LanguageModel(1, None), output, np.where(counted, tokens, -100))
    assert list(found) == ["perplexity", "token_accuracy"]
    wanted = perplexity(logits, tokens, counted)
    assert (found["perplexity"].value, found["token_accuracy"].value) == pytest.approx(wanted, rel=1e-5)
    assert (found["perplexity"].higher_is_better, found["perplexity"].relative) == (False, True)
    assert found["perplexity"].n == 80


def test_labels_already_one_ahead_give_the_same() -> None:
    logits, tokens = problem(80)
    moved = np.full_like(tokens, -100)
    moved[:, :-1] = tokens[:, 1:]
    one, other = read(LanguageModel(1, None), logits, tokens), read(LanguageModel(0, None), logits, moved)
    assert one == other


@pytest.mark.parametrize("size", [7, 80])
def test_padding_counts_for_nothing(size: int) -> None:
    logits, tokens = problem(80)
    mask = (np.arange(6) < np.random.default_rng(1).integers(1, 7, 80)[:, None]).astype(np.int64)
    found = read(LanguageModel(1, mask), logits, tokens, size)
    assert found["perplexity"].value == pytest.approx(perplexity(logits, tokens, mask > 0)[0], rel=1e-5)


def test_vocabularies_are_worked_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, tokens = problem(20)
    whole = read(LanguageModel(1, None), logits, tokens)
    monkeypatch.setattr(language, "_AT_ONCE", 3 * VOCABULARY)
    assert read(LanguageModel(1, None), logits, tokens)["perplexity"].value == pytest.approx(
        whole["perplexity"].value
    )


def test_impossible_tokens_are_no_infinity() -> None:
    output = np.full((4, 6, VOCABULARY), -1e9, np.float32)
    output[:, :, 0] = 0
    found = read(LanguageModel(0, None), output, np.full((4, 6), VOCABULARY))
    assert 1e100 < found["perplexity"].value < np.inf
    assert found["token_accuracy"].value == 0
    assert read(LanguageModel(0, None), output, np.full((4, 6), -100)) == {}


def test_interval_covers_the_truth() -> None:
    truth = read(LanguageModel(1, None), *problem(40_000, seed=1), size=1000)["perplexity"].value

    def draw(random: np.random.Generator) -> Metric:
        drawn = problem(60, seed=int(random.integers(1 << 30)))
        return read(LanguageModel(1, None), *drawn, size=60)["perplexity"]

    assert 0.91 < coverage(draw, truth) < 0.99
