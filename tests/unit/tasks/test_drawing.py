"""Pictures: which value becomes which colour, and where things stand."""

import numpy as np
import pytest
import torch
from PIL import Image

from step_ahsar.tasks.drawing import IGNORED, beside, colour, overlay, picture

WHITE, RED, BLUE, BLACK = (255, 255, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)


def pixels(image):
    return [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]


def test_one_channel_is_grey_from_its_smallest_to_its_greatest_value():
    assert pixels(picture(torch.tensor([[[-1.0, 0.0, 1.0]]]))) == [[BLACK, (128,) * 3, WHITE]]


def test_three_channels_are_colours_on_one_scale():
    x = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1)
    assert pixels(picture(x)) == [[(0, 128, 255)]]


def test_events_are_summed_over_time_and_drawn_on_white():
    x = torch.zeros(2, 2, 1, 4)
    x[0, 0, 0, 1] = x[0, 1, 0, 2] = 2  # off, on
    x[1, :, 0, 3] = 2  # both
    assert pixels(picture(x)) == [[WHITE, BLUE, RED, BLACK]]
    x[1, 1, 0, 2] = 2  # now twice as many as elsewhere
    assert pixels(picture(x))[0][1:3] == [(128, 128, 255), RED]


@pytest.mark.parametrize("x", [torch.full((1, 2, 3), 5.0), torch.zeros(2, 2, 3), torch.full((3, 2, 3), torch.nan)])
def test_inputs_without_contrast_can_be_drawn(x):
    assert picture(x).size == (3, 2)


def test_other_numbers_of_channels_are_averaged():
    x = torch.tensor([[[0.0, 2.0]], [[0.0, 4.0]], [[0.0, 6.0]], [[0.0, 8.0]]])
    assert pixels(picture(x)) == [[BLACK, WHITE]]


def test_colours_differ_well_among_the_first_twenty_classes():
    colours = np.array([colour(i) for i in range(20)], dtype=float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distance[~np.eye(20, dtype=bool)].min() > 40
    assert colour(7) == colour(7)


def test_an_overlay_mixes_colours_and_leaves_what_is_clear():
    image = Image.new("RGB", (3, 1), (100, 100, 100))
    mixed = pixels(overlay(image, torch.tensor([[0, 1, 255]]), clear=[0], strength=0.5))[0]
    assert mixed[0] == (100, 100, 100)
    assert mixed[1] == tuple(round(50 + c / 2) for c in colour(1))
    assert len(set(mixed[2])) == 1  # grey


def test_ignored_pixels_are_hatched():
    image = overlay(Image.new("RGB", (8, 8)), torch.full((8, 8), 255))
    found = {pixel for row in pixels(image) for pixel in row}
    assert len(found) == 2
    assert tuple(np.mean([*found], axis=0)) == IGNORED


def test_images_stand_beside_each_other_at_one_height():
    red, blue = Image.new("RGB", (10, 5), RED), Image.new("L", (100, 200), 0)
    sheet = beside(red, blue, scale_to=50)
    assert sheet.size == (100 + 8 + 25, 50)
    assert [sheet.getpixel((x, 25)) for x in (0, 99, 104, 108, 132)] == [RED, RED, WHITE, BLACK, BLACK]


def test_titles_are_above_and_the_legend_is_to_the_right():
    plain = beside(Image.new("RGB", (32, 32), RED), scale_to=64)
    sheet = beside(Image.new("RGB", (32, 32), RED), scale_to=64, titles=["input"], legend={"cat": BLUE, "größer": RED})
    assert sheet.width > plain.width
    assert sheet.height > plain.height
    above = sheet.crop((0, 0, 64, sheet.height - 64))
    assert above.convert("L").getextrema()[0] < 128  # letters
    legend = sheet.crop((64, 0, *sheet.size))
    assert {BLUE, RED} <= {color for _, color in legend.getcolors(10_000)}


def test_a_long_legend_takes_more_columns():
    image = Image.new("RGB", (32, 32))
    short = beside(image, scale_to=64, legend={f"class {i}": RED for i in range(4)})
    long = beside(image, scale_to=64, legend={f"class {i}": RED for i in range(150)})
    assert long.height == short.height == 64
    assert long.width > 30 * (short.width - 64)
