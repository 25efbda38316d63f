"""Common corruptions of images, at five severities, to test a trained model on.

After Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations"
(arXiv 1903.12261). The severities are chosen for small images, between those of CIFAR-10-C and of ImageNet-C. Results
must not be compared with those benchmarks.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from step_ahsar.data.common.corruptions import find
from step_ahsar.errors import UserError
from step_ahsar.registry import Registry

Corruption = Callable[[Image.Image, int, np.random.Generator], Image.Image]

CORRUPTIONS = Registry[Corruption]("corruption of images")


def corrupt(image: Image.Image, name: str, severity: int, rng: np.random.Generator) -> Image.Image:
    """A corrupted image, of the same mode and size.

    Args:
        image: grey (mode L) or RGB.
        name: one of :data:`CORRUPTIONS`.
        severity: from 1 to 5.
        rng: random generator.

    Raises:
        UserError: a corruption or a severity that does not exist, an image of another mode.
    """
    apply = find(CORRUPTIONS, name, severity)
    if image.mode not in ("L", "RGB"):
        raise UserError(f"corruptions are for images of mode L or RGB, got one of mode {image.mode}")
    return apply(image, severity, rng)


@CORRUPTIONS.register("gaussian_noise")
def gaussian_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Gaussian noise, as of poor light."""
    x = _pixels(image)
    return _image(x + (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1] * rng.standard_normal(x.shape))


@CORRUPTIONS.register("shot_noise")
def shot_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Poisson noise, as of photons. White is 250, 100, 50, 25 or 10 photons."""
    photons = (250, 100, 50, 25, 10)[severity - 1]
    return _image(rng.poisson(_pixels(image) * photons) / photons)


@CORRUPTIONS.register("impulse_noise")
def impulse_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Salt and pepper noise: in each channel some values are set to 0 or 1."""
    x = _pixels(image)
    draw = rng.random(x.shape) / (0.01, 0.03, 0.06, 0.1, 0.2)[severity - 1]
    return _image(np.where(draw < 1, draw < 0.5, x))


@CORRUPTIONS.register("gaussian_blur")
def gaussian_blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """A Gaussian blur. Its deviation is that of CIFAR-10-C, in proportion to the image's size above 32 pixels."""
    radius = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1] * max(1.0, min(image.size) / 32)
    return image.filter(ImageFilter.GaussianBlur(radius))


@CORRUPTIONS.register("contrast")
def contrast(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Less contrast: values are moved towards the mean of their channel."""
    x = _pixels(image)
    mean = x.mean((0, 1))
    return _image(mean + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (x - mean))


@CORRUPTIONS.register("brightness")
def brightness(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Raises the value V of HSV, which is the largest channel. Hue and saturation do not change."""
    x = _pixels(image)
    value = x if x.ndim == 2 else x.max(-1, keepdims=True)
    raised = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1], 1)
    return _image(np.where(value > 0, x / np.where(value > 0, value, 1), 1) * raised)


@CORRUPTIONS.register("pixelate")
def pixelate(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Large pixels: the image is reduced by averaging and enlarged by repetition."""
    share = (0.85, 0.65, 0.5, 0.4, 0.3)[severity - 1]
    small = image.resize(
        (max(1, round(image.width * share)), max(1, round(image.height * share))), Image.Resampling.BOX
    )
    return small.resize(image.size, Image.Resampling.NEAREST)


@CORRUPTIONS.register("jpeg")
def jpeg(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Compresses as JPEG with quality 80, 60, 40, 20 or 10."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=(80, 60, 40, 20, 10)[severity - 1])
    with Image.open(buffer) as saved:
        return saved.convert(image.mode)


def _pixels(image: Image.Image) -> NDArray[np.float64]:
    """Values in [0, 1], [H, W] or [H, W, 3]."""
    return np.asarray(image, dtype=np.float64) / 255


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))
