"""What the proof tells about the search itself."""

from compression.measurement import Measurements
from compression.search.budget import ENOUGH


def known_by_heart(judged: Measurements, proof: Measurements, split: str | None) -> str | None:
    """A note where the original does better on the samples that trials were judged by than on the test split,
    by more than both intervals: what was lost is overstated then, and the search was too careful.
    """
    seen, unseen = judged.original.metric, proof.original.metric
    if split is None or seen is None or unseen is None or seen.name != unseen.name:
        return None
    apart = unseen.ci95[1] < seen.ci95[0] if seen.higher_is_better else seen.ci95[1] < unseen.ci95[0]
    if not apart:
        return None
    return (
        f"Trials were judged on samples of the {split} split, where the original's {seen.name} is "
        f"{seen.value:.4g}, against {unseen.value:.4g} on the test split: it seems to have been trained on "
        "them, so they overstate what is lost, and the search was more careful than it had to be. "
        f"Send {ENOUGH:,} or more samples that it was not trained on as the data set's calibration split "
        "(also called validation): those beyond 512 are judged by."
    )
