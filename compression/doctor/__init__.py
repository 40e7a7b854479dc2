"""The data doctor: what in a normalised data set will disappoint its owner, told before hours are spent.
Every array is read in pieces.
"""

from collections.abc import Sequence

from compression.dataset import Dataset
from compression.doctor import duplicates, labels, values
from compression.inspection import Finding

FEW_CALIBRATION = 100


def findings(data: Dataset, classes: Sequence[str] = (), *, prepared: bool = False) -> tuple[Finding, ...]:
    """`prepared`: the values are what a declared preprocessing made of them, so the model takes them as they
    are.
    """
    return (
        *_calibration(data),
        *labels.findings(data, classes),
        *duplicates.findings(data),
        *values.findings(data, prepared=prepared),
    )


def _calibration(data: Dataset) -> list[Finding]:
    split = data.split("calibration")
    n = split.n if split else 0
    if n >= FEW_CALIBRATION:
        return []
    return [
        Finding(
            code="few_calibration_rows",
            severity="warning",
            detail=f"{n} rows calibrate; ranges from fewer than {FEW_CALIBRATION} are unsteady",
            way_out="give the split calibration a larger share, or send more rows",
        )
    ]
