"""Bits that weights are stored with, and which layers compute in integers, for given limits.

Weights of few bits are unpacked when a session is made: they take fewer bytes and no other time. So time is
decided by what computes in integers, bytes by bits, and the two share the noise that is allowed: first comes
what is minimised, the other gets what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from compression.graph.exclusion import CLEAR_GAIN, LEAST_GAIN
from compression.kernels.allocation import Choice, cheapest
from compression.sensitivity.losses import Losses
from compression.sensitivity.pace import Pace
from compression.sensitivity.placing import Placement, Placing

Objective = Literal["latency", "bytes"]
Bits = dict[str, int]


@dataclass(frozen=True)
class Limits:
    noise: float
    """To signal."""
    bytes: float | None
    """Of the layers' weights. None: as few as the noise allows."""


@dataclass(frozen=True)
class Mix:
    bits: Bits
    """Of the weight of each layer."""
    integers: frozenset[str]
    """Nodes that compute in int8."""
    name: str
    """int8: all of them; mixed; floats: none."""
    speeds: Mapping[str, float]
    """Measured, of those that were candidates, against the original."""
    gap: float | None
    """The share of its time that, by the profile, the best within the limits may take less; None where the
    profile was not needed.
    """


@dataclass(frozen=True)
class Chooser:
    losses: Losses
    pace: Pace
    minimise: Objective

    def choose(self, limits: Limits) -> Mix | None:
        """None where no choice keeps to the limits."""
        stored = self._stored(limits)
        if stored is None:
            return None
        nodes, name, speeds, gap = self._placed(stored, limits)
        bits = stored if self.minimise == "bytes" else self._bits(nodes, limits)
        return None if bits is None else Mix(bits, nodes, name, speeds, gap)

    def _stored(self, limits: Limits) -> Bits | None:
        """As if all computed in floats: the fewest bytes, or the least noise, within the limits."""
        if self.minimise == "bytes":
            return _picked(self.losses.weights, limits.noise)
        return self._quietest(self.losses.weights, limits.bytes)

    def _bits(self, nodes: frozenset[str], limits: Limits) -> Bits | None:
        """With those nodes in integers."""
        options = {
            name: self.losses.in_integers(name) if name in nodes else own
            for name, own in self.losses.weights.items()
        }
        if limits.bytes is None:
            return _picked(options, limits.noise)
        return self._quietest(options, limits.bytes)

    def _quietest(self, options: Mapping[str, Mapping[int, Choice]], most: float | None) -> Bits | None:
        swapped = {
            name: {bits: Choice(own.loss, own.cost) for bits, own in choices.items()}
            for name, choices in options.items()
        }
        return _picked(swapped, float("inf") if most is None else most)

    def _placed(
        self, stored: Bits, limits: Limits
    ) -> tuple[frozenset[str], str, dict[str, float], float | None]:
        """The fastest of what the limits allow, as measured: all in integers, none, or a mix."""
        if not self.pace.nodes:
            return frozenset(), "floats", {}, None
        added = {name: self._added(name, stored[name]) for name in self.losses.integers}
        noise = {name: lost for name, lost in added.items() if lost is not None}
        forbidden = {name for name in added if name not in noise}
        left = limits.noise - sum(self.losses.weights[name][own].loss for name, own in stored.items())
        candidates: dict[str, frozenset[str]] = {}
        if not forbidden and sum(noise.values()) <= left:
            candidates["int8"] = self.pace.nodes
            if self.pace.is_large or self.pace.speed(self.pace.nodes) >= CLEAR_GAIN:
                return self.pace.nodes, "int8", self._speeds(candidates), None
        found = Placing(self.pace.prices, noise, forbidden).fastest(left)
        if found.nodes:
            candidates.setdefault("mixed", found.nodes)
        if not self.pace.is_large or not candidates:
            candidates["floats"] = frozenset()
        speeds = self._speeds(candidates)
        best = max(
            candidates, key=lambda name: speeds.get(name, 1.0) * (LEAST_GAIN if name == "floats" else 1.0)
        )
        return candidates[best], best, speeds, _gap(found) if best == "mixed" else None

    def _added(self, name: str, stored: int) -> float | None:
        """Noise that a layer adds to what its stored weight has, where it computes in integers. None: it
        cannot, as that takes 8 bits or fewer.
        """
        own = self.losses.in_integers(name)
        if self.minimise == "bytes":
            own = {bits: choice for bits, choice in own.items() if bits == stored}
        if not own:
            return None
        least = min(choice.loss for choice in own.values())
        return max(least - self.losses.weights[name][stored].loss, 0.0)

    def _speeds(self, candidates: Mapping[str, frozenset[str]]) -> dict[str, float]:
        if self.pace.is_large:  # what is large, int8 makes faster: it is not measured
            return {}
        return {name: self.pace.speed(nodes) for name, nodes in candidates.items()}


def _gap(found: Placement) -> float:
    return round(1 - found.bound / found.seconds, 4) if found.seconds else 0.0


def _picked(options: Mapping[str, Mapping[int, Choice]], limit: float) -> Bits | None:
    """The least cost with no more loss than that."""
    kept = {name: list(own.items()) for name, own in options.items()}
    picked = cheapest([[choice for _, choice in own] for own in kept.values()], limit)
    if picked is None:
        return None
    return {name: own[at][0] for (name, own), at in zip(kept.items(), picked, strict=True)}
