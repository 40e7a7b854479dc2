"""Sharing a budget out over layers."""

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st

from compression.factorization.allocation import Option, allocate, frontier

numbers = st.integers(1, 30).map(float)
options = st.lists(st.builds(Option, numbers, numbers), min_size=1, max_size=5)


@given(options)
def test_a_frontier_is_convex_and_below_every_option(own: list[Option]) -> None:
    hull = [Option(0.0, 0.0), *(own[at] for at in frontier(own))]
    slopes = [(b.loss - a.loss) / (b.saving - a.saving) for a, b in pairwise(hull)]
    assert slopes == sorted(slopes)
    assert hull[-1].saving == max(option.saving for option in own)
    for option in own:
        for a, b in pairwise(hull):
            if a.saving < option.saving <= b.saving:
                line = a.loss + (b.loss - a.loss) * (option.saving - a.saving) / (b.saving - a.saving)
                assert option.loss >= line - 1e-9


@given(st.lists(options, min_size=1, max_size=3), st.integers(1, 60).map(float))
@settings(max_examples=60, deadline=None)
def test_enough_is_saved_and_no_layer_alone_could_do_better(
    layers: list[list[Option]], wanted: float
) -> None:
    named = {str(at): own for at, own in enumerate(layers)}
    chosen = allocate(named, wanted)
    best = sum(max(option.saving for option in own) for own in layers)
    assert (chosen is None) == (best < wanted)
    if chosen is None:
        return
    picked = {name: named[name][at] for name, at in chosen.items()}
    saved = sum(option.saving for option in picked.values())
    assert saved >= wanted
    for name, own in picked.items():
        rest = saved - own.saving
        for option in (Option(0.0, 0.0), *named[name]):
            assert rest + option.saving < wanted or option.loss >= own.loss


@given(st.lists(options, min_size=1, max_size=3), st.integers(1, 60).map(float))
@settings(max_examples=60, deadline=None)
def test_it_loses_no_more_than_the_best_that_saves_one_step_more(
    layers: list[list[Option]], wanted: float
) -> None:
    named = {str(at): own for at, own in enumerate(layers)}
    chosen = allocate(named, wanted)
    if chosen is None:
        return
    lost = sum(named[name][at].loss for name, at in chosen.items())
    step = max(option.saving for own in layers for option in own)
    for picks in product(*([Option(0.0, 0.0), *own] for own in layers)):
        if sum(option.saving for option in picks) >= wanted + step:
            assert sum(option.loss for option in picks) >= lost - 1e-9


def test_nothing_is_changed_for_nothing() -> None:
    assert allocate({"a": [Option(1.0, 0.0)]}, 0.0) == {}
