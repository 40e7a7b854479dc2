"""preprocessor_config.json, as image processors of Hugging Face save it, -> what becomes of each image."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compression.errors import CompressionError
from compression.inspection import Finding
from compression.intake.members import Members
from compression.preprocessing import DatasetOptions, ImageOptions, Side

_NAME = "preprocessor_config.json"
_BYTES = 1 << 20
_RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""
_LARGE = 384
"""ConvNeXt squeezes images to a square from this size on, instead of cutting their border off."""
_FOLLOWED = frozenset(
    {
        "do_resize",
        "do_center_crop",
        "do_rescale",
        "do_normalize",
        "do_convert_rgb",
        "do_flip_channel_order",
    }
)


class _Size(BaseModel):
    model_config = ConfigDict(extra="forbid")
    height: Side | None = None
    width: Side | None = None
    shortest_edge: Side | None = None

    @property
    def both(self) -> tuple[int, int] | None:
        return (self.height, self.width) if self.height and self.width else None


class _Config(BaseModel):
    """What a processor leaves out is as its class has it; the defaults are those of most."""

    model_config = ConfigDict(extra="allow")
    do_resize: bool = True
    size: Side | _Size | None = None
    crop_pct: float | None = Field(default=None, gt=0.1, le=1)
    resample: int = Field(default=2, ge=0, le=5)
    do_center_crop: bool = False
    crop_size: Side | _Size | None = None
    do_rescale: bool = True
    rescale_factor: float = Field(default=1 / 255, gt=0, le=1e6)
    do_normalize: bool = True
    image_mean: tuple[float, ...] = Field(default=(), max_length=3)
    image_std: tuple[float, ...] = Field(default=(), max_length=3)
    do_flip_channel_order: bool = False

    def options(self) -> ImageOptions:
        resize, crop = self._sizes() if self.do_resize else (None, self._crop())
        told: dict[str, Any] = {
            "resize": resize,
            "crop": crop,
            "resample": _RESAMPLE[self.resample],
            "colour": "BGR" if self.do_flip_channel_order else "RGB",
            "scale": self.rescale_factor if self.do_rescale else 1.0,
        }
        if self.do_normalize:
            told |= {"mean": self.image_mean, "std": self.image_std}
        return ImageOptions.model_validate(told)

    def _sizes(self) -> tuple[tuple[int, int] | int | None, tuple[int, int] | None]:
        """Of resize and crop. One number was a square, and the shorter side before a crop."""
        short = self.size.shortest_edge if isinstance(self.size, _Size) else self.size
        if short is None:
            return (self.size.both if isinstance(self.size, _Size) else None), self._crop()
        if self.crop_pct:
            square = short, short
            return (square, None) if short >= _LARGE else (int(short / self.crop_pct), square)
        if isinstance(self.size, _Size) or self.do_center_crop:
            return short, self._crop()
        return (short, short), None

    def _crop(self) -> tuple[int, int] | None:
        if not self.do_center_crop or self.crop_size is None:
            return None
        if isinstance(self.crop_size, int):
            return self.crop_size, self.crop_size
        return self.crop_size.both

    def ignored(self) -> list[str]:
        extra = self.model_extra or {}
        return sorted(name for name, value in extra.items() if _acts(name) and value)


def _acts(name: str) -> bool:
    return (name.startswith("do_") and name not in _FOLLOWED) or name == "rescale_offset"


def followed(archive: Members, options: DatasetOptions) -> tuple[DatasetOptions, tuple[Finding, ...]]:
    """What the owner says of images goes before what a file says.

    Errors: CompressionError `invalid_dataset`.
    """
    name = next((name for name in sorted(archive.sizes, key=len) if name.rpartition("/")[2] == _NAME), None)
    if name is None or options.image != ImageOptions():
        return options, ()
    if archive.sizes[name] > _BYTES:
        raise CompressionError("invalid_dataset", f"{_NAME} takes more than {_BYTES} bytes")
    try:
        config = _Config.model_validate_json(archive.read(name))
        image = config.options()
    except (ValidationError, ValueError, OSError) as error:
        raise CompressionError("invalid_dataset", f"{_NAME} cannot be followed: {_why(error)}") from None
    return options.model_copy(update={"image": image}), (_finding(config.ignored()),)


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is damaged"
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"[:200]


def _finding(ignored: list[str]) -> Finding:
    shown = ", ".join(name[:40] for name in ignored[:8])
    return Finding(
        code="preprocessor_config",
        severity="warning" if ignored else "info",
        detail=f"images are prepared as {_NAME} says" + (f", but without {shown}" if ignored else ""),
        way_out="say in image what becomes of them, if this is not what the model was trained with",
    )
