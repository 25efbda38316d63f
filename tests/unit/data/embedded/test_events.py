"""The digits as a simulated event camera sees them."""

import numpy as np

from step_ahsar.config import DataConfig
from step_ahsar.data import derive_seed, find_dataset
from step_ahsar.data.embedded.digits import open_digits
from step_ahsar.data.embedded.events import SimulatedDigits, open_digits_events, record_saccades
from step_ahsar.data.events.recording import make_recording


def still(rng_seed=0):
    return np.random.default_rng(rng_seed)


def events(recording):
    return list(zip(recording.t.tolist(), recording.p.tolist(), strict=True))


def test_digits_events():
    splits, digits, spec = open_digits_events(DataConfig()), open_digits(DataConfig()), find_dataset("digits_events")
    assert (len(splits.train), len(splits.test), spec.num_classes) == (1297, 500, 10)
    recording, label = splits.test[17]
    assert label == digits.test[17][1]
    assert recording.sensor == (spec.size, spec.size) == (32, 32)
    make_recording(recording.x, recording.y, recording.t, recording.p, recording.sensor, "digit")
    assert recording.t.min() >= 0
    assert recording.t.max() <= 300_000
    assert splits.test[17][0] is recording  # made once
    share = [np.mean((recording.t >= start) & (recording.t < start + 100_000)) for start in (0, 100_000, 200_000)]
    assert min(share) > 0.2  # three saccades
    assert 0.3 < recording.p.mean() < 0.7


def test_recordings_do_not_depend_on_which_were_asked_for_before():
    digits = open_digits(DataConfig()).train
    one, other = (SimulatedDigits(digits.pixels, digits.labels, "train") for _ in range(2))
    assert len(other[3][0])
    assert events(one[4][0]) == events(other[4][0])
    assert events(one[4][0]) != events(SimulatedDigits(digits.pixels, digits.labels, "test")[4][0])
    again = record_saccades(digits.pixels[4] / 255, np.random.default_rng(derive_seed("digits_events", "train", 4)))
    assert events(again) == events(one[4][0])


def test_the_digit_can_be_seen_in_the_events():
    """Events come where the moving scan has edges: all within its reach, none but noise around it."""
    scan = np.zeros((8, 8))
    scan[:, 3:5] = 1  # an upright bar, about 6 pixels wide on the sensor
    recording = record_saccades(scan, still(0))
    columns = np.bincount(recording.x, minlength=32)
    assert columns[8:24].sum() > 0.9 * len(recording)
    black = record_saccades(np.zeros((8, 8)), still(0))
    assert len(black) < 0.3 * len(recording)  # noise alone


def test_fingerprint_is_stable():
    assert open_digits_events(DataConfig()).fingerprint.startswith("sha256:c313e99f6dd10ced")
