"""What was gained and what was lost: the final model against the original, in the plain runtime,
in one run.
"""

from compression.measure.compare import compare, compare_all

__all__ = ["compare", "compare_all"]
