from compression.measurement import Measurements, Metric
from compression.search.hindsight import known_by_heart
from tests.compression.search.simulated import measured


def of(value: float, *, name: str = "accuracy", higher_is_better: bool = True) -> Measurements:
    metric = Metric(
        name=name, value=value, ci95=(value - 0.01, value + 0.01), n=1000, higher_is_better=higher_is_better
    )
    found = measured(2.0, 2.0, 0.0)
    return found.model_copy(update={"original": found.original.model_copy(update={"metric": metric})})


def test_samples_that_the_original_knows_by_heart_are_told_of() -> None:
    note = known_by_heart(of(0.991), of(0.942), "train")
    assert note is not None
    assert all(part in note for part in ("train split", "0.991", "0.942", "1,512", "validation"))


def test_nothing_is_said_where_it_does_as_well_or_cannot_be_told() -> None:
    assert known_by_heart(of(0.95), of(0.942), "train") is None
    assert known_by_heart(of(0.90), of(0.95), "calibration") is None
    assert known_by_heart(of(0.99), of(0.94), None) is None
    assert known_by_heart(of(0.99), of(0.94, name="macro_f1"), "train") is None


def test_errors_are_better_when_they_are_small() -> None:
    seen, unseen = (of(value, name="rmse", higher_is_better=False) for value in (0.1, 0.2))
    assert known_by_heart(seen, unseen, "train") is not None
    assert known_by_heart(unseen, seen, "train") is None
