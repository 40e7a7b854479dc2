from hypothesis import given
from hypothesis import strategies as st

from compression.search.budget import cost
from compression.search.frontier import frontier
from compression.search.trial import Trial
from tests.compression.search.simulated import measured

_POINTS = st.tuples(
    st.sampled_from([1.0, 2.0, 4.0]), st.sampled_from([1.0, 2.0, 4.0]), st.sampled_from([0.0, 0.01])
)


def trials(points: list[tuple[float, float, float]]) -> list[Trial]:
    return [Trial(at, [], 1.0, "succeeded", measured(*point)) for at, point in enumerate(points)]


def place(trial: Trial) -> tuple[float, ...]:
    assert trial.measurements is not None
    return tuple(cost(axis, trial.measurements) or 0.0 for axis in ("metric", "latency", "bytes"))


@given(st.lists(_POINTS, min_size=1, max_size=12))
def test_no_trial_beats_one_on_the_frontier_and_each_other_one_is_beaten(
    points: list[tuple[float, float, float]],
) -> None:
    given_ = trials(points)
    found = frontier(given_, ["metric", "latency", "bytes"])
    best = {place(trial) for trial in found}
    assert len(best) == len(found) >= 1
    for trial in given_:
        own = place(trial)
        beaten = any(all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in best)
        assert beaten != (own in best)


def test_along_the_first_axis() -> None:
    found = frontier(trials([(4, 1, 0.01), (2, 1, 0.0), (1, 1, 0.0)]), ["metric", "latency"])
    assert [trial.number for trial in found] == [1, 0]


def test_trials_without_a_measurement_are_left_out() -> None:
    failed = Trial(0, [], 1.0, "failed")
    assert frontier([failed], ["metric", "latency"]) == []
    assert frontier(trials([(2, 2, 0.0)]), ["memory", "latency"]) != []
