"""Reading recordings from files."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.files import DAMAGES, read_numpy
from step_ahsar.data.events.recording import Recording, make_recording
from step_ahsar.errors import UserError

NAMES = {
    "x": ("x",),
    "y": ("y",),
    "t": ("t", "t_us", "ts", "timestamp"),
    "p": ("p", "pol", "polarity", "on"),
}
BIGGEST = 4096  # pixels along an axis; no event camera has more, so a larger coordinate means a damaged file
EXTRA = "pip install 'step-ahsar[events]'"


class Events(NamedTuple):
    """The arrays of a file, not checked yet, and the sensor (H, W) if the file states it."""

    x: NDArray
    y: NDArray
    t: NDArray
    p: NDArray
    sensor: tuple[int, int] | None = None


def read_recording(path: Path, sensor: tuple[int, int] | None = None) -> Recording:
    """Reads a recording from a file. The suffix of the file decides its format.

    - ``.npy``: a structured array with fields x, y, t, p (or ts, timestamp; pol, polarity), or [N, 4] with x, y, t, p
      in this order.
    - ``.npz``, ``.h5``, ``.hdf5``: arrays x, y, t, p by the same names (in HDF5 at the root or in a group ``events``);
      ``dt``, the time since the previous event, in place of t; or one array as in a ``.npy``.
    - ``.bin``: 40-bit events of N-MNIST and N-Caltech101 (ATIS): x, y, polarity and time in 8, 8, 1 and 23 bits.
    - ``.dat``: Prophesee's, with its header, as of N-Cars.
    - ``.aedat4``: through the package ``aedat`` or ``dv``, whichever is installed.

    Times are microseconds, and whole numbers whatever their type.

    Args:
        path: the file.
        sensor: (H, W) in pixels; None = as the file states, else the smallest that has room for its events.

    Raises:
        DataFault: no such file, an unknown type, one that is damaged or cut off, unknown fields, and what
            :func:`make_recording` raises.
        UserError: the package that reads the type is not installed.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise DataFault(path, f"unknown file type {path.suffix or 'without suffix'!r}; known: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataFault(path, "there is no such file")
    return checked(read(path), sensor, path)


def checked(events: Events, sensor: tuple[int, int] | None, where: str | Path) -> Recording:
    """Makes a recording of the arrays of a file. ``sensor`` is as in :func:`read_recording`."""
    x, y, t, p = (whole(name, values, where) for name, values in zip("xytp", events[:4], strict=True))
    sensor = sensor or events.sensor or (extent("y", y, where), extent("x", x, where))
    return make_recording(x, y, t, p, sensor, where)


def fields(arrays: Mapping[str, Any], where: str | Path) -> Events:
    """The events in named arrays. Raises DataFault if a name is missing."""
    found: dict[str, NDArray] = {}
    for name, aliases in NAMES.items():
        alias = next((alias for alias in aliases if alias in arrays), None)
        if alias is not None:
            found[name] = np.asarray(arrays[alias])
        elif name == "t" and "dt" in arrays:
            found[name] = np.cumsum(whole("dt", np.asarray(arrays["dt"]), where), dtype=np.int64)
        else:
            raise DataFault(
                where, f"has no field {name!r}: events have x, y, t, p, found {', '.join(arrays) or 'nothing'}"
            )
    sensor = arrays.get("sensor")
    return Events(**found, sensor=None if sensor is None else stated_sensor(np.asarray(sensor), where))


def stated_sensor(values: NDArray, where: str | Path) -> tuple[int, int]:
    """The sensor (H, W) that a file states. Raises DataFault if it is something else."""
    if values.shape != (2,) or values.dtype.kind not in "ui" or values.min() < 1 or values.max() > BIGGEST:
        raise DataFault(where, f"sensor must be (rows, columns) from 1 to {BIGGEST}, got {values.tolist()}")
    return int(values[0]), int(values[1])


def whole(name: str, values: NDArray, where: str | Path) -> NDArray:
    """The values as integers. Raises DataFault unless they are whole numbers, of an integer or a float type."""
    if values.ndim != 1:
        raise DataFault(where, f"{name} must be a list of numbers, got an array of shape {list(values.shape)}")
    if values.dtype.kind in "uib":
        return values
    if values.dtype.kind != "f" or not (np.abs(values) < 2**53).all() or (values != np.floor(values)).any():
        unit = " of microseconds" if name in ("t", "dt") else ""
        raise DataFault(where, f"{name} must be whole numbers{unit}, got {values.dtype} with {values[:3].tolist()} ...")
    return values.astype(np.int64)


def extent(name: str, values: NDArray, where: str | Path) -> int:
    """The smallest number of pixels along an axis that has room for these coordinates."""
    extent = int(values.max()) + 1 if len(values) else 1
    if extent > BIGGEST:
        raise DataFault(where, f"event {int(np.argmax(values))} has {name} = {extent - 1}, beyond any sensor")
    return max(extent, 1)


def _of_array(array: NDArray, path: Path) -> Events:
    if array.dtype.names:
        return fields({name: array[name].reshape(-1) for name in array.dtype.names}, path)
    if array.ndim == 2 and array.shape[1] == 4:
        return Events(*array.T)
    raise DataFault(
        path, f"must hold fields x, y, t, p, or an array [N, 4] of them, got {array.dtype} of shape {list(array.shape)}"
    )


def _read_numpy(path: Path) -> Events:
    loaded = read_numpy(path)
    if isinstance(loaded, np.ndarray):
        return _of_array(loaded, path)
    if "offsets" in loaded:
        raise DataFault(path, "is a packed data set, not one recording; give it as data.root of dataset 'events'")
    if len(loaded) == 1:
        return _of_array(next(iter(loaded.values())), path)
    return fields(loaded, path)


def _read_bin(path: Path) -> Events:
    raw = np.fromfile(path, np.uint8)
    if len(raw) % 5:
        raise DataFault(path, f"cut off: {len(raw)} bytes are not a multiple of 5, the size of an event")
    x, y, third, fourth, fifth = raw.reshape(-1, 5).T.astype(np.int64)
    t = (third & 127) << 16 | fourth << 8 | fifth
    marker = y == 240  # not an event: the times that follow have to be raised by 2^13 us
    if not marker.any():
        return Events(x, y, t, third >> 7)
    t += np.cumsum(marker) << 13
    return Events(*(values[~marker] for values in (x, y, t, third >> 7)))


def _read_dat(path: Path) -> Events:
    """Lines that start with %, a byte for the events' type, one for their size, and pairs of little-endian uint32."""
    raw = path.read_bytes()
    start, version, size = 0, 0, 8
    while raw[start : start + 1] == b"%":
        end = raw.find(b"\n", start) + 1
        if not end:
            raise DataFault(path, "cut off in its header")
        words = raw[start:end].split()
        if len(words) > 2 and words[1] == b"Version":
            version = int(words[2]) if words[2].isdigit() else 0
        start = end
    if start:
        if len(raw) < start + 2:
            raise DataFault(path, "cut off after its header")
        size = raw[start + 1]
        start += 2
    if size != 8:
        raise DataFault(path, f"holds events of {size} bytes; only those of 8 bytes are known")
    if (len(raw) - start) % size:
        raise DataFault(path, f"cut off: {len(raw) - start} bytes of events are no multiple of {size}")
    t, address = np.frombuffer(raw, "<u4", offset=start).reshape(-1, 2).T.astype(np.int64)
    if version < 2:
        return Events(address & 0x1FF, address >> 9 & 0xFF, t, address >> 17 & 1)
    return Events(address & 0x3FFF, address >> 14 & 0x3FFF, t, address >> 28 & 1)


def _read_hdf5(path: Path) -> Events:
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: reading HDF5 needs the package h5py: {EXTRA}") from None
    try:
        with h5py.File(path, "r") as file:
            group = file.get("events", file)
            whole = isinstance(group, h5py.Dataset)
            parts = {"events": group} if whole else group
            arrays = {name: item[()] for name, item in parts.items() if isinstance(item, h5py.Dataset)}
    except DAMAGES as error:
        raise DataFault(path, f"damaged or cut off: {error}") from error
    return _of_array(arrays["events"], path) if whole else fields(arrays, path)


def _read_aedat4(path: Path) -> Events:
    with path.open("rb") as file:
        if not file.read(10).startswith(b"#!AER-DAT4"):
            raise DataFault(path, "damaged or cut off: it does not start with #!AER-DAT4")
    for read in (_read_with_aedat, _read_with_dv):
        try:
            return read(path)
        except ImportError:
            continue
        except UserError:
            raise
        except Exception as error:  # each of the packages raises what its decoders do
            raise DataFault(path, f"damaged or cut off: {error or type(error).__name__}") from error
    raise UserError(f"{path}: reading .aedat4 needs the package aedat or dv: {EXTRA}")


def _read_with_aedat(path: Path) -> Events:
    import aedat  # type: ignore[import-not-found]

    decoder = aedat.Decoder(str(path))
    streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    if not streams:
        raise DataFault(path, "holds no stream of events")
    number, stream = min(streams.items())
    packets = [packet["events"] for packet in decoder if packet["stream_id"] == number]
    return _joined(packets, (stream["height"], stream["width"]))


def _read_with_dv(path: Path) -> Events:
    from dv import AedatFile  # type: ignore[import-untyped]

    with AedatFile(str(path)) as file:
        if "events" not in file.names:
            raise DataFault(path, f"holds no stream of events; its streams: {', '.join(file.names) or 'none'}")
        stream = file["events"]
        return _joined(stream.numpy(), stream.size)


def _joined(packets: Iterable[NDArray], sensor: tuple[int, int]) -> Events:
    """The events of packets, which are structured arrays. The two packages name their fields differently."""
    parts = [packet for packet in packets]  # noqa: C416  # list() would ask dv for a length, which raises an error
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Events(nothing, nothing, nothing, nothing, sensor)
    events = np.concatenate(parts)
    names = {key: next(name for name in NAMES[key] if name in (events.dtype.names or ())) for key in "xytp"}
    return Events(**{key: events[name] for key, name in names.items()}, sensor=sensor)


_READERS: dict[str, Callable[[Path], Events]] = {
    ".npy": _read_numpy,
    ".npz": _read_numpy,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".bin": _read_bin,
    ".dat": _read_dat,
    ".aedat4": _read_aedat4,
}
SUFFIXES = tuple(_READERS)
