"""A simulated event camera."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.events.recording import Recording
from step_ahsar.errors import UserError

THRESHOLD = 0.5  # contrast, in log intensity
NOISE_HZ = 1.0  # noise, in events per pixel and second
DARK = 0.1  # added to intensities, to keep the logarithm finite


def simulate(
    frames: NDArray,
    times_us: NDArray | Sequence[int],
    rng: np.random.Generator,
    threshold: float = THRESHOLD,
    noise_hz: float = NOISE_HZ,
) -> Recording:
    """The recording of a moving picture by an event camera (ESIM, Rebecq et al., CoRL 2018, section 3).

    Each pixel has a reference, initially the log intensity of the first frame. The log intensity, log(0.1 + I), is
    linear between frames. Whenever it differs from the reference by ``threshold`` there is an event, and the reference
    moves by ``threshold`` towards it. Noise is a Poisson process at every pixel, with random polarities.

    Args:
        frames: intensities I >= 0, where 1 is white, [F, H, W], F >= 2.
        times_us: their times in microseconds, increasing, [F].
        rng: generator of the noise.
        threshold: change of the log intensity that causes an event.
        noise_hz: events of noise per pixel and second.

    Raises:
        UserError: frames and times that are not as above.
    """
    times = np.asarray(times_us, dtype=np.int64)
    if np.ndim(frames) != 3 or len(frames) < 2 or times.shape != (len(frames),) or (np.diff(times) <= 0).any():
        raise UserError(
            f"an event sensor needs two or more frames [F, H, W] at increasing times [F], got frames of shape "
            f"{np.shape(frames)} and times of shape {times.shape}"
        )
    if not np.min(frames) >= 0:
        raise UserError(f"an event sensor needs intensities >= 0, got {np.min(frames)}")
    count, height, width = frames.shape
    log = np.log(np.asarray(frames, dtype=np.float64) + DARK).reshape(count, -1)
    log = (log - log[0]) / threshold  # in units of the threshold, in which references are whole numbers
    below, above = np.floor(log), np.ceil(log)
    remembered = np.zeros_like(log)
    for i in range(1, count):
        np.minimum(np.maximum(remembered[i - 1], below[i]), above[i], out=remembered[i])

    frame, pixel = np.divmod(np.flatnonzero(remembered[1:] != remembered[:-1]), height * width)
    step = (remembered[frame + 1, pixel] - remembered[frame, pixel]).astype(np.int64)
    many = np.abs(step)
    nth = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many) + 1  # 1, 2, ... within each step
    frame, pixel, sign = np.repeat(frame, many), np.repeat(pixel, many), np.repeat(np.sign(step), many)
    start, end = log[frame, pixel], log[frame + 1, pixel]
    share = (remembered[frame, pixel] + sign * nth - start) / (end - start)
    t = times[frame] + np.rint(share * np.diff(times)[frame]).astype(np.int64)

    noise = rng.poisson(noise_hz * height * width * (times[-1] - times[0]) * 1e-6)
    t = np.concatenate([t, rng.integers(times[0], times[-1], noise, endpoint=True)])
    pixel = np.concatenate([pixel, rng.integers(0, height * width, noise)])
    on = np.concatenate([sign > 0, rng.integers(0, 2, noise) > 0])
    order = np.argsort(t, kind="stable")
    y, x = np.divmod(pixel[order], width)
    return Recording(x.astype(np.uint16), y.astype(np.uint16), t[order], on[order].astype(np.uint8), (height, width))
