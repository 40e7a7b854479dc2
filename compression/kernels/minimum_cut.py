"""Minimum s-t cut: the cheapest way to split nodes in two when neighbours apart cost something."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable
from typing import TypeVar

T = TypeVar("T", bound=Hashable)
NEGLIGIBLE = 1e-9


class Network:
    """Directed capacities; adding an edge again adds to it."""

    def __init__(self) -> None:
        self.capacity: dict[object, dict[object, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, start: object, end: object, capacity: float) -> None:
        self.capacity[start][end] += max(0.0, capacity)
        self.capacity[end][start] += 0.0

    def source_side(self, source: object, sink: object) -> set[object]:
        """Nodes on the source's side of a minimum cut (Edmonds and Karp 1972)."""
        while True:
            came_from = self._search(source, sink)
            if sink not in came_from:
                return set(came_from)
            self._augment(came_from, source, sink)

    def _search(self, source: object, sink: object) -> dict[object, object]:
        came_from: dict[object, object] = {source: source}
        queue = deque([source])
        while queue and sink not in came_from:
            node = queue.popleft()
            for neighbour, left in self.capacity[node].items():
                if left > NEGLIGIBLE and neighbour not in came_from:
                    came_from[neighbour] = node
                    queue.append(neighbour)
        return came_from

    def _augment(self, came_from: dict[object, object], source: object, sink: object) -> None:
        path = [sink]
        while path[-1] != source:
            path.append(came_from[path[-1]])
        steps = list(zip(path[1:], path, strict=False))
        flow = min(self.capacity[start][end] for start, end in steps)
        for start, end in steps:
            self.capacity[start][end] -= flow
            self.capacity[end][start] += flow


def cheapest_split(
    first: dict[T, float], second: dict[T, float], borders: Iterable[tuple[T, T, float]]
) -> set[T]:
    """Nodes that belong to the first kind when each costs `first[node]` or `second[node]`, and each border
    between nodes of different kinds its own cost. Deterministic in the order given.
    """
    source, sink = object(), object()
    network = Network()
    for node, cost in first.items():
        network.add(source, node, second[node])
        network.add(node, sink, cost)
    for one, other, cost in borders:
        network.add(one, other, cost)
        network.add(other, one, cost)
    side = network.source_side(source, sink)
    return {node for node in first if node in side}
