"""Frames on disk are the frames that were made."""

from dataclasses import fields, replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest

from step_ahsar.config import EventsConfig
from step_ahsar.data.cache import FrameCache
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.representations import to_frames
from step_ahsar.data.scenes.scene import make_scene
from step_ahsar.errors import UserError

RECORDING = Recording(
    np.array([0, 6, 3, 3], np.uint16),
    np.array([0, 4, 2, 2], np.uint16),
    np.array([5, 10, 20, 30], np.int64),
    np.array([0, 1, 1, 1], np.uint8),
    (5, 7),
)


class Samples:
    """Counts how often it was read."""

    def __init__(self, *targets, repeats=1):
        self.targets, self.repeats, self.reads = targets, repeats, 0

    def __getitem__(self, index):
        self.reads += 1
        r = self.repeats
        parts = (values.repeat(r) for values in (RECORDING.x, RECORDING.y, RECORDING.t, RECORDING.p))
        return Recording(*parts, RECORDING.sensor), self.targets[index]

    def __len__(self):
        return len(self.targets)


def cache(tmp_path, samples, name="time"):
    return FrameCache(samples, partial(to_frames, config=EventsConfig(representation=name), time_steps=3), tmp_path)


@pytest.mark.parametrize("repeats", [1, 255, 256])
@pytest.mark.parametrize("name", ["time", "count", "voxel_grid", "time_surface"])
def test_what_is_read_back_is_what_was_made(tmp_path, name, repeats):
    samples = Samples(7, 2, repeats=repeats)
    cached = cache(tmp_path, samples, name)
    made = to_frames(samples[1][0], EventsConfig(representation=name), 3)
    samples.reads = 0
    for _ in range(3):
        frames, target = cached[1]
        assert frames.dtype == made.dtype
        assert (frames == made).all()
        assert target == 2
        frames[:] = 0  # it is the reader's own
    assert samples.reads == 1
    assert len(cached) == 2
    assert cached[-1][1] == 2
    assert samples.reads == 1


def test_small_counts_take_a_byte(tmp_path):
    cache(tmp_path, Samples(0))[0]
    (path,) = tmp_path.iterdir()
    assert np.load(path).dtype == np.uint8


def test_another_process_reads_it_without_the_recording(tmp_path):
    cache(tmp_path, Samples(4))[0]
    later = Samples(4)
    assert cache(tmp_path, later)[0][1] == 4
    assert later.reads == 0


@pytest.mark.parametrize("bare", [False, True])
def test_scenes(tmp_path, bare):
    masks = np.zeros((2, 5, 7), bool)
    masks[0, 1:3] = True
    scene = make_scene("a.npz", (5, 7), [[0, 1, 7, 3], [1, 1, 2, 2]], [3, 1], masks, np.eye(5, 7, dtype=np.uint8))
    if bare:
        scene = replace(
            scene, masks=None, classes=None, boxes=scene.boxes[:0], labels=scene.labels[:0], crowd=np.zeros(0, bool)
        )
    cached = cache(tmp_path, Samples(scene))
    cached[0]
    read = cached[0][1]
    for field in fields(scene):
        old, new = getattr(scene, field.name), getattr(read, field.name)
        if isinstance(old, np.ndarray):
            assert new.dtype == old.dtype
            assert new.shape == old.shape
            assert (new == old).all()
        else:
            assert new == old


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage"])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    samples = Samples(3)
    cached = cache(tmp_path, samples)
    frames, _ = cached[0]
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    broken = {"cut": sound[:-9], "flip": sound[:150] + bytes([sound[150] ^ 1]) + sound[151:], "empty": b""}
    path.write_bytes(broken.get(damage, b"garbage" * 99))
    again, target = cached[0]
    assert (again == frames).all()
    assert target == 3
    assert samples.reads == 2
    assert path.read_bytes() == sound
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def _read_all(folder, rounds):
    for _ in range(rounds):
        cached = cache(folder, Samples(*range(5)))
        for i in range(5):
            assert cached[i][0].sum() == 4
            assert cached[i][1] == i
            (folder / f"{i:07d}.npy").unlink(missing_ok=True)


def test_several_processes_write_at_once(tmp_path):
    with get_context("fork").Pool(3) as pool:
        pool.starmap(_read_all, [(tmp_path, 20)] * 3)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/cache/0000000\.npy: Not a directory; set data\.cache to"):
        cache(tmp_path / "file" / "cache", Samples(0))[0]
