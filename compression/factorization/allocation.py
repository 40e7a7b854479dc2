"""Which form each layer takes, so that together they save enough and lose the least."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Option(NamedTuple):
    """Of a layer: what it saves, in any unit, and what it loses."""

    saving: float
    loss: float


class _Step(NamedTuple):
    """From one option of a layer to the next; steps are taken in this order."""

    slope: float
    number: int
    layer: str
    option: int
    saving: float


def frontier(options: Sequence[Option]) -> list[int]:
    """Indices of the options on the lower convex hull of loss over saving, from (0, 0) on."""
    hull: list[int] = []
    at = Option(0.0, 0.0)
    while better := [index for index, option in enumerate(options) if option.saving > at.saving]:
        slopes = {index: (_slope(at, options[index]), -options[index].saving) for index in better}
        hull.append(min(better, key=slopes.__getitem__))
        at = options[hull[-1]]
    return hull


def _slope(start: Option, end: Option) -> float:
    """Loss for each unit saved."""
    return (end.loss - start.loss) / (end.saving - start.saving)


def allocate(layers: Mapping[str, Sequence[Option]], wanted: float) -> dict[str, int] | None:
    """The index of its option for each layer that changes; None if all together cannot save so much.

    The cheapest step along any layer's frontier comes next, which is the best there is for what it saves, as
    frontiers are convex (Shoham and Gersho 1988). What the last step saves too much is given back, where a
    layer has an option in between.
    """
    steps: list[_Step] = []
    for name, options in layers.items():
        at = Option(0.0, 0.0)
        for index in frontier(options):
            end = options[index]
            steps.append(_Step(_slope(at, end), len(steps), name, index, end.saving - at.saving))
            at = end
    chosen: dict[str, int] = {}
    saved = 0.0
    for step in sorted(steps):
        if saved >= wanted:
            break
        chosen.pop(step.layer, None)  # the latest stands last
        chosen[step.layer] = step.option
        saved += step.saving
    return _tightened(layers, chosen, saved - wanted) if saved >= wanted else None


def _tightened(
    layers: Mapping[str, Sequence[Option]], chosen: dict[str, int], spare: float
) -> dict[str, int]:
    """Each layer, the latest first, with the least loss for which there is enough to spare."""
    kept: dict[str, int] = {}
    for name in reversed(chosen):
        own, now = layers[name], layers[name][chosen[name]].saving
        if now <= spare:
            spare -= now
            continue
        enough = [at for at, option in enumerate(own) if option.saving >= now - spare]
        kept[name] = min(enough, key=lambda at: (own[at].loss, -own[at].saving))
        spare = max(spare - (now - own[kept[name]].saving), 0.0)
    return kept
