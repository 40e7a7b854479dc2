import numpy as np
import pytest

from compression.measure import similarity
from compression.measure.similarity import Pairs, Similarity, ranks
from compression.measurement import Metric
from tests.compression.measure.scoring import coverage, read


def problem(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels are steps of a half, as people give them."""
    random = np.random.default_rng(seed)
    labels = np.round(random.uniform(0, 5, n) * 2) / 2
    return (labels / 5 + 0.2 * random.normal(size=n)).astype(np.float32), labels.astype(np.float32)


def ranked(values: np.ndarray) -> np.ndarray:
    return np.array([(values < one).sum() + ((values == one).sum() + 1) / 2 for one in values])


def test_equal_values_share_their_rank() -> None:
    values = np.array([3.0, 1.0, 3.0, 2.0, 3.0])
    assert ranks(values).tolist() == [4, 1, 4, 2, 4] == ranked(values).tolist()


@pytest.mark.parametrize("offset", [0, 1e6])
def test_correlations(offset: float) -> None:
    output, labels = problem(400)
    found = read(Similarity(), output[:, None].astype(float) + offset, labels)
    assert list(found) == ["spearman", "pearson"]
    assert found["pearson"].value == pytest.approx(np.corrcoef(output, labels)[0, 1], abs=1e-6)
    wanted = np.corrcoef(ranked(output.astype(float)), ranked(labels))[0, 1]
    assert found["spearman"].value == pytest.approx(wanted, abs=1e-6 if offset == 0 else 0.01)
    for metric in found.values():
        assert -1 < metric.ci95[0] < metric.value < metric.ci95[1] < 1


def test_constant_outputs_know_nothing() -> None:
    found = read(Similarity(), np.ones(50), problem(50)[1])
    assert [metric.value for metric in found.values()] == [0, 0]


def test_perfect_outputs_stay_within_one() -> None:
    labels = problem(50)[1]
    for metric in read(Similarity(), labels, labels).values():
        assert metric.value == pytest.approx(1)
        assert metric.ci95[1] <= 1


def test_so_many_are_ranked_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_MOST_RANKED", 100)
    output, labels = problem(400)
    found = read(Similarity(), output, labels)
    assert (found["spearman"].n, found["pearson"].n) == (100, 400)
    assert found["spearman"].value == read(Similarity(), output[:100], labels[:100])["spearman"].value


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_intervals_cover_the_truth(name: str) -> None:
    truth = read(Similarity(), *problem(200_000, seed=1), size=1000)[name].value

    def draw(random: np.random.Generator) -> Metric:
        return read(Similarity(), *problem(150, seed=int(random.integers(1 << 30))), size=150)[name]

    assert 0.91 < coverage(draw, truth) <= 0.995


@pytest.mark.parametrize("size", [1, 7, 64])
def test_pairs_of_embeddings(size: int) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(120, 16)).astype(np.float32)
    vectors[1::2] += vectors[0::2]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in vectors.reshape(60, 2, 16)]
    labels = np.repeat(np.array(cosines) + 0.1 * random.normal(size=60), 2)
    found = read(Pairs(None), vectors, labels, size)
    assert found["pearson"].n == found["spearman"].n == 60
    assert found["pearson"].value == pytest.approx(np.corrcoef(cosines, labels[::2])[0, 1], abs=1e-6)


@pytest.mark.parametrize("size", [5, 64])
def test_padding_is_no_part_of_an_embedding(size: int) -> None:
    random = np.random.default_rng(0)
    states = random.normal(size=(40, 6, 8)).astype(np.float32)
    lengths = random.integers(1, 7, 40)
    mask = (np.arange(6) < lengths[:, None]).astype(np.int64)
    pooled = np.array([state[:length].mean(0) for state, length in zip(states, lengths, strict=True)])
    labels = np.repeat(random.normal(size=20), 2)
    found, wanted = read(Pairs(mask), states, labels, size), read(Pairs(None), pooled, labels, size)
    assert found["pearson"].value == pytest.approx(wanted["pearson"].value, abs=1e-5)
