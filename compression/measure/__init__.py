"""What was gained and what was lost: the final model against the original, in the plain runtime,
in one run.
"""

from compression.measure.compare import compare

__all__ = ["compare"]
