"""Who pays: what each class lost, where a mean over all of them says little was."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from compression.dataset import Array
from compression.measure.paired import difference
from compression.measurement import Slice

MOST = 100
_TIMES = 3.0
"""As much as all samples lose together."""
_NAMED = 5
_ERROR = 0.05


def by_class(before: Array, after: Array, labels: Array, names: Sequence[str] = ()) -> tuple[Slice, ...]:
    """Of the classes that lose most, the worst first. `before` and `after` say whether each sample was
    decided right, `labels` of which class it is.

    A class is flagged by an interval that holds for all classes together (Bonferroni): of a hundred, five
    would be outside of their own by chance.
    """
    classes, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    lost, gained, right, kept = (
        np.bincount(own, chosen, len(classes)).astype(int)
        for chosen in (before & ~after, after & ~before, before, after)
    )
    mean = max(0.0, float(before.mean() - after.mean()))
    z = NormalDist().inv_cdf(1 - _ERROR / 2 / len(classes))
    drops = (lost - gained) / sizes
    found = []
    for at in np.lexsort((classes, -drops))[:MOST]:
        n, label = int(sizes[at]), int(classes[at])
        counts = int(lost[at]), int(gained[at]), n
        surely = difference(*counts, z)[0]
        found.append(
            Slice(
                label=label,
                name=names[label] if label < len(names) else None,
                n=n,
                original=float(right[at] / n),
                compressed=float(kept[at] / n),
                drop=float(drops[at]),
                ci95=difference(*counts),
                flagged=bool(drops[at] > _TIMES * mean and surely > mean),
            )
        )
    return tuple(found)


def warnings(slices: Sequence[Slice], mean: float) -> tuple[str, ...]:
    """What flagged classes lose, in points; `mean` is what all samples lose together."""
    flagged = [part for part in slices if part.flagged]
    if not flagged:
        return ()
    told = [f"{_called(part)} {100 * part.drop:.1f} points" for part in flagged[:_NAMED]]
    more = [f"{len(flagged) - _NAMED} more"] if len(flagged) > _NAMED else []
    return (
        f"some classes lose more than three times as much as all together ({100 * mean:.1f} points): "
        + ", ".join([*told, *more]),
    )


def _called(part: Slice) -> str:
    return f"class {part.label}" + (f" ({part.name})" if part.name else "")
