"""Spoken words: waveforms through a log-mel front end, from folders of files, ``.npz``, or the package `datasets`."""

import importlib.util
import re
import wave
from collections.abc import Sequence
from io import BytesIO
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
from step_ahsar.data.common.files import (
    PARTS,
    class_files,
    existing_root,
    find_parts,
    not_found,
    part_folder,
    read_npz,
)
from step_ahsar.data.common.hub import Rows, open_rows
from step_ahsar.data.common.labels import class_names, find_labels
from step_ahsar.data.common.registry import Splits, register_dataset
from step_ahsar.data.common.splits import check_split, chosen_for_test
from step_ahsar.data.sequences.arrays import (
    Found,
    check_integers,
    check_keys,
    check_offsets,
    found_in,
    outside,
    parts_of,
    series_of_any_shape,
    take,
)
from step_ahsar.errors import UserError, first_line

WINDOW_MS, HOP_MS = 25, 10
LENGTH = 96  # frames, 0.98 s: 99 % of the Free Spoken Digits are shorter
FLOOR = 1e-6  # smallest energy of a band, about that of 16-bit rounding
TEST_TAKES = 5  # number of takes per speaker and word, the first ones, that are the official test set
RATE = 8000

_SOURCE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
_HOLDS = (
    "{label}_{speaker}_{index}.wav (also in a folder recordings), <class>/*.wav, train/<class>/*.wav with "
    "test/<class>/*.wav, or an .npz with wave, offsets, label, index"
)
_NAME = re.compile(r"(?P<label>.+)_(?P<speaker>[^_]+)_(?P<index>\d+)\.\w+")
_HINT = f"; takes 0 to {TEST_TAKES - 1} are for testing, the others for training"
_CHUNK = 256
SUFFIXES = (".wav", ".flac")
_LISTS = {1: "validation_list.txt", 2: "testing_list.txt"}  # of Speech Commands, by the part whose clips they name

Listed = tuple[Path, str | None, int]  # a file, its class, its part as in Found


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


def _features(clips: Sequence[NDArray[Any]], rate: int, mels: int) -> list[NDArray[np.float32]]:
    """Log-mel bands [mels, F_i] of each clip (int16, or float in [-1, 1]), in batches of clips of similar length."""
    length, hop, _ = window(rate)
    features: list[Any] = [None] * len(clips)
    order = np.argsort([len(clip) for clip in clips], kind="stable")
    for start in range(0, len(order), _CHUNK):
        chosen = order[start : start + _CHUNK]
        waves = pad_sequence([torch.from_numpy(_unit(clips[i])) for i in chosen], batch_first=True)
        for i, bands in zip(chosen, log_mel(waves, rate, mels).numpy(), strict=True):
            features[i] = bands[:, : 1 + max(len(clips[i]) - length, 0) // hop]
    return features


def _unit(clip: NDArray[Any]) -> NDArray[np.float32]:
    return clip.astype(np.float32) * np.float32(1 / 32768 if clip.dtype == np.int16 else 1)


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


def _decode(source: Path | BytesIO, where: str | Path) -> tuple[NDArray[Any], int]:
    """Samples of a mono file of any kind that libsndfile reads, and their rate: int16 if it has 16 bits, else float32.

    Raises:
        UserError: the package soundfile is missing; DataFault: the file cannot be used.
    """
    if importlib.util.find_spec("soundfile") is None:
        raise UserError(f"{where} needs the package soundfile to be read: pip install soundfile")
    import soundfile

    try:
        with soundfile.SoundFile(source) as file:
            channels, rate, count, kind = file.channels, file.samplerate, file.frames, file.subtype
            clip = file.read(dtype="int16" if kind == "PCM_16" else "float32")
    except (RuntimeError, OSError) as error:  # soundfile's own errors are RuntimeErrors
        raise DataFault(where, f"cannot be read as audio: {first_line(error)}") from error
    if channels != 1:
        raise DataFault(where, f"must have one channel, got {channels}")
    if not len(clip) or (kind.startswith("PCM") and len(clip) != count):
        raise DataFault(where, f"truncated: {len(clip)} of {count} samples")
    if not np.isfinite(clip).all():
        raise DataFault(where, "has values that are not finite")
    return clip, rate


class _OneRate:
    """The rate of the first clip, which all others must have."""

    def __init__(self) -> None:
        self.rate: int | None = None

    def check(self, rate: int, where: str | Path) -> None:
        """Raises DataFault for a clip of another rate."""
        if self.rate not in (None, rate):
            raise DataFault(
                where,
                f"has {rate} samples per second, those before it have {self.rate}; resample them to one rate",
            )
        self.rate = rate


def _by_name(files: Sequence[Path], config: DataConfig, root: Path) -> list[Listed]:
    """Files whose names say label and take. The label is None for a name of another form."""
    names = {path: match for path in files if (match := _NAME.fullmatch(path.name))}
    tested = np.array([int(match["index"]) < TEST_TAKES for match in names.values()], dtype=bool)
    check_split(parts_of(tested), config, root, _HINT)
    part = dict(zip(names, parts_of(tested).tolist(), strict=True))
    return [(path, names[path]["label"] if path in names else None, part.get(path, 0)) for path in files]


def _by_folder(root: Path, faults: Faults) -> list[Listed]:
    """Files in class folders, which may be in folders of the parts, or be divided by the lists of Speech Commands."""
    parts = find_parts(lambda names: part_folder(root, names))
    if parts[0] is not None:
        return [
            (path, label, number)
            for number, folder in enumerate(parts)
            for label, files in (class_files(folder, SUFFIXES, faults).items() if folder is not None else ())
            for path in files
        ]
    lists = {number: root / name for number, name in _LISTS.items() if (root / name).is_file()}
    # Speech Commands keeps noise for augmentation in a folder _background_noise_.
    classes = class_files(root, SUFFIXES, faults, hidden=(".", "_") if lists else (".",))
    part = {path: 0 for files in classes.values() for path in files}
    for number, listed in lists.items():
        for line, name in enumerate(listed.read_text(encoding="utf-8").splitlines(), start=1):
            if (root / name.strip()) in part:
                part[root / name.strip()] = number
            elif name.strip():
                faults.note(DataFault(f"{listed}:{line}", f"there is no clip {name.strip()} in {root}"))
    return [(path, label, part[path]) for label, files in classes.items() for path in files]


def _from_folder(config: DataConfig, root: Path, faults: Faults) -> tuple[Found, int]:
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    listed = _by_name(files, config, root) if files else _by_folder(root, faults)
    if not listed:
        raise not_found(config, _HOLDS, _SOURCE)
    classes = tuple(sorted({label for _, label, part in listed if part == 0 and label is not None}))
    shared = _OneRate()

    def read(item: Listed) -> tuple[NDArray[Any], int, int, Path]:
        path, label, part = item
        if label is None:
            raise DataFault(path, "its name is not of the form {label}_{speaker}_{index}.wav")
        if label not in classes:
            raise DataFault(path, f"is a {PARTS[part]} clip of {label!r}, of which there is no training clip")
        clip, rate = _read_wav(path) if path.suffix.lower() == ".wav" else _decode(path, path)
        shared.check(rate, path)
        return clip, classes.index(label), part, path

    items = faults.read(listed, read)
    labels, part = (np.array([item[i] for item in items], dtype=np.int64) for i in (1, 2))
    divided = not any(number == 2 for _, _, number in listed)
    if divided:
        part[chosen_for_test(config, [item[3].relative_to(root).as_posix() for item in items], labels)] = 2
    check_split(part, config, root, _HINT if files else "")
    return Found([item[0] for item in items], labels, part, classes, divided), shared.rate or RATE


def _from_npz(config: DataConfig, path: Path, faults: Faults) -> tuple[Found, int]:
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
    labels, part = labels.astype(np.int64), parts_of(takes < TEST_TAKES)
    check_split(part, config, path, _HINT)
    classes = class_names(arrays, labels[part == 0], path)
    wrong = outside(labels, len(classes), "label")
    wrong |= {i: f"clip {i} has values that are not finite" for i, c in enumerate(clips) if not np.isfinite(c).all()}
    kept = faults.without(wrong, len(clips), path)
    check_split(part[kept], config, path, _HINT)
    return Found([clips[i] for i in kept], labels[kept], part[kept], classes), int(rate.item())


def _from_hub(config: DataConfig, rows: Rows, faults: Faults) -> tuple[Found, int]:
    shared = _OneRate()

    def read(index: int) -> NDArray[Any]:
        where = rows.where(index)
        clip, rate = _decode(rows.file(index), where)
        shared.check(rate, where)
        return clip

    found = found_in(rows, read, faults)
    check_split(found.part, config, rows.root)
    return found, shared.rate or RATE


def _as_bands(config: DataConfig, root: Path, found: Found, rate: int, faults: Faults) -> Splits:
    if rate < 1000:
        raise DataFault(root, f"has {rate} samples per second, expected at least 1000")
    features = _features(found.samples, rate, config.sequence.mels)
    return found.splits(features, LENGTH if config.sequence.length is None else None, faults.found)


def open_speech(config: DataConfig) -> Splits:
    """Spoken words as log-mel bands over time, [``sequence.mels``, L].

    Windows last 25 ms and start every 10 ms. Bands are normalised by mean and standard deviation over the frames of the
    training clips. Then clips are padded with zeros or cut to L = 96 frames. If ``sequence.length`` is set they are
    only padded, to the longest clip of all parts.

    Args:
        config: ``root`` is one of the following. Files are mono, all of one rate: ``.wav`` of 16 bits, or ``.flac``.

            - a folder of ``{label}_{speaker}_{index}.wav``, where the first five takes of each speaker and word are the
              test set;
            - ``train/<class>/*`` with ``test/<class>/*`` or ``val/<class>/*`` or both;
            - ``<class>/*``, of which ``testing_list.txt`` and ``validation_list.txt`` name the clips of these parts, as
              in Speech Commands;
            - ``<class>/*`` or ``train/<class>/*`` alone: ``test_share`` of each class is held out for testing;
            - an ``.npz`` of all clips: ``wave`` int16 (or float in [-1, 1]) [S], ``offsets`` [N + 1], ``label`` [N]
              (also called ``y`` or ``labels``), ``index`` (the take) [N], ``sample_rate`` (8000 if absent).

    Raises:
        UserError: not found, no training or no test clips, too many mel bands; DataFault: a file that cannot be used.
    """
    check_keys(config, "mels")
    root, faults = existing_root(config, _HOLDS, _SOURCE), Faults(config)
    found, rate = (_from_folder if root.is_dir() else _from_npz)(config, root, faults)
    return _as_bands(config, root, found, rate, faults)


def open_hub_audio(config: DataConfig) -> Splits:
    """Audio of the package `datasets`, prepared as by :func:`open_speech`; see ``open_rows`` for where they are.

    Raises:
        UserError: what ``open_rows`` raises, too many mel bands, or the package soundfile is missing; DataFault: a clip
            that cannot be used.
    """
    check_keys(config, "mels")
    faults = Faults(config)
    rows = open_rows(config, "audio", faults)
    found, rate = _from_hub(config, rows, faults)
    return _as_bands(config, rows.root, found, rate, faults)


register_dataset(series_of_any_shape("speech", open=open_speech))
register_dataset(series_of_any_shape("hfds_audio", open=open_hub_audio, needs_title=True, has_columns=True))
