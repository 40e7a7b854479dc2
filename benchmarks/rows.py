from typing import NamedTuple


class Row(NamedTuple):
    figure: str
    hold: str
    measured: str
