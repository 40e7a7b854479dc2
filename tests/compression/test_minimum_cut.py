from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from compression.kernels.minimum_cut import cheapest_split

COSTS = st.lists(st.integers(0, 9), min_size=5, max_size=5)
BORDERS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)), max_size=8)


@given(COSTS, COSTS, BORDERS)
def test_no_split_is_cheaper(
    first: list[int], second: list[int], borders: list[tuple[int, int, int]]
) -> None:
    def cost(chosen: set[int]) -> int:
        own = sum((first if node in chosen else second)[node] for node in range(5))
        return own + sum(price for one, other, price in borders if (one in chosen) != (other in chosen))

    found = cheapest_split(
        {node: float(price) for node, price in enumerate(first)},
        {node: float(price) for node, price in enumerate(second)},
        [(one, other, float(price)) for one, other, price in borders],
    )
    every = [{node for node in range(5) if bits[node]} for bits in product((False, True), repeat=5)]
    assert cost(found) == min(map(cost, every))


def test_neighbours_stay_together_where_the_border_is_dear() -> None:
    first, second = {"a": 1.0, "b": 5.0, "c": 1.0}, {"a": 4.0, "b": 4.0, "c": 4.0}
    assert cheapest_split(first, second, [("a", "b", 9.0), ("b", "c", 9.0)]) == {"a", "b", "c"}
    assert cheapest_split(first, second, []) == {"a", "c"}
