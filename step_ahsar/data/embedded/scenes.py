"""The embedded scenes: two to four of scikit-learn's digits on a dark canvas of 64x64 pixels.

Every sample is a function of its split and its number alone. Training scenes are made of training digits and test
scenes of test digits (:func:`step_ahsar.data.embedded.digits.digits_split`). The three sets have the same scenes:
``digits_scenes`` as images, ``digits_scenes_sequence`` as moving pictures whose last frame is the scene, and
``digits_scenes_events`` as recordings by a simulated event camera.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.seeding import derive_seed
from step_ahsar.data.embedded.digits import CLASSES, digit_images
from step_ahsar.data.events.simulate import simulate
from step_ahsar.data.scenes.scene import Scene, make_scene

SIZE = 64  # pixels, height and width
TRAIN_SCENES, TEST_SCENES = 800, 200
FRAMES = 16  # of a moving picture
PIXEL_CLASSES = ("background", *CLASSES)

DARK, NOISE = 20.0, 6.0  # grey level of the canvas, standard deviation of its noise
VERSION = 1  # must be raised with any change of the inputs
INK = 0.3  # a pixel of at least this brightness belongs to the digit

SACCADE_US, SACCADE_STEPS, SACCADE_PIXELS = 100_000, 20, 6.0  # duration, frames and length of each of three saccades


@dataclass(frozen=True, eq=False)
class Layout:
    """The digits of a scene. Later ones cover earlier ones.

    Args:
        glyphs: brightness of each digit in [0, 1], float32 [S, S] with S its size in pixels.
        labels: their classes, int64 [n].
        corners: top and left, in pixels, float64 [n, 2].
    """

    glyphs: list[NDArray[np.float32]]
    labels: NDArray[np.int64]
    corners: NDArray[np.float64]


class DigitScenes:
    """Scenes, made at their first access and kept in memory: 1,000 recordings take about 130 MB.

    Args:
        pixels: scans of digits, uint8 [N, 8, 8].
        digits: their classes, int64 [N].
        split: name of the split, part of the seed of each scene.
        count: number of scenes.
        show: makes the input from (layout, rng).
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        digits: NDArray[np.int64],
        split: str,
        count: int,
        show: Callable[[Layout, np.random.Generator], Any],
    ) -> None:
        self.pixels, self.digits, self.split, self.count, self.show = pixels, digits, split, count, show
        self.made: dict[int, tuple[Any, Scene]] = {}

    def __getitem__(self, index: int) -> tuple[Any, Scene]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index in self.made:
            return self.made[index]
        rng = np.random.default_rng(derive_seed("digits_scenes", self.split, index))
        layout = draw_layout(self.pixels, self.digits, rng)
        self.made[index] = self.show(layout, rng), describe(layout, f"digits_scenes/{self.split}/{index}")
        return self.made[index]

    def __len__(self) -> int:
        return self.count


def draw_layout(pixels: NDArray[np.uint8], labels: NDArray[np.int64], rng: np.random.Generator) -> Layout:
    """Draws two to four digits of 16 to 28 pixels, at places where they overlap little."""
    count = int(rng.integers(2, 5))
    chosen = rng.integers(len(labels), size=count)
    sizes = rng.integers(16, 29, size=count)
    corners = np.zeros((count, 2))
    for i, size in enumerate(sizes):
        places = rng.integers(0, SIZE - size + 1, size=(20, 2))
        ends = np.minimum(places[:, None] + size, corners[:i] + sizes[:i, None])
        sides = (ends - np.maximum(places[:, None], corners[:i])).clip(0)
        corners[i] = places[np.argmin(sides.prod(2).sum(1))]
    glyphs = [
        np.asarray(Image.fromarray(pixels[j]).resize((size, size), Image.Resampling.BILINEAR), np.float32)
        / np.float32(255)
        for j, size in zip(chosen, sizes, strict=True)
    ]
    return Layout(glyphs, labels[chosen], corners)


def paint(layout: Layout) -> NDArray[np.float32]:
    """The digits on a black canvas, brightness in [0, 1], float32 [64, 64]. Later digits cover earlier ones."""
    canvas = np.zeros((SIZE, SIZE), np.float32)
    for glyph, (top, left) in zip(layout.glyphs, np.rint(layout.corners).astype(int), strict=True):
        place = canvas[top : top + len(glyph), left : left + len(glyph)]
        np.copyto(place, np.where(glyph >= INK, glyph, np.maximum(place, glyph)))
    return canvas


def describe(layout: Layout, name: str) -> Scene:
    """The visible pixels of each digit, their boxes, and the class of each pixel. Hidden digits are left out."""
    owner = np.full((SIZE, SIZE), -1)
    for i, (glyph, (top, left)) in enumerate(zip(layout.glyphs, np.rint(layout.corners).astype(int), strict=True)):
        owner[top : top + len(glyph), left : left + len(glyph)][glyph >= INK] = i
    seen = [i for i in range(len(layout.glyphs)) if (owner == i).any()]
    masks = np.stack([owner == i for i in seen])
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    # Pixels without a digit have owner -1. As an index it selects the last entry, which is 0: the background.
    classes = np.append(layout.labels + 1, 0)[owner].astype(np.uint8)
    return make_scene(name, (SIZE, SIZE), boxes, layout.labels[seen], masks, classes, area=masks.sum((1, 2)))


def show_image(layout: Layout, rng: np.random.Generator) -> Image.Image:
    """A grey image of 64x64 pixels."""
    return Image.fromarray(_exposed(paint(layout), rng))


def show_moving(layout: Layout, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Frames uint8 [16, 64, 64]. Digits move by 0.5 to 1.5 pixels per frame and turn back at the edges.

    In the last frame they are at their places in the layout.
    """
    speed, angle = rng.uniform(0.5, 1.5, len(layout.glyphs)), rng.uniform(0, 2 * np.pi, len(layout.glyphs))
    velocity = speed[:, None] * np.stack((np.sin(angle), np.cos(angle)), 1)
    room = SIZE - np.array([[len(glyph)] for glyph in layout.glyphs], float)
    frames = []
    for step in range(1 - FRAMES, 1):
        path = (layout.corners + step * velocity) % (2 * room)  # out to the edge and back
        corners = np.where(path > room, 2 * room - path, path) if step else layout.corners
        frames.append(paint(Layout(layout.glyphs, layout.labels, corners)))
    return _exposed(np.stack(frames), rng)


def show_events(layout: Layout, rng: np.random.Generator) -> Any:
    """The recording of a simulated event camera of 64x64 pixels over three saccades.

    As for N-MNIST the saccades form a triangle of 100 ms a side (G. Orchard et al., arXiv 1507.07629); its direction is
    random.
    """
    angle = rng.uniform(0, 2 * np.pi) + np.array((0, np.pi / 3))
    points = np.zeros((4, 2))
    points[1:3] = SACCADE_PIXELS * np.stack((np.sin(angle), np.cos(angle)), 1)
    steps = np.arange(3 * SACCADE_STEPS + 1) / SACCADE_STEPS
    path = np.stack([np.interp(steps, np.arange(4), points[:, axis]) for axis in (0, 1)], 1)
    canvas = paint(layout)
    times = np.rint(steps * SACCADE_US).astype(np.int64)
    return simulate(np.stack([_shifted(canvas, *offset) for offset in path]), times, rng=rng)


def _exposed(brightness: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    noise = rng.standard_normal(brightness.shape, np.float32)
    return (DARK + (255 - DARK) * brightness + NOISE * noise).clip(0, 255).round().astype(np.uint8)


def _shifted(canvas: NDArray[np.float32], down: float, right: float) -> NDArray[np.float32]:
    """The canvas moved by a fraction of pixels (bilinear). Pixels from outside have the value of the edge."""
    for axis, offset in enumerate((down, right)):
        whole = int(np.floor(offset))
        places = np.arange(SIZE) - whole
        near, far = (
            canvas.take(places.clip(0, SIZE - 1) if k == 0 else (places - 1).clip(0, SIZE - 1), axis) for k in (0, 1)
        )
        canvas = near + (offset - whole) * (far - near)
    return canvas


@cache
def _open(show: Callable[[Layout, np.random.Generator], Any]) -> Splits:
    of_train, of_test = digit_images()
    train = DigitScenes(of_train.pixels, of_train.labels, "train", TRAIN_SCENES, show)
    test = DigitScenes(of_test.pixels, of_test.labels, "test", TEST_SCENES, show)
    # The first sample of each split is part of the fingerprint: it shows whether the scenes are made in the same way.
    samples = [DigitScenes(part.pixels, part.digits, part.split, 1, show_image)[0] for part in (train, test)]
    contents: list[Any] = [
        array for image, scene in samples for array in (np.asarray(image), scene.boxes, scene.classes)
    ]
    contents += [train.pixels, train.digits, test.pixels, test.digits, (VERSION, *show.__name__.encode())]
    return Splits(train, test, CLASSES, fingerprint_arrays(contents), pixel_classes=PIXEL_CLASSES)


def open_scenes(config: DataConfig, show: Callable[[Layout, np.random.Generator], Any]) -> Splits:
    """800 training and 200 test scenes; ``config`` has no effect."""
    return _open(show)


# What the three data sets have in common. Their mean and std below are the channel statistics of the training scenes.
_common: dict[str, Any] = {
    "size": SIZE,
    "num_classes": len(CLASSES),
    "mirrors": False,
    "tasks": ("segmentation", "detection"),
}
register_dataset(
    DatasetSpec(
        name="digits_scenes",
        in_chans=1,
        mean=(0.1806,),
        std=(0.2266,),
        open=partial(open_scenes, show=show_image),
        **_common,
    )
)
register_dataset(
    DatasetSpec(
        name="digits_scenes_sequence",
        in_chans=1,
        mean=(0.1777,),
        std=(0.2245,),
        open=partial(open_scenes, show=show_moving),
        modality="sequence",
        **_common,
    )
)
register_dataset(
    DatasetSpec(
        name="digits_scenes_events",
        in_chans=2,
        mean=(),
        std=(),
        open=partial(open_scenes, show=show_events),
        modality="event",
        **_common,
    )
)
