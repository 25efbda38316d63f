"""Common corruptions of images, at five severities, to test a trained model on.

After Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations"
(arXiv 1903.12261). Severities lie between those of CIFAR-10-C and of ImageNet-C, and what they do to small images can
still be seen; they are not either's, so that results are not to be compared with those benchmarks.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from step_ahsar.errors import UserError, unknown


def corrupt(image: Image.Image, name: str, severity: int, rng: np.random.Generator) -> Image.Image:
    """A corrupted image, of the same mode and size.

    Args:
        image: grey (mode L) or RGB.
        name: one of :data:`CORRUPTIONS`.
        severity: from 1 to 5.
        rng: what is drawn from.

    Raises:
        UserError: a corruption or a severity that does not exist, an image of another mode.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    if severity not in range(1, 6):
        raise UserError(f"the severity of a corruption is 1, 2, 3, 4 or 5, got {severity!r}")
    if image.mode not in ("L", "RGB"):
        raise UserError(f"corruptions are for images of mode L or RGB, got one of mode {image.mode}")
    return CORRUPTIONS[name](image, severity, rng)


def gaussian_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Gaussian noise, as of poor light."""
    x = _pixels(image)
    return _image(x + (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1] * rng.standard_normal(x.shape))


def shot_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Poisson noise, as of light's discrete nature; white is so many photons."""
    photons = (250, 100, 50, 25, 10)[severity - 1]
    return _image(rng.poisson(_pixels(image) * photons) / photons)


def impulse_noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Salt and pepper: some values, of each channel by itself, become 0 or 1."""
    x = _pixels(image)
    draw = rng.random(x.shape) / (0.01, 0.03, 0.06, 0.1, 0.2)[severity - 1]
    return _image(np.where(draw < 1, draw < 0.5, x))


def gaussian_blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """A Gaussian blur; its deviation in pixels is that of CIFAR-10-C, in proportion for sides above 32."""
    radius = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1] * max(1.0, min(image.size) / 32)
    return image.filter(ImageFilter.GaussianBlur(radius))


def contrast(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Less contrast: values come nearer to the mean of their channel."""
    x = _pixels(image)
    mean = x.mean((0, 1))
    return _image(mean + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (x - mean))


def brightness(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Brighter: the value of HSV, which is the greatest channel, is raised; hue and saturation stay."""
    x = _pixels(image)
    value = x if x.ndim == 2 else x.max(-1, keepdims=True)
    raised = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1], 1)
    return _image(np.where(value > 0, x / np.where(value > 0, value, 1), 1) * raised)


def pixelate(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Large pixels: the image made smaller by means of areas, and larger again by repetition."""
    share = (0.85, 0.65, 0.5, 0.4, 0.3)[severity - 1]
    small = image.resize(
        (max(1, round(image.width * share)), max(1, round(image.height * share))), Image.Resampling.BOX
    )
    return small.resize(image.size, Image.Resampling.NEAREST)


def jpeg(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """What JPEG leaves, at quality 80, 60, 40, 20 and 10."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=(80, 60, 40, 20, 10)[severity - 1])
    with Image.open(buffer) as saved:
        return saved.convert(image.mode)


def _pixels(image: Image.Image) -> NDArray[np.float64]:
    """Values in [0, 1], [H, W] or [H, W, 3]."""
    return np.asarray(image, dtype=np.float64) / 255


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))


CORRUPTIONS: dict[str, Callable[[Image.Image, int, np.random.Generator], Image.Image]] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        gaussian_blur,
        contrast,
        brightness,
        pixelate,
        jpeg,
    )
}
