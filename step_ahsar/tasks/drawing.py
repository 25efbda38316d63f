"""Pictures of inputs, truths and predictions, for people."""

from collections.abc import Iterable, Mapping, Sequence
from colorsys import hsv_to_rgb

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]

IGNORED: Colour = (136, 136, 136)  # the mean of the hatching
_CURVES = ("#1f6cb0", "#c4520a", "#12796a")
_GAP, _LINE, _FONT = 8, 16, 12  # pixels
_WIDEST = 4096  # pixels of one picture
_GOLDEN = 0.618034  # successive hues at this distance (of a full turn) never come close


def picture(x: Tensor) -> Image.Image:
    """One input as an RGB picture of the same size.

    Args:
        x: [C, H, W], or [T, C, H, W], which is summed over time. One channel is shown in grey, two are events (off in
            blue and on in red, on white), three are RGB. For any other number of channels their mean is shown in grey.
            The smallest value becomes 0 and the greatest 255. For events, pixels without events are white.
    """
    x = x.detach().float().cpu()
    x = torch.nan_to_num(x.sum(0) if x.ndim == 4 else x)
    if len(x) == 2:
        off, on = x.abs() / x.abs().max().clamp(min=1e-12)
        red, blue = (1 - off), (1 - on)
        rgb = torch.stack([red, (red + blue - 1).clamp(min=0), blue])
    else:
        rgb = (x if len(x) == 3 else x.mean(0, keepdim=True)).expand(3, -1, -1)
        low, high = rgb.min(), rgb.max()
        rgb = (rgb - low) / (high - low).clamp(min=1e-12)
    return Image.fromarray((rgb * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def colour(index: int) -> Colour:
    """The colour of class ``index``: always the same, and unlike those of its neighbours."""
    saturation, value = ((0.75, 1.0), (1.0, 0.75), (0.45, 0.95))[index % 3]
    red, green, blue = hsv_to_rgb(index * _GOLDEN % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def overlay(
    image: Image.Image, classes: Tensor, *, ignore: int = 255, clear: Iterable[int] = (), strength: float = 0.6
) -> Image.Image:
    """``image`` with each pixel's class in colour over it; ignored pixels are hatched in grey.

    Args:
        image: RGB, H x W.
        classes: class indices, [H, W].
        ignore: the index that stands for no class.
        clear: classes that are left uncoloured, such as the background.
        strength: of the colour, from 0 to 1.
    """
    labels = classes.detach().cpu().numpy()
    under = np.asarray(image.convert("RGB"), dtype=np.float32)
    over, weight = under.copy(), np.full((*labels.shape, 1), strength, dtype=np.float32)
    for index in np.unique(labels):
        over[labels == index] = colour(int(index))
    weight[np.isin(labels, list(clear))] = 0
    row, column = np.indices(labels.shape)
    hatched: NDArray[np.float32] = np.where((row + column) // 2 % 2, 96, 176)[..., None].astype(np.float32)
    ignored = (labels == ignore)[..., None]
    mixed = np.where(ignored, hatched, weight * over + (1 - weight) * under)
    return Image.fromarray(mixed.round().astype(np.uint8))


def beside(
    *images: Image.Image,
    scale_to: int = 256,
    titles: Sequence[str] = (),
    legend: Mapping[str, Colour] | None = None,
) -> Image.Image:
    """The images in one row on white, each ``scale_to`` pixels high.

    Args:
        images: one at least, of any sizes.
        scale_to: height of each; pixels that are enlarged stay sharp.
        titles: written above the images.
        legend: names and colours, written to the right of them.
    """
    scaled = [enlarged(image.convert("RGB"), scale_to) for image in images]
    top = _LINE + _GAP // 2 if titles else 0
    key = _legend(legend, scale_to) if legend else None
    parts = [*scaled, *([key] if key else [])]
    sheet = Image.new("RGB", (sum(p.width for p in parts) + _GAP * (len(parts) - 1), scale_to + top), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    x = 0
    for i, part in enumerate(parts):
        sheet.paste(part, (x, top))
        if i < min(len(titles), len(scaled)):
            draw.text((x, 0), titles[i], fill="black", font=font)
        x += part.width + _GAP
    return sheet


def enlarged(image: Image.Image, height: int = 128) -> Image.Image:
    """``image`` at this height; pixels that are enlarged stay sharp. One that would be very wide is less high."""
    scale = min(height / image.height, _WIDEST / image.width)
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), method)


def frames(x: Tensor, most: int = 8, height: int = 96) -> Image.Image:
    """Frames through time, from left to right.

    Args:
        x: [T, C, H, W].
        most: the number of pictures; if there are more time steps, each picture is the sum of several.
        height: of each, in pixels.
    """
    parts = x.detach().float().cpu().tensor_split(min(most, len(x)))
    together = picture(torch.cat([part.sum(0) for part in parts], dim=-1))  # one scale of colours for all of them
    width = together.width // len(parts)
    return beside(
        *(together.crop((i * width, 0, (i + 1) * width, together.height)) for i in range(len(parts))), scale_to=height
    )


def curves(x: Tensor, size: tuple[int, int] = (256, 96)) -> Image.Image:
    """A series: up to three channels as curves, more as a picture with a row for each channel, the first one on top.

    Args:
        x: [C, L].
        size: width and height in pixels.
    """
    x = torch.nan_to_num(x.detach().float().cpu())
    low, high = x.min(), x.max()
    x = (x - low) / (high - low).clamp(min=1e-12)
    if len(x) > 3:
        return Image.fromarray(((1 - x) * 255).round().byte().numpy()).convert("RGB").resize(size, Image.Resampling.BOX)
    image = Image.new("RGB", size, "white")
    draw, (width, height) = ImageDraw.Draw(image), size
    for i, channel in enumerate(x):
        across = torch.linspace(2, width - 3, len(channel))
        down = 2 + (height - 5) * (1 - channel)
        draw.line(torch.stack([across, down], dim=1).flatten().tolist(), fill=_CURVES[i], width=1)
    return image


def differing(image: Image.Image, wrong: Tensor) -> Image.Image:
    """``image`` in pale grey, with the pixels that are wrong in red.

    Args:
        image: RGB, H x W.
        wrong: bool [H, W].
    """
    pale = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32) / 2 + 127
    pale[wrong.detach().cpu().numpy()] = (208, 32, 32)
    return Image.fromarray(pale.astype(np.uint8))


def _legend(entries: Mapping[str, Colour], height: int) -> Image.Image:
    """Names beside patches of their colours, in as many columns as the height needs."""
    font = ImageFont.load_default(_FONT)
    rows = max(1, height // _LINE)
    width = _LINE + _GAP + max(round(font.getlength(name)) for name in entries)
    image = Image.new("RGB", (width * -(-len(entries) // rows), height), "white")
    draw = ImageDraw.Draw(image)
    for i, (name, fill) in enumerate(entries.items()):
        x, y = i // rows * width, i % rows * _LINE
        draw.rectangle((x, y + 2, x + _LINE - 5, y + _LINE - 3), fill=fill)
        draw.text((x + _LINE, y), name, fill="black", font=font)
    return image
