#!/usr/bin/env python
"""Events per second from recordings to frames, ours against tonic's ToFrame, in one run: A B A B ..., medians.

    .venv/bin/python scripts/benchmark_events.py [packed.npz] [--pairs N] [--steps T ...]

The recordings are made up, of N-MNIST's size (34 x 34, 4 thousand events) and of DVS128 Gesture's (128 x 128, 300
thousand events); a packed .npz file (see the data set `events`) adds real ones. Both sides get the same events, each
in the form it works on, and frames are compared before anything is timed: all but the last must be equal, and of the
last, ToFrame leaves out the events at the end.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from tonic.transforms import ToFrame

from step_ahsar.config import DataConfig, EventsConfig
from step_ahsar.data.cache import FrameCache
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.representations import to_frames
from step_ahsar.data.events.stored import open_events

SIZES = {"N-MNIST size": ((34, 34), 4_000, 300_000, 50), "DVS128 Gesture size": ((128, 128), 300_000, 6_000_000, 3)}
DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])


def synthetic(sensor: tuple[int, int], events: int, duration: int, seed: int) -> Recording:
    rng = np.random.default_rng(seed)
    return Recording(
        rng.integers(0, sensor[1], events, dtype=np.uint16),
        rng.integers(0, sensor[0], events, dtype=np.uint16),
        np.sort(rng.integers(0, duration, events)),
        rng.integers(0, 2, events, dtype=np.uint8),
        sensor,
    )


def structured(recording: Recording) -> np.ndarray:
    events = np.empty(len(recording), DTYPE)
    for name in "xytp":
        events[name] = getattr(recording, name)
    return events


def measure(title: str, recordings: list[Recording], steps: int, pairs: int) -> None:
    theirs_in = [structured(recording) for recording in recordings]
    height, width = recordings[0].sensor
    total = sum(map(len, recordings))
    for name, option in (("time", "n_time_bins"), ("count", "n_event_bins")):
        config = EventsConfig(representation=name)
        transform = ToFrame(sensor_size=(width, height, 2), **{option: steps})
        for recording, events in zip(recordings, theirs_in, strict=True):
            ours, theirs = to_frames(recording, config, steps), transform(events)
            if not ((ours[:-1] == theirs[:-1]).all() and (ours[-1] >= theirs[-1]).all() and ours.sum() == len(events)):
                raise SystemExit(f"{title}, {name}: frames differ")
        times: tuple[list[float], list[float]] = ([], [])
        for i in range(pairs + 2):
            start = time.perf_counter()
            for recording in recordings:
                to_frames(recording, config, steps)
            middle = time.perf_counter()
            for events in theirs_in:
                transform(events)
            end = time.perf_counter()
            if i >= 2:  # the first ones warm up
                times[0].append(middle - start)
                times[1].append(end - middle)
        ratios = sorted(b / a for a, b in zip(*times, strict=True))
        ours_rate, theirs_rate = (total / statistics.median(each) / 1e6 for each in times)
        low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
        print(
            f"{title:<22} {name:<6} T {steps:<3} {ours_rate:8.1f} {theirs_rate:8.1f} "
            f"{statistics.median(ratios):6.1f} [{low:.1f}, {high:.1f}]",
            flush=True,
        )


def measure_reading(path: str, steps: int) -> None:
    """The packed file's recordings, read and made into frames, and read back from the cache."""
    samples = open_events(DataConfig(name="events", root=path)).train
    count = min(len(samples), 500)
    with TemporaryDirectory() as folder:
        cache = FrameCache(samples, lambda recording: to_frames(recording, EventsConfig(), steps), Path(folder))
        for title, step in (
            ("read and make frames", lambda i: to_frames(samples[i][0], EventsConfig(), steps)),
            ("the same, first pass of the cache", cache.__getitem__),
            ("from the cache", cache.__getitem__),
        ):
            start = time.perf_counter()
            for i in range(count):
                step(i)
            print(f"{title:<40} {count / (time.perf_counter() - start):10.0f} samples/s, T {steps}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", nargs="?", help="a packed .npz file of real recordings")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 16])
    args = parser.parse_args()
    print(f"million events/s; numpy {np.__version__}, {args.pairs} pairs; ratio: median [10 %, 90 %]")
    print(f"{'recordings':<22} {'':<6} {'':<5} {'ours':>8} {'tonic':>8} {'ratio':>6}")
    for title, (sensor, events, duration, count) in SIZES.items():
        recordings = [synthetic(sensor, events, duration, seed) for seed in range(count)]
        for steps in args.steps:
            measure(title, recordings, steps, args.pairs)
    if args.packed:
        samples = open_events(DataConfig(name="events", root=args.packed)).train
        recordings = [samples[i][0] for i in range(min(len(samples), 200))]
        for steps in args.steps:
            measure("real, " + os.path.basename(args.packed)[:14], recordings, steps, args.pairs)
        measure_reading(args.packed, args.steps[0])


if __name__ == "__main__":
    main()
