"""Evidence: the weights, and what calibration samples show of a network that is to be cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from onnx import numpy_helper

from compression.dataset import Array, Split
from compression.graph.channels import Channels, Group, Member
from compression.pruning.observation import Moments, Reader, observe, readers


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at."""

    looked: Channels
    split: Split
    samples: int
    seed: int

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.looked.model.graph.initializer}

    @cached_property
    def readers(self) -> Mapping[str, Reader]:
        """By weight."""
        return {reader.weight: reader for reader in readers(self.looked)}

    @cached_property
    def moments(self) -> Mapping[str, Moments]:
        """Of what each reader reads, by its name."""
        return observe(self.looked.model, self.readers.values(), self.split, self.samples, self.seed)

    def read(self, group: Group) -> list[tuple[Member, Moments]]:
        """Where the group's units are summed over, and what was seen there."""
        members = [member for member in group.contracted if member.tensor in self.readers]
        return [(member, self.moments[self.readers[member.tensor].source]) for member in members]
