"""A look at a normalised data set, bounded in size. Declared without loading NumPy (ADR 0001)."""

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ColumnPreview(BaseModel):
    """One array of a split."""

    model_config = _FROZEN
    name: str
    low: float | None = Field(description="smallest finite value; null where there is none")
    high: float | None
    rows: tuple[tuple[float | None, ...], ...] = Field(
        description="of the first rows the first 16 values each; null where not finite"
    )
    thumbnails: tuple[str, ...] = Field(
        default=(), description="of images: the first rows as data URLs of PNGs, at most 64 pixels a side"
    )


class SplitPreview(BaseModel):
    model_config = _FROZEN
    split: str
    columns: tuple[ColumnPreview, ...]
    class_counts: tuple[int, ...] = Field(description="samples of each class, in the order of `classes`")


class DatasetPreview(BaseModel):
    model_config = _FROZEN
    splits: tuple[SplitPreview, ...]
