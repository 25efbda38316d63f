"""From an image to a normalised tensor [C, H, W]: timm's pipeline, set up from a config."""

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor

from step_ahsar.config import DataConfig
from step_ahsar.data.common.registry import DatasetSpec
from step_ahsar.errors import UserError


def statistics(config: DataConfig, spec: DatasetSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: the config's, else the data set's, else 0.5.

    Pixels that are encoded as spikes are not normalised: they must be in [0, 1].

    Raises:
        UserError: statistics of another number of channels, or for pixels that are not normalised.
    """
    assert spec.in_chans is not None
    if config.encoder != "direct":
        if config.mean or config.std:
            raise UserError(f"data.mean and data.std do not apply with data.encoder {config.encoder!r}")
        return (0.0,) * spec.in_chans, (1.0,) * spec.in_chans
    plain = (0.5,) * spec.in_chans
    mean, std = config.mean or spec.mean or plain, config.std or spec.std or plain
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != spec.in_chans:
            raise UserError(
                f"data.{key} must have one value per channel, {spec.in_chans} for dataset {config.name!r}, "
                f"got {list(values)}"
            )
    return mean, std


def image_size(config: DataConfig, spec: DatasetSpec, training: bool) -> tuple[int, int]:
    """Height and width to which images are resized."""
    size = config.img_size or spec.size
    if not training and config.test_size is not None:
        size = config.test_size
    assert size is not None
    return (size, size) if isinstance(size, int) else size


def is_augmented(config: DataConfig) -> bool:
    """Whether training images are augmented."""
    crops = (config.scale, config.ratio) != ((1.0, 1.0), (1.0, 1.0))
    return crops or bool(config.hflip or config.color_jitter or config.auto_augment or config.re_prob)


def build_transform(config: DataConfig, spec: DatasetSpec, training: bool) -> Callable[[Any], Tensor]:
    """The transform of training images or of test images. They are the same unless the config augments.

    Raises:
        UserError: flips of a set whose mirror images have other classes, statistics of another number of channels, an
            unknown policy, or colour jitter together with a policy for which timm ignores it.
    """
    from timm.data import create_transform  # slow to import

    mean, std = statistics(config, spec)
    if config.hflip and not spec.mirrors:
        raise UserError(f"data.hflip must be 0 for dataset {config.name!r}, whose mirrored images mean something else")
    if config.color_jitter and config.auto_augment and "3a" not in config.auto_augment:
        raise UserError(
            f"data.color_jitter must be 0 with data.auto_augment {config.auto_augment!r}: timm combines colour jitter "
            f"with the policy 3a only"
        )
    common: dict[str, Any] = {
        "input_size": (spec.in_chans, *image_size(config, spec, training)),
        "interpolation": config.interpolation,
        "mean": mean,
        "std": std,
    }
    if not (training and is_augmented(config)):
        # A random interpolation is part of augmentation.
        common["interpolation"] = "bilinear" if config.interpolation == "random" else config.interpolation
        return create_transform(**common, crop_pct=config.crop_pct)
    try:
        transform = create_transform(
            **common,
            is_training=True,
            scale=config.scale,
            ratio=config.ratio,
            hflip=config.hflip,
            color_jitter=config.color_jitter,
            auto_augment=config.auto_augment,
            re_prob=config.re_prob,
            re_mode=config.re_mode,
        )
    except (AssertionError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else "unknown policy"
        raise UserError(
            f"data.auto_augment must be a policy of timm, such as rand-m9-mstd0.5-inc1, "
            f"got {config.auto_augment!r}: {reason}"
        ) from error
    for step in transform.transforms:
        _mend_posterize(getattr(step, "ops", None) or getattr(step, "policy", None) or [])
    return transform


def _mend_posterize(ops: list[Any]) -> None:
    """Replaces timm's posterize, which asks for 0 bits at full magnitude: an error from Pillow 13 on."""
    from timm.data.auto_augment import AugmentOp, posterize

    for op in ops:
        if isinstance(op, list):
            _mend_posterize(op)
        elif isinstance(op, AugmentOp) and op.aug_fn is posterize:
            op.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    from timm.data.auto_augment import posterize

    return posterize(image, bits) if bits >= 1 else Image.new(image.mode, image.size)
