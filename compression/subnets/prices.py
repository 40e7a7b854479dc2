"""What a sub-network costs, as a share of the whole network."""

from functools import lru_cache
from pathlib import Path
from typing import Protocol

from compression.errors import CompressionError, ErrorKind, Suggestion
from compression.pruning.costs import Target
from compression.subnets.latency import Latency
from compression.subnets.network import Network
from compression.subnets.space import Space, Subnet

_REMEMBERED = 1 << 16


class Prices(Protocol):
    def of(self, subnet: Subnet) -> float:
        """Quickly: it is asked for thousands."""

    def measured(self, subnet: Subnet) -> float:
        """As it is."""


def prices(target: Target, network: Network, space: Space, scratch: Path) -> Prices:
    """Errors: CompressionError `macs_unknown`, E_MODEL_RUN."""
    return Latency(network, space, scratch) if target == "latency" else Counted(target, network, space)


class Counted:
    """Multiply-accumulates or parameters."""

    def __init__(self, target: Target, network: Network, space: Space) -> None:
        """Errors: CompressionError `macs_unknown`."""
        self._target, self._network, self._space = target, network, space
        self._whole = self._counted(space.largest)
        self.of = lru_cache(_REMEMBERED)(self.measured)

    def measured(self, subnet: Subnet) -> float:
        return self._counted(subnet) / self._whole

    def _counted(self, subnet: Subnet) -> int:
        macs, params = self._network.cost(self._space.kept(subnet), subnet.dropped)
        if self._target == "params":
            return params
        if macs is None:
            raise CompressionError(
                "macs_unknown",
                "the multiply-accumulates of this model cannot be told from its graph",
                ErrorKind.UNSUPPORTED,
                suggestions=[Suggestion("Search by parameters", {"target": "params"})],
            )
        return macs
