"""Which layers compute in integers: the fastest choice within a limit of noise.

For a price of noise (a Lagrange multiplier) the cheapest choice, crossings between floats and integers
included, is a minimum cut. The best price is found by bisection; what it leaves unused is filled greedily.
By duality no choice within the limit is faster than `bound`, so no integer programme is needed to know how
near the choice is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from compression.graph.exclusion import TIED, Prices

_TRIES = 24


@dataclass(frozen=True)
class Placement:
    nodes: frozenset[str]
    """That compute in integers."""
    seconds: float
    """Expected, by the prices."""
    bound: float
    """Seconds that no choice within the limit can beat."""


@dataclass(frozen=True)
class Placing:
    prices: Prices
    noise: Mapping[str, float]
    """That a layer adds where it computes in integers."""
    forbidden: Collection[str] = ()
    """Layers that stay in floats."""

    def fastest(self, limit: float) -> Placement:
        """With no more noise than that in all."""
        best = self._at(0.0)
        if self._lost(best) <= limit:
            return Placement(best, self.prices.seconds(best), self.prices.seconds(best))
        floats = self.prices.seconds(())
        if limit <= 0:
            return Placement(frozenset(), floats, floats)
        best, bound = frozenset(), 0.0
        low, high = 0.0, floats / limit  # at which all in floats is cheaper than whatever exceeds the limit
        for _ in range(_TRIES):
            price = (low + high) / 2
            tried = self._at(price)
            bound = max(bound, self.prices.seconds(tried) + price * (self._lost(tried) - limit))
            if self._lost(tried) <= limit:
                best, high = min(best, tried, key=self.prices.seconds), price
            else:
                low = price
        best = self._filled(best, limit)
        return Placement(best, self.prices.seconds(best), min(bound, self.prices.seconds(best)))

    def _at(self, price: float) -> frozenset[str]:
        """The cheapest where noise has a price, seconds."""
        charged = {name: price * lost for name, lost in self.noise.items()}
        return self.prices.cheapest({**charged, **dict.fromkeys(self.forbidden, TIED)})

    def _lost(self, nodes: Collection[str]) -> float:
        return sum(lost for name, lost in self.noise.items() if name in nodes)

    def _filled(self, nodes: frozenset[str], limit: float) -> frozenset[str]:
        """With what still fits and pays by itself, least noise first; a layer with what is tied to it."""
        for name in sorted(self.noise, key=lambda own: self.noise[own]):
            more = nodes | {name} | self._tied(name)
            if (
                name in self.prices.as_integer
                and name not in self.forbidden
                and self._lost(more) <= limit
                and self.prices.seconds(more) < self.prices.seconds(nodes)
            ):
                nodes = more
        return nodes

    def _tied(self, name: str) -> set[str]:
        """Activations that the range of the layer expresses."""
        return {end for start, end, price in self.prices.borders if start == name and price >= TIED}
