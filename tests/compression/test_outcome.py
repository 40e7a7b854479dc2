"""Promises are judged by what was measured, each by its own quantity."""

from typing import Any

import pytest

from compression.measurement import Measurement, Measurements, Metric, Ratio
from compression.outcome import Status, judge
from compression.recipe import Recipe


def measured(accuracy: float = 0.9, latency: tuple[float, float] = (0.9, 1.1), **sizes: int) -> Measurements:
    def one(size: int, download: int, value: float) -> Measurement:
        return Measurement(
            bytes=size,
            bytes_zstd=download,
            params=1,
            nonzero_params=1,
            macs=None,
            peak_activation_bytes=None,
            metric=Metric(name="accuracy", value=value, ci95=(0, 1), n=100),
        )

    after = {"bytes": 1000, "bytes_zstd": 900, **sizes}
    ratios = {
        "bytes": Ratio(value=1000 / after["bytes"]),
        "bytes_zstd": Ratio(value=900 / after["bytes_zstd"]),
    }
    return Measurements(
        original=one(1000, 900, 0.9),
        compressed=one(after["bytes"], after["bytes_zstd"], accuracy),
        ratios=ratios | {"latency": Ratio(value=1.0, ci95=latency)},
    )


def recipe(**step: Any) -> Recipe:
    return Recipe.model_validate({"steps": [step]})


PRUNING = recipe(technique="magnitude_pruning", training=None)


def test_a_download_that_shrank_is_met_though_the_file_did_not() -> None:
    assert judge(PRUNING, measured(bytes_zstd=300)).status == Status.MET


def test_a_download_that_did_not_shrink_is_unmet() -> None:
    found = judge(PRUNING, measured(bytes=500, bytes_zstd=900))
    assert found.status == Status.UNMET
    assert found.reasons == ("no smaller download: 900 bytes by zstd against 900",)


def test_a_file_that_was_to_shrink_is_judged_by_itself() -> None:
    half = recipe(technique="half_precision")
    assert judge(half, measured(bytes=500)).status == Status.MET
    found = judge(half, measured(bytes_zstd=300))
    assert found.reasons == ("not smaller: 1000 bytes against 1000",)


def test_speed_is_proven_only_by_an_interval_above_one() -> None:
    both = recipe(technique="static_quantization")
    assert judge(both, measured(bytes=300, latency=(1.2, 1.4))).status == Status.MET
    found = judge(both, measured(bytes=300, latency=(0.98, 1.4)))
    assert found.reasons == ("not proven faster here: 1.00x, 95 % interval 0.98-1.40",)


@pytest.mark.parametrize(("accuracy", "status"), [(0.891, Status.MET), (0.889, Status.UNMET)])
def test_accuracy_may_fall_as_far_as_the_recipe_says(accuracy: float, status: Status) -> None:
    assert judge(PRUNING, measured(accuracy, bytes_zstd=300)).status == status


def test_a_recipe_that_promises_nothing_is_not_judged() -> None:
    assert judge(recipe(technique="finetune"), measured()).status == Status.NOT_REQUESTED


def regression(before: float, after: float, **how: bool) -> Measurements:
    found = measured(bytes=500)

    def one(of: Measurement, value: float) -> Measurement:
        metric = Metric(name="rmse", value=value, ci95=(0, 1e9), n=100, higher_is_better=False, **how)
        return of.model_copy(update={"metric": metric})

    return found.model_copy(
        update={"original": one(found.original, before), "compressed": one(found.compressed, after)}
    )


def test_errors_with_a_unit_are_judged_as_shares_of_the_original() -> None:
    """Prices are off by thousands, probabilities by hundredths."""
    half = recipe(technique="half_precision")
    for scale in (1e-3, 1.0, 1e4):
        assert judge(half, regression(scale, 1.009 * scale, relative=True)).status == Status.MET
        assert judge(half, regression(scale, 0.5 * scale, relative=True)).status == Status.MET
        assert judge(half, regression(scale, 1.02 * scale, relative=True)).status == Status.UNMET
    (reason,) = judge(half, regression(12_345.6, 13_000, relative=True)).reasons
    assert reason == "rmse went from 12345.6 to 13000"


def test_shares_of_nothing() -> None:
    half = recipe(technique="half_precision")
    assert judge(half, regression(0, 0, relative=True)).status == Status.MET
    assert judge(half, regression(0, 1e-9, relative=True)).status == Status.UNMET


def test_error_rates_are_judged_in_points() -> None:
    half = recipe(technique="half_precision")
    assert judge(half, regression(0.01, 0.015)).status == Status.MET
    assert judge(half, regression(0.01, 0.03)).status == Status.UNMET
