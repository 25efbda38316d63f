"""Recordings in files, sound and damaged."""

import sys

import numpy as np
import pytest

from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.events.formats import read_recording
from step_ahsar.errors import UserError

X, Y, T, P = [3, 0, 6, 3], [0, 4, 2, 1], [5, 5, 900, 70_000], [1, 0, 0, 1]
SENSOR = (5, 7)


def structured(order="xytp", dtype="i8", names=None):
    names = names or {}
    events = np.zeros(4, [(names.get(key, key), dtype) for key in order])
    for key, values in zip("xytp", (X, Y, T, P), strict=True):
        events[names.get(key, key)] = values
    return events


def pack_bin(x, y, t, p):
    """40-bit events: x, y, polarity and time in 8, 8, 1 and 23 bits."""
    words = [a << 32 | b << 24 | d << 23 | c for a, b, c, d in zip(x, y, t, p, strict=True)]
    return b"".join(int(word).to_bytes(5, "big") for word in words)


def pack_dat(x, y, t, p, version=2):
    shifts = (14, 28) if version >= 2 else (9, 17)
    address = [a | b << shifts[0] | c << shifts[1] for a, b, c in zip(x, y, p, strict=True)]
    header = f"% Data file containing CD events.\n% Version {version}\n% Date 2017-12-12 10:00:00\n".encode()
    return header + bytes([0, 8]) + np.stack((t, address), 1).astype("<u4").tobytes()


def write_aedat4(path, packets, sensor=SENSOR):
    """Packets of events, uncompressed, with the package's own FlatBuffers schema."""
    flatbuffers = pytest.importorskip("flatbuffers")
    pytest.importorskip("dv")
    from dv.fb import EventPacket, IOHeader

    info = (
        '<dv version="2.0"><node name="outInfo" path="/"><node name="0" path="/0/">'
        '<attr key="compression" type="string">NONE</attr><attr key="originalOutputName" type="string">events</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/0/info/">'
        f'<attr key="sizeX" type="int">{sensor[1]}</attr><attr key="sizeY" type="int">{sensor[0]}</attr>'
        "</node></node></node></dv>"
    )
    builder = flatbuffers.Builder(0)
    text = builder.CreateString(info)
    IOHeader.IOHeaderStart(builder)
    IOHeader.IOHeaderAddCompression(builder, 0)
    IOHeader.IOHeaderAddInfoNode(builder, text)
    builder.Finish(IOHeader.IOHeaderEnd(builder), b"IOHE")
    header = bytes(builder.Output())
    body = b""
    event = np.dtype(
        {
            "names": ["t", "x", "y", "p"],
            "formats": ["<i8", "<i2", "<i2", "i1"],
            "offsets": [0, 8, 10, 12],
            "itemsize": 16,
        }
    )
    for x, y, t, p in packets:
        events = np.zeros(len(x), event)
        for name, values in zip("xytp", (x, y, t, p), strict=True):
            events[name] = values
        builder = flatbuffers.Builder(0)
        EventPacket.EventPacketStartEventsVector(builder, len(events))
        builder.head -= events.nbytes
        builder.Bytes[builder.head : builder.head + events.nbytes] = events.tobytes()
        vector = builder.EndVector()
        EventPacket.EventPacketStart(builder)
        EventPacket.EventPacketAddEvents(builder, vector)
        builder.FinishSizePrefixed(EventPacket.EventPacketEnd(builder), b"EVTS")
        packet = bytes(builder.Output())
        body += (0).to_bytes(4, "little") + len(packet).to_bytes(4, "little") + packet
    path.write_bytes(b"#!AER-DAT4.0\r\n" + len(header).to_bytes(4, "little") + header + body)


def same(recording, sensor=SENSOR):
    assert recording.sensor == sensor
    assert [getattr(recording, key).tolist() for key in "xytp"] == [X, Y, T, P]


@pytest.mark.parametrize("order", ["xytp", "txyp", "ptyx"])
@pytest.mark.parametrize("dtype", ["i8", "u4", "f8"])
def test_npy_with_fields_in_any_order(tmp_path, order, dtype):
    np.save(tmp_path / "a.npy", structured(order, dtype))
    same(read_recording(tmp_path / "a.npy"))


def test_npy_with_other_names(tmp_path):
    np.save(tmp_path / "a.npy", structured(names={"t": "timestamp", "p": "polarity"}))
    same(read_recording(tmp_path / "a.npy"))


@pytest.mark.parametrize("dtype", ["i8", "f8"])
def test_npy_of_four_columns(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.stack((X, Y, T, P), 1).astype(dtype))
    same(read_recording(tmp_path / "a.npy", SENSOR))


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X, "y": Y, "t": T, "p": P},
        {"x": X, "y": Y, "t_us": T, "p": P},
        {"x": X, "y": Y, "dt": np.diff(T, prepend=0), "p": P, "sensor": SENSOR, "label": 3},
        {"events": structured("txyp")},
    ],
)
def test_npz(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    same(read_recording(tmp_path / "a.npz"))


def test_the_sensor_is_given_or_stated_or_just_large_enough(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, t=T, p=P, sensor=(10, 20))
    same(read_recording(tmp_path / "a.npz"), (10, 20))
    same(read_recording(tmp_path / "a.npz", (11, 12)), (11, 12))
    np.savez(tmp_path / "b.npz", x=[], y=[], t=[], p=[])
    assert read_recording(tmp_path / "b.npz").sensor == (1, 1)
    assert len(read_recording(tmp_path / "b.npz", SENSOR)) == 0


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
@pytest.mark.parametrize("where", ["", "events/"])
def test_hdf5(tmp_path, suffix, where):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / f"a{suffix}", "w") as file:
        for key, values in zip("xytp", (X, Y, T, P), strict=True):
            file[where + key] = values
    same(read_recording(tmp_path / f"a{suffix}"))
    with h5py.File(tmp_path / f"b{suffix}", "w") as file:
        file["events"] = structured("txyp")
    same(read_recording(tmp_path / f"b{suffix}"))


def test_bin(tmp_path):
    (tmp_path / "a.bin").write_bytes(pack_bin(X, Y, T, P))
    same(read_recording(tmp_path / "a.bin"))
    (tmp_path / "b.bin").write_bytes(b"")
    assert len(read_recording(tmp_path / "b.bin", SENSOR)) == 0


@pytest.mark.parametrize("overflows", [(), (2,), (0, 3, 3, 7)])
def test_bin_is_tonics(tmp_path, overflows):
    tonic = pytest.importorskip("tonic.io")
    rng = np.random.default_rng(0)
    x, y, p = (rng.integers(0, high, 10) for high in (34, 34, 2))
    t = np.sort(rng.integers(0, 2**23, 10))
    y[list(overflows)] = 240  # the marker of an overflow of the clock
    (tmp_path / "a.bin").write_bytes(pack_bin(*(v.tolist() for v in (x, y, t, p))))
    theirs = tonic.read_mnist_file(tmp_path / "a.bin", np.dtype([(name, int) for name in "xytp"]))
    ours = read_recording(tmp_path / "a.bin")
    assert len(ours) == 10 - len(set(overflows))
    assert all((getattr(ours, name) == theirs[name]).all() for name in "xytp")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_dat(tmp_path, version):
    (tmp_path / "a.dat").write_bytes(pack_dat(X, Y, T, P, version))
    same(read_recording(tmp_path / "a.dat"))


def test_dat_without_header(tmp_path):
    raw = pack_dat(X, Y, T, P, 0)
    (tmp_path / "a.dat").write_bytes(raw[raw.rindex(b"\n") + 3 :])
    same(read_recording(tmp_path / "a.dat"))


def test_aedat4(tmp_path):
    write_aedat4(tmp_path / "a.aedat4", [(X[:3], Y[:3], T[:3], P[:3]), (X[3:], Y[3:], T[3:], P[3:])], (10, 20))
    same(read_recording(tmp_path / "a.aedat4"), (10, 20))
    write_aedat4(tmp_path / "b.aedat4", [])
    assert len(read_recording(tmp_path / "b.aedat4")) == 0


def test_aedat4_without_a_reader(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dv", None)
    monkeypatch.setitem(sys.modules, "aedat", None)
    (tmp_path / "a.aedat4").write_bytes(b"#!AER-DAT4.0\r\n")
    with pytest.raises(UserError, match=r"needs the package aedat or dv: pip install 'step-ahsar\[events\]'"):
        read_recording(tmp_path / "a.aedat4")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".bin", ".dat", ".aedat4"])
def test_cut_off(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, structured())
    elif suffix == ".npz":
        np.savez(path, x=X, y=Y, t=T, p=P)
    elif suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["events"] = structured()
    elif suffix == ".aedat4":
        write_aedat4(path, [(X, Y, T, P)])
    else:
        path.write_bytes(pack_bin(X, Y, T, P) if suffix == ".bin" else pack_dat(X, Y, T, P))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataFault, match=rf"a\{suffix}: .*cut off") as caught:
        read_recording(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".aedat4"])
@pytest.mark.parametrize("content", [b"", b"no such thing" * 20])
def test_garbage(tmp_path, suffix, content):
    if suffix == ".aedat4":
        pytest.importorskip("dv")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    fault = "is not a file of arrays" if suffix in (".npy", ".npz") else "damaged or cut off"
    with pytest.raises(DataFault, match=rf"a\{suffix}: {fault}"):
        read_recording(path)


def test_npz_with_a_damaged_member(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=X * 999, y=Y * 999, t=list(range(3996)), p=P * 999)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    with pytest.raises(DataFault, match=r"a\.npz: is cut off or damaged"):
        read_recording(path)


@pytest.mark.parametrize("version", ["% Version 2\n", "% Version 2"])
def test_dat_cut_off_in_its_header(tmp_path, version):
    (tmp_path / "a.dat").write_text(version)
    with pytest.raises(DataFault, match="cut off"):
        read_recording(tmp_path / "a.dat")


def test_dat_of_other_events(tmp_path):
    raw = pack_dat(X, Y, T, P)
    (tmp_path / "a.dat").write_bytes(raw.replace(bytes([0, 8]), bytes([0, 16]), 1))
    with pytest.raises(DataFault, match="events of 16 bytes; only those of 8"):
        read_recording(tmp_path / "a.dat")


def test_no_file(tmp_path):
    with pytest.raises(DataFault, match=r"a\.npy: there is no such file"):
        read_recording(tmp_path / "a.npy")


def test_unknown_type(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3 4")
    with pytest.raises(DataFault, match=r"a\.txt: unknown file type '\.txt'; known: \.npy, \.npz, .*\.bin.*\.aedat4"):
        read_recording(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": Y, "time": T, "p": P}, "has no field 't': events have x, y, t, p, found x, y, time, p"),
        ({"events": structured(names={"p": "charge"})}, "has no field 'p'"),
        ({"x": X}, r"must hold fields x, y, t, p, or an array \[N, 4\] of them, got int64 of shape \[4\]"),
        ({"x": X, "y": Y, "t": np.asarray(T) / 1e6, "p": P}, "t must be whole numbers of microseconds, got float64"),
        ({"x": [3, 0, np.nan, 3], "y": Y, "t": T, "p": P}, "x must be whole numbers, got float64"),
        ({"x": X, "y": Y, "t": [5, 5, 900, 1e300], "p": P}, "t must be whole numbers"),
        ({"x": ["3", "0", "6", "3"], "y": Y, "t": T, "p": P}, "x must be whole numbers, got <U1"),
        ({"x": [X], "y": Y, "t": T, "p": P}, r"x must be a list of numbers, got an array of shape \[1, 4\]"),
        ({"x": [3, 0, 60_000, 3], "y": Y, "t": T, "p": P}, "event 2 has x = 60000, beyond any sensor"),
        ({"x": [3, 0, -6, 3], "y": Y, "t": T, "p": P}, "event 2 has x = -6, outside the sensor"),
        ({"x": X, "y": Y, "t": T[::-1], "p": P}, "timestamps run backwards at event 1: 900 us after 70000 us"),
        ({"x": X, "y": Y, "dt": [5, 0, -3, 9], "p": P}, "timestamps run backwards at event 2"),
        ({"x": X, "y": Y, "t": T, "p": P, "sensor": [7]}, "sensor must be .rows, columns. from 1 to 4096"),
        ({"x": X, "y": Y, "t": T, "p": P, "sensor": [5, 6]}, "event 2 has x = 6, outside the sensor of 5 x 6"),
        ({"x": X, "y": Y, "dt": T, "p": P, "offsets": [0, 4]}, "is a packed data set, not one recording"),
    ],
)
def test_faults(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataFault, match=rf"a\.npz: {message}"):
        read_recording(tmp_path / "a.npz")


def test_an_event_outside_the_given_sensor(tmp_path):
    (tmp_path / "a.bin").write_bytes(pack_bin(X, Y, T, P))
    with pytest.raises(DataFault, match=r"a\.bin: event 2 has x = 6, outside the sensor of 34 x 6"):
        read_recording(tmp_path / "a.bin", (34, 6))


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], object), allow_pickle=True)
    with pytest.raises(DataFault, match="has an array of Python objects"):
        read_recording(tmp_path / "a.npy")
