"""Recordings of event cameras."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.faults import DataFault


@dataclass(frozen=True, eq=False)
class Recording:
    """Events in the order of time.

    Args:
        x: columns, uint16 [N].
        y: rows, uint16 [N].
        t: timestamps in microseconds, int64 [N], never decreasing.
        p: polarities, uint8 [N]: 0 darker (off), 1 brighter (on).
        sensor: (H, W) in pixels.
    """

    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    t: NDArray[np.int64]
    p: NDArray[np.uint8]
    sensor: tuple[int, int]

    def __len__(self) -> int:
        return len(self.t)


def make_recording(
    x: NDArray, y: NDArray, t: NDArray, p: NDArray, sensor: tuple[int, int], where: str | Path
) -> Recording:
    """Makes a recording of arrays of any integer type, after checking them.

    Args:
        x: columns, [N].
        y: rows, [N].
        t: microseconds, [N].
        p: polarities, [N]: 0 and 1, false and true, or -1 and 1.
        sensor: (H, W) in pixels.
        where: the file, for messages.

    Raises:
        DataFault: lengths that differ, coordinates outside the sensor, timestamps that decrease, other polarities.
    """
    lengths = {len(x), len(y), len(t), len(p)}
    if len(lengths) > 1:
        raise DataFault(where, f"x, y, t and p differ in length: {len(x)}, {len(y)}, {len(t)}, {len(p)}")
    x, y, t, p = (np.asarray(values) for values in (x, y, t, p))
    if len(t):
        for name, values, size in (("x", x, sensor[1]), ("y", y, sensor[0])):
            if values.min() < 0 or values.max() >= size:
                index = int(np.argmax((values < 0) | (values >= size)))
                raise DataFault(
                    where,
                    f"event {index} has {name} = {values[index]}, outside the sensor of {sensor[0]} x {sensor[1]} "
                    f"(rows x columns)",
                )
        t = t.astype(np.int64)
        falls = t[1:] < t[:-1]
        if falls.any():
            i = int(np.argmax(falls)) + 1
            raise DataFault(where, f"timestamps run backwards at event {i}: {t[i]} us after {t[i - 1]} us")
        low, high = int(p.min()), int(p.max())
        if low < -1 or high > 1 or (low < 0 and (p == 0).any()):
            raise DataFault(where, f"polarities must be 0 and 1, or -1 and 1, got {np.unique(p)[:5].tolist()}")
    return Recording(
        x.astype(np.uint16),
        y.astype(np.uint16),
        t.astype(np.int64),
        p.astype(np.uint8) if p.dtype.kind in "bu" else (p > 0).astype(np.uint8),
        sensor,
    )
