"""Spoken words: waveforms through a log-mel front end, in the layout of the Free Spoken Digit Dataset."""

import re
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, not_found, read_npz
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.labels import class_names, find_labels
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.sequences.arrays import (
    PaddedSeries,
    check_integers,
    check_keys,
    check_offsets,
    check_split,
    outside,
    standardise,
    take,
)
from step_ahsar.errors import UserError

WINDOW_MS, HOP_MS = 25, 10
LENGTH = 96  # frames, 0.98 s: 99 % of the Free Spoken Digits are shorter
FLOOR = 1e-6  # smallest energy of a band, about that of 16-bit rounding
TEST_TAKES = 5  # number of takes per speaker and word, the first ones, that are the official test set
RATE = 8000

_SOURCE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_HOLDS = "{label}_{speaker}_{index}.wav (also in a folder recordings), or an .npz with wave, offsets, label, index"
_NAME = re.compile(r"(?P<label>.+)_(?P<speaker>[^_]+)_(?P<index>\d+)\.wav", re.IGNORECASE)
_HINT = f"; takes 0 to {TEST_TAKES - 1} are for testing, the others for training"
_CHUNK = 256

# Clips [S_i], their classes, whether they are of the test set; names of the classes; samples per second.
Found = tuple[list[NDArray[Any]], NDArray[Any], NDArray[np.bool_], tuple[str, ...], int]


def window(rate: int) -> tuple[int, int, int]:
    """Samples of a window (25 ms), of a hop (10 ms), and of the transform (the next power of two of the window)."""
    length = round(rate * WINDOW_MS / 1000)
    return length, round(rate * HOP_MS / 1000), 1 << (length - 1).bit_length()


def mel_filters(rate: int, mels: int) -> NDArray[np.float64]:
    """Triangles of height 1, evenly spaced from 0 to rate / 2 on HTK's mel scale 2595 log10(1 + f / 700).

    Returns:
        Weights of the lines of a power spectrum, [lines, mels].

    Raises:
        UserError: so many bands that one of them contains no line of the spectrum.
    """
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    transform = window(rate)[2]
    lines = np.arange(transform // 2 + 1)[:, None] * rate / transform
    rising = (lines - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - lines) / (edges[2:] - edges[1:-1])
    weights = np.maximum(np.minimum(rising, falling), 0)
    if not weights.any(axis=0).all():
        raise UserError(
            f"data.sequence.mels must be smaller, got {mels}: at {rate} Hz the spectrum's lines are "
            f"{rate / transform:g} Hz apart, and some bands are narrower"
        )
    return weights


def log_mel(waves: Tensor, rate: int, mels: int) -> Tensor:
    """Logarithm of the energy in mel bands, under a periodic Hann window.

    Frame f covers the samples from f * hop to f * hop + window. Frames do not extend beyond the end of the wave, except
    that a wave shorter than a window gives one frame, padded with zeros.

    Args:
        waves: in [-1, 1], [B, S].
        rate: samples per second.
        mels: bands.

    Returns:
        [B, mels, F] with F = 1 + max(S - window, 0) // hop.
    """
    length, hop, transform = window(rate)
    margin = transform - length  # torch centres the window in the transform
    waves = pad(waves, (margin // 2, margin - margin // 2 + max(length - waves.shape[1], 0)))
    hann = torch.hann_window(length, dtype=waves.dtype)
    spectrum = torch.stft(waves, transform, hop, length, hann, center=False, return_complex=True)
    energy = spectrum.real.square() + spectrum.imag.square()
    filters = torch.from_numpy(mel_filters(rate, mels)).to(energy.dtype)
    return (filters.T @ energy).clamp(min=FLOOR).log()


def _features(clips: Sequence[NDArray[np.float32]], rate: int, mels: int) -> list[NDArray[np.float32]]:
    """Log-mel bands [mels, F_i] of each clip, computed in batches of clips of similar length."""
    length, hop, _ = window(rate)
    features: list[Any] = [None] * len(clips)
    order = np.argsort([len(clip) for clip in clips], kind="stable")
    for start in range(0, len(order), _CHUNK):
        chosen = order[start : start + _CHUNK]
        waves = pad_sequence([torch.from_numpy(clips[i]) for i in chosen], batch_first=True)
        for i, bands in zip(chosen, log_mel(waves, rate, mels).numpy(), strict=True):
            features[i] = bands[:, : 1 + max(len(clips[i]) - length, 0) // hop]
    return features


def _read_wav(path: Path) -> tuple[NDArray[Any], int]:
    """Samples of a mono 16-bit file, and their rate."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(count)
    except (wave.Error, EOFError, OSError) as error:
        raise DataFault(path, f"cannot be read as WAV: {error or 'it ends too early'}") from error
    if (channels, width) != (1, 2):
        raise DataFault(path, f"must have one channel of 16 bits, got {channels} of {8 * width}")
    if len(data) != 2 * count or not count:
        raise DataFault(path, f"truncated: {len(data) // 2} of {count} samples")
    return np.frombuffer(data, "<i2"), rate


def _from_folder(config: DataConfig, root: Path, faults: Faults) -> Found:
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav")
    if not files:
        raise not_found(config, _HOLDS, _SOURCE)
    names = {path: match for path in files if (match := _NAME.fullmatch(path.name))}
    tested = {path: int(match["index"]) < TEST_TAKES for path, match in names.items()}
    classes = tuple(sorted({match["label"] for path, match in names.items() if not tested[path]}))
    rates: list[int] = []

    def read(path: Path) -> tuple[NDArray[np.int16], int, bool]:
        if path not in names:
            raise DataFault(path, "its name is not of the form {label}_{speaker}_{index}.wav")
        label = names[path]["label"]
        if label not in classes:
            raise DataFault(path, f"is a test clip of {label!r}, of which there is no training clip")
        clip, rate = _read_wav(path)
        if rates and rate != rates[0]:
            raise DataFault(path, f"has {rate} samples per second, the files before it have {rates[0]}")
        rates.append(rate)
        return clip, classes.index(label), tested[path]

    check_split(np.array(list(tested.values()), dtype=bool), config, root, _HINT)
    items = faults.read(files, read)
    clips = [clip for clip, _, _ in items]
    labels, is_test = np.array([label for _, label, _ in items]), np.array([test for _, _, test in items], dtype=bool)
    return clips, labels, is_test, classes, rates[0] if rates else RATE


def _from_npz(config: DataConfig, path: Path, faults: Faults) -> Found:
    arrays = read_npz(path)
    samples, offsets, labels, takes = take(arrays, ("wave", "offsets", find_labels(arrays), "index"), path)
    if samples.ndim != 1 or not (samples.dtype == np.int16 or samples.dtype.kind == "f"):
        raise DataFault(path, f"wave must be int16 or float [S], got {samples.dtype} {list(samples.shape)}")
    clips = [samples[part] for part in check_offsets(offsets, len(samples), path)]
    check_integers(labels, "label", path, len(clips))
    check_integers(takes, "index", path, len(clips))
    rate = next((arrays[key] for key in ("sample_rate", "rate") if key in arrays), np.array(RATE))
    if rate.size != 1:
        raise DataFault(path, f"sample_rate must be one number, got {rate.size}")
    labels, is_test = labels.astype(np.int64), takes < TEST_TAKES
    check_split(is_test, config, path, _HINT)
    classes = class_names(arrays, labels[~is_test], path)
    wrong = outside(labels, len(classes), "label")
    wrong |= {i: f"clip {i} has values that are not finite" for i, c in enumerate(clips) if not np.isfinite(c).all()}
    kept = faults.without(wrong, len(clips), path)
    return [clips[i] for i in kept], labels[kept], is_test[kept], classes, int(rate.item())


def open_speech(config: DataConfig) -> Splits:
    """Spoken words as log-mel bands over time, [``sequence.mels``, L].

    The first five takes of each speaker and word are the test set.

    Windows last 25 ms and start every 10 ms. Bands are normalised by mean and standard deviation over the frames of the
    training clips. Then clips are padded with zeros or cut to L = 96 frames. If ``sequence.length`` is set they are
    only padded, to the longest clip of both splits.

    Args:
        config: ``root`` is a folder of ``{label}_{speaker}_{index}.wav`` files (mono, 16 bits), or an ``.npz`` of all
            clips: ``wave`` int16 (or float in [-1, 1]) [S], ``offsets`` [N + 1], ``label`` [N] (also called ``y`` or
            ``labels``), ``index`` (the take) [N], ``sample_rate`` (8000 if absent).

    Raises:
        UserError: not found, no training or no test clips, too many mel bands; DataFault: a file that cannot be used.
    """
    check_keys(config, "mels")
    root, faults = existing_root(config, _HOLDS, _SOURCE), Faults(config)
    read = _from_folder if root.is_dir() else _from_npz
    clips, labels, is_test, classes, rate = read(config, root, faults)
    check_split(is_test, config, root, _HINT)
    if rate < 1000:
        raise DataFault(root, f"has {rate} samples per second, expected at least 1000")
    scale = np.float32(1 / 32768 if clips[0].dtype == np.int16 else 1)
    features = _features([clip.astype(np.float32) * scale for clip in clips], rate, config.sequence.mels)
    train, test = standardise(*([features[i] for i in np.flatnonzero(is_test == part)] for part in (False, True)))
    longest = max(bands.shape[1] for bands in (*train, *test))
    length = LENGTH if config.sequence.length is None else longest
    return Splits(
        train=PaddedSeries(train, labels[~is_test], length),
        test=PaddedSeries(test, labels[is_test], length),
        classes=classes,
        fingerprint=fingerprint_arrays([*clips, labels, is_test]),
        skipped=tuple(faults.found),
        in_chans=config.sequence.mels,
        size=length,
    )


register_dataset(
    DatasetSpec(
        "speech", None, None, (), (), None, open_speech, mirrors=False, modality="sequence", ndim=1, titles=None
    )
)
