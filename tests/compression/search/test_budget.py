import pytest
from pydantic import ValidationError

from compression.measurement import Drop
from compression.search.budget import (
    MOST,
    Budget,
    excesses,
    labelled,
    most_samples,
    source,
    unmeasured,
)
from tests.compression.search.simulated import DATA, MODEL, measured


def test_what_may_be_lost_is_settled() -> None:
    assert Budget().settled(DATA).max_metric_drop == 0.01
    assert Budget().settled(None).min_agreement == 0.98
    assert Budget(min_agreement=0.5).settled(DATA).max_metric_drop is None


def test_labels_must_be_there_to_choose_by_and_to_prove_with() -> None:
    unlabelled = [array for array in DATA.arrays if (array.name, array.split) != ("label", "train")]
    assert labelled(DATA)
    assert not labelled(DATA.model_copy(update={"labelled": False}))
    assert not labelled(DATA.model_copy(update={"arrays": tuple(unlabelled)}))
    assert source(DATA) == "train"
    assert source(DATA.model_copy(update={"splits": {"test": 5}})) is None
    assert source(DATA.model_copy(update={"splits": {**DATA.splits, "calibration": 1511}})) == "train"
    assert source(DATA.model_copy(update={"splits": {**DATA.splits, "calibration": 1512}})) == "calibration"


@pytest.mark.parametrize(
    ("budget", "field"),
    [
        (Budget(objective="metric"), "/budget/objective"),
        (Budget(max_bytes=100), None),
        (Budget(max_bytes=2_000_000, max_memory=1_000_000), "/budget/max_memory"),
    ],
)
def test_contradictions_are_named(budget: Budget, field: str | None) -> None:
    found = budget.contradictions(MODEL.model_copy(update={"bytes": 2_800_050}))
    assert [error.pointer for error in found] == ([] if field is None else [field])


def test_a_file_cannot_be_smaller_than_its_graph() -> None:
    (error,) = Budget(max_bytes=100).contradictions(MODEL.model_copy(update={"bytes": 2_800_000 + 5000}))
    assert error.pointer == "/budget/max_bytes"
    assert "5000" in error.detail


@pytest.mark.parametrize(
    "field", [{"seconds": 0}, {"trials": 0}, {"max_latency_ratio": 0}, {"max_metric_drop": -1}]
)
def test_values_out_of_range_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(field)


def test_limits_that_are_broken_are_told_worst_first() -> None:
    budget = Budget(max_metric_drop=0.01, max_latency_ratio=0.25, max_bytes=700_000)
    assert excesses(budget, measured(faster=5, smaller=5, drop=0.009)) == []
    found = excesses(budget, measured(faster=2, smaller=2, drop=0.02))
    assert {each.limit for each in found} == {"max_metric_drop", "max_latency_ratio", "max_bytes"}
    assert [each.factor for each in found] == sorted((each.factor for each in found), reverse=True)
    assert found[-1].factor > 0


def test_a_budget_of_no_loss_is_kept_by_gains() -> None:
    assert excesses(Budget(max_metric_drop=0), measured(2, 2, -0.001)) == []
    assert excesses(Budget(max_metric_drop=0), measured(2, 2, 0.001)) != []


def test_agreement_is_told_as_it_was_asked() -> None:
    found = measured(2, 2, 0.0)
    after = found.compressed.model_copy(update={"agreement": 0.9})
    (excess,) = excesses(Budget(min_agreement=0.98), found.model_copy(update={"compressed": after}))
    assert (excess.limit, round(excess.allowed, 6), round(excess.value, 6)) == ("min_agreement", 0.98, 0.9)


def test_limits_of_which_nothing_is_known_are_named() -> None:
    assert unmeasured(Budget(max_metric_drop=0.01, max_latency_ms=5), measured(2, 2, 0)) == ["max_latency_ms"]


def test_standard_errors_are_added_to_what_was_lost() -> None:
    found = measured(2.0, 2.0, 0.009)
    drop = Drop(metric="accuracy", value=0.009, ci95=(0.009 - 0.00392, 0.009 + 0.00392), n=2000)
    found = found.model_copy(update={"drop": drop})
    budget = Budget(max_metric_drop=0.01)
    assert not excesses(budget, found)
    (excess,) = excesses(budget, found, errors=1.0)
    assert excess.value == pytest.approx(0.011)


@pytest.mark.parametrize(("macs", "samples"), [(80_000_000, 5000), (500_000_000, 1000), (10**10, 500)])
def test_models_that_take_long_are_judged_on_fewer_samples(macs: int, samples: int) -> None:
    assert most_samples(MODEL.model_copy(update={"macs": macs})) == samples
    assert most_samples(MODEL.model_copy(update={"macs": None})) < MOST
