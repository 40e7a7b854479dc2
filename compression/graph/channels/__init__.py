"""Channels that can be removed from an ONNX graph, and the cut that removes them.

`find` looks a graph through once: its groups of slices that go together, by the operators' semantics.
`cut` removes units of groups: weights get smaller, and every number in the graph that counted them is
corrected.
"""

from compression.graph.channels.cutting import cut
from compression.graph.channels.groups import Channels, Group, Member, find
from compression.graph.channels.kept import Kept, cost, masks, sizes

__all__ = ["Channels", "Group", "Kept", "Member", "cost", "cut", "find", "masks", "sizes"]
