import numpy as np

from compression.measure.slices import MOST, by_class, warnings


def test_a_class_that_pays_for_the_others_is_named() -> None:
    labels = np.repeat(np.arange(10), 100)
    before = np.ones(1000, bool)
    after = before.copy()
    after[600:630] = False
    after[100:102] = False
    found = by_class(before, after, labels, ["shirt" if label == 6 else f"c{label}" for label in range(10)])
    assert [part.label for part in found[:2]] == [6, 1]
    worst = found[0]
    assert (worst.name, worst.n, worst.original, worst.compressed, worst.drop) == (
        "shirt",
        100,
        1.0,
        0.7,
        0.3,
    )
    assert worst.ci95[0] < 0.3 < worst.ci95[1]
    assert [part.label for part in found if part.flagged] == [6]
    (said,) = warnings(found, 0.032)
    assert "class 6 (shirt) 30.0 points" in said
    assert "(3.2 points)" in said


def test_what_may_be_chance_is_not_flagged() -> None:
    labels = np.repeat(np.arange(10), 10)
    before = np.ones(100, bool)
    after = before.copy()
    after[:2] = False
    found = by_class(before, after, labels)
    assert found[0].drop == 0.2
    assert not any(part.flagged for part in found)
    assert warnings(found, 0.02) == ()


def test_of_many_classes_none_is_flagged_by_chance() -> None:
    """All lose alike: each of 500 at 95 % would flag some."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(500), 40)
    for _ in range(20):
        before = random.random(20_000) < 0.9
        after = before ^ (random.random(20_000) < 0.02)
        assert not any(part.flagged for part in by_class(before, after, labels))


def test_of_many_classes_the_worst_are_kept() -> None:
    labels = np.repeat(np.arange(300), 20)
    before = np.ones(6000, bool)
    after = before.copy()
    after[labels == 250] = False
    found = by_class(before, after, labels)
    assert len(found) == MOST
    assert found[0].label == 250
    assert found[0].name is None
    assert found[0].flagged


def test_an_even_loss_flags_nobody() -> None:
    labels = np.tile(np.arange(4), 250)
    before, after = np.ones(1000, bool), np.arange(1000) >= 400
    found = by_class(before, after, labels)
    assert not any(part.flagged for part in found)
    assert {part.drop for part in found} == {0.4}


def test_labels_may_be_large_numbers() -> None:
    labels = np.array([2**40, 2**40, 7, 7])
    found = by_class(np.ones(4, bool), np.array([True, False, True, True]), labels, ("a",))
    assert [(part.label, part.n, part.name) for part in found] == [(2**40, 2, None), (7, 2, None)]
