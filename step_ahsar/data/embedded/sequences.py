"""``digits_sequence``: the embedded digits as series of pixels."""

from pathlib import Path

from step_ahsar.config import DataConfig
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.embedded.digits import CLASSES, digit_images
from step_ahsar.data.sequences.arrays import check_keys
from step_ahsar.data.sequences.pixels import pixel_splits


def open_digits_sequence(config: DataConfig) -> Splits:
    """The embedded digits, 8 x 8 pixels one after the other, split as the images are."""
    check_keys(config, "permute")
    arrays = [array for images in digit_images() for array in (images.pixels, images.labels)]
    return pixel_splits(arrays, (8, 8), CLASSES, config.sequence.permute, Path("digits"), config)


register_dataset(
    DatasetSpec(
        name="digits_sequence",
        in_chans=1,
        size=64,
        mean=(0.3054,),
        std=(0.3760,),
        num_classes=10,
        open=open_digits_sequence,
        mirrors=False,
        modality="sequence",
        ndim=1,
    )
)
