"""Common corruptions of images."""

import numpy as np
import pytest
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.embedded.digits import open_digits
from step_ahsar.data.images.corruptions import CORRUPTIONS, corrupt
from step_ahsar.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)


def scene(width=32, height=32, seed=0):
    """Random, with the spectrum of natural images: amplitudes fall as 1 / frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = np.inf
    noise = rng.standard_normal((3, height, width))
    picture = np.fft.ifft2(np.fft.fft2(noise + 2 * noise[:1]) / frequency).real
    picture *= 45 / max(picture.std(), 1e-9)
    return Image.fromarray((110 + picture).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


def pixels(image):
    return np.asarray(image, dtype=float)


def at(image, name, severity, seed=0):
    return corrupt(image, name, severity, np.random.default_rng(seed))


def flat(value, mode="L"):
    return Image.new(mode, (64, 64), value)


def test_all_that_were_asked_for_are_there():
    assert set(CORRUPTIONS) == {
        "gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "jpeg",
    }  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (96, 64), (8, 8)])
def test_damage_grows_with_severity(name, mode, size):
    images = [scene(*size, seed).convert(mode) for seed in range(8)]
    if size == (8, 8):
        images = [image.convert(mode) for image, _ in (open_digits(DataConfig()).train[i] for i in range(40))]
    levels = [
        np.mean([np.abs(pixels(at(image, name, severity, i)) - pixels(image)).mean() for i, image in enumerate(images)])
        for severity in SEVERITIES
    ]
    assert levels[0] > 0
    assert (np.diff(levels) > 0).all(), levels


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(("mode", "size"), [("L", (32, 32)), ("RGB", (30, 17)), ("L", (1, 1)), ("RGB", (1, 5))])
def test_mode_and_size_stay(name, severity, mode, size):
    before = scene(*size).convert(mode)
    copy = before.copy()
    after = at(before, name, severity)
    assert (after.mode, after.size) == (mode, size)
    assert before == copy


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_only_the_generator_decides(name):
    np.random.seed(0)  # noqa: NPY002
    one = at(scene(), name, 3)
    np.random.seed(1)  # noqa: NPY002
    assert at(scene(), name, 3) == one
    assert (at(scene(), name, 3, seed=1) == one) == (not name.endswith("noise"))


def test_noise_has_its_strength():
    grey = flat(128)
    deviation = pixels(at(grey, "gaussian_noise", 2)).std() / 255
    assert abs(deviation - 0.08) < 0.005
    deviation = pixels(at(grey, "shot_noise", 2)).std() / 255
    assert abs(deviation - (128 / 255 / 100) ** 0.5) < 0.005
    salted = pixels(at(grey, "impulse_noise", 5))
    assert abs((salted == 0).mean() - 0.1) < 0.02
    assert abs((salted == 255).mean() - 0.1) < 0.02
    assert (salted == 128).mean() > 0.75


def test_light_by_hand():
    half = Image.fromarray(np.array([[0, 100], [200, 100]], np.uint8))
    assert pixels(at(half, "contrast", 2)).tolist() == [[50, 100], [150, 100]]  # nearer to the mean of 100 by half
    assert pixels(at(half, "brightness", 2)).tolist() == [[51, 151], [251, 151]]  # 0.2 of 255
    colour = Image.new("RGB", (1, 1), (100, 50, 0))
    assert pixels(at(colour, "brightness", 2)).tolist() == [[[151, 76, 0]]]  # 75.5, hue and saturation stay
    assert pixels(at(Image.new("RGB", (1, 1)), "brightness", 2)).tolist() == [[[51, 51, 51]]]


def test_pixelate_makes_blocks():
    after = pixels(at(scene(20, 20), "pixelate", 3))  # 10 x 10 blocks of 2 x 2
    blocks = after.reshape(10, 2, 10, 2, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    means = pixels(scene(20, 20)).reshape(10, 2, 10, 2, 3).mean((1, 3))
    np.testing.assert_allclose(blocks[:, 0, :, 0], means, atol=1)  # rows and columns are rounded in turn


def test_blur_and_jpeg_leave_a_flat_image():
    for name in ("gaussian_blur", "jpeg", "pixelate", "contrast"):
        assert np.abs(pixels(at(flat(100), name, 5)) - 100).max() <= 2  # JPEG's mean of a block is rounded, too


def test_unknown_names_severities_and_modes():
    with pytest.raises(UserError, match="unknown corruption of images 'jpg'; did you mean 'jpeg'"):
        at(scene(), "jpg", 1)
    with pytest.raises(UserError, match="severity of a corruption is 1, 2, 3, 4 or 5, got 6"):
        at(scene(), "jpeg", 6)
    with pytest.raises(UserError, match="mode L or RGB, got one of mode RGBA"):
        at(scene().convert("RGBA"), "jpeg", 1)
