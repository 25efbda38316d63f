"""What a recording is, and what is none."""

import numpy as np
import pytest

from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.events.recording import make_recording


def make(x=(0, 6, 3), y=(4, 0, 2), t=(10, 10, 20), p=(0, 1, 1)):
    return make_recording(*(np.asarray(values) for values in (x, y, t, p)), sensor=(5, 7), where="a.npy")


def test_types_are_the_same_whatever_was_read():
    recording = make()
    assert [values.dtype for values in (recording.x, recording.y, recording.t, recording.p)] == [
        np.uint16,
        np.uint16,
        np.int64,
        np.uint8,
    ]
    assert len(recording) == 3
    assert recording.sensor == (5, 7)
    assert recording.x.tolist() == [0, 6, 3]
    assert recording.t.tolist() == [10, 10, 20]


@pytest.mark.parametrize(
    "p", [np.array([0, 1, 1]), np.array([False, True, True]), np.array([-1, 1, 1], np.int8), np.array([0, 1, 1], "u1")]
)
def test_polarities_as_they_are_written(p):
    assert make(p=p).p.tolist() == [0, 1, 1]


def test_a_recording_of_one_polarity():
    assert make(p=(-1, -1, -1)).p.tolist() == [0, 0, 0]
    assert make(p=(1, 1, 1)).p.tolist() == [1, 1, 1]


def test_no_event():
    assert len(make((), (), (), ())) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": (0, 1)}, "a.npy: x, y, t and p differ in length: 2, 3, 3, 3"),
        ({"x": (0, 7, 3)}, r"a.npy: event 1 has x = 7, outside the sensor of 5 x 7 \(rows x columns\)"),
        ({"x": (0, -1, 3)}, "a.npy: event 1 has x = -1, outside"),
        ({"y": (0, 0, 5)}, "a.npy: event 2 has y = 5, outside"),
        ({"x": np.array([0, 70_000, 0])}, "a.npy: event 1 has x = 70000, outside"),
        ({"t": (10, 9, 20)}, "a.npy: timestamps run backwards at event 1: 9 us after 10 us"),
        ({"t": np.array([10, 9, 20], np.uint32)}, "timestamps run backwards at event 1"),
        ({"p": (0, 2, 1)}, r"a.npy: polarities must be 0 and 1, or -1 and 1, got \[0, 1, 2\]"),
        ({"p": (0, -1, 1)}, r"got \[-1, 0, 1\]"),
        ({"p": np.array([0, 255, 1], np.uint8)}, r"got \[0, 1, 255\]"),
    ],
)
def test_faults(change, message):
    with pytest.raises(DataFault, match=message):
        make(**change)
