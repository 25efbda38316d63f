"""Spoken words and their front end."""

import os
import time
import wave

import numpy as np
import pytest
import torch

from step_ahsar.config import DataConfig, SequenceConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.data.sequences.audio import log_mel, mel_filters
from step_ahsar.errors import UserError

RATE = 8000


def clip(length, seed=0, pitch=440):
    rng = np.random.default_rng(seed)
    sound = 8000 * np.sin(2 * np.pi * pitch * np.arange(length) / RATE) + rng.normal(0, 500, length)
    return sound.astype(np.int16)


def save_wav(path, samples, rate=RATE, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples).tobytes())


CLIPS = {
    (label, take): clip(900 + 400 * take + label, take, 300 + 500 * label) for label in (0, 1) for take in range(8)
}


@pytest.fixture
def folder(tmp_path):
    for (label, take), samples in CLIPS.items():
        save_wav(tmp_path / f"{label}_ann_{take}.wav", samples)
    return tmp_path


def save_npz(path, scale=None, **changes):
    samples = list(CLIPS.values())
    sound = np.concatenate(samples) if scale is None else np.concatenate(samples) * np.float32(scale)
    arrays = {
        "wave": sound,
        "offsets": np.cumsum([0, *map(len, samples)]),
        "label": np.array([label for label, _ in CLIPS], np.uint8),
        "index": np.array([take for _, take in CLIPS], np.uint8),
    }
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def opened(root, mels=8, length=None, **config):
    sequence = SequenceConfig(mels=mels, length=length)
    return find_dataset("speech").open(DataConfig(name="speech", root=str(root), sequence=sequence, **config))


def reference(samples, mels):
    """Log-mel bands by an explicit Fourier sum in float64, at 8 kHz: windows of 200, hops of 80, transform of 256."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    if len(samples) < 200:
        samples = np.concatenate([samples, np.zeros(200 - len(samples))])
    mel_top = 2595 * np.log10(1 + 4000 / 700)
    edges = [700 * (10 ** (mel_top * k / (mels + 1) / 2595) - 1) for k in range(mels + 2)]
    bands = np.zeros((mels, 1 + (len(samples) - 200) // 80))
    phases = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(200)) / 256)
    for f in range(bands.shape[1]):
        energy = np.abs(phases @ (hann * samples[80 * f : 80 * f + 200])) ** 2
        for m in range(mels):
            low, peak, high = edges[m : m + 3]
            total = 0.0
            for line in range(129):
                hertz = line * 31.25
                if low < hertz <= peak:
                    total += energy[line] * (hertz - low) / (peak - low)
                elif peak < hertz < high:
                    total += energy[line] * (high - hertz) / (high - peak)
            bands[m, f] = np.log(max(total, 1e-6))
    return bands


@pytest.mark.parametrize(("length", "mels"), [(1000, 40), (200, 13), (279, 8), (280, 8), (50, 20)])
def test_log_mel_against_an_explicit_fourier_sum(length, mels):
    samples = clip(length) / 32768
    bands = log_mel(torch.from_numpy(samples)[None], RATE, mels)[0]
    np.testing.assert_allclose(bands.numpy(), reference(samples, mels), atol=1e-8)
    single = log_mel(torch.from_numpy(samples).float()[None], RATE, mels)[0]
    np.testing.assert_allclose(single.numpy(), reference(samples, mels), atol=2e-3)


def test_silence_is_at_the_floor():
    np.testing.assert_allclose(log_mel(torch.zeros(1, 400), RATE, 8).numpy(), np.log(1e-6))


def test_mel_filters_cover_the_spectrum_evenly():
    weights = mel_filters(16000, 40)
    assert weights.shape == (257, 40)
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    lines = np.arange(257) * 31.25
    inside = (lines >= centres[1]) & (lines <= centres[-2])
    np.testing.assert_allclose(weights[inside].sum(axis=1), 1)  # neighbouring triangles add to one


def test_too_many_mels(folder):
    with pytest.raises(UserError, match=r"sequence\.mels must be smaller, got 128: at 8000 Hz .* 31\.25 Hz apart"):
        opened(folder, mels=128)


def test_folder(folder):
    splits = opened(folder)
    assert (len(splits.train), len(splits.test), splits.classes) == (6, 10, ("0", "1"))
    assert (splits.in_chans, splits.size) == (8, 96)
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    # Normalised by the training clips: takes 5, 6 and 7.
    bands = {key: reference(samples / 32768, 8) for key, samples in CLIPS.items()}
    learnt = np.concatenate([bands[label, take] for label in (0, 1) for take in (5, 6, 7)], axis=1)
    for values, (label, take) in ((splits.train[4][0], (1, 6)), (splits.test[9][0], (1, 4))):
        wanted = (bands[label, take] - learnt.mean(axis=1, keepdims=True)) / learnt.std(axis=1, keepdims=True)
        frames = wanted.shape[1]
        assert (values.shape, values.dtype) == ((8, 96), np.float32)
        np.testing.assert_allclose(values[:, :frames], wanted, atol=2e-3)
        assert not values[:, frames:].any()


def test_length(folder):
    """96 frames. If a length is asked for, nothing is cut here, because the series may be resampled to it."""
    longest = 1 + (len(CLIPS[1, 7]) - 200) // 80
    assert 40 < longest < 96
    assert opened(folder).size == 96
    asked = opened(folder, length=40)
    assert asked.size == longest
    np.testing.assert_array_equal(asked.train[5][0], opened(folder).train[5][0][:, :longest])


def test_npz_and_the_repositorys_folder_give_the_same(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("clone")
    folder.rename(other / "recordings")
    splits = opened(other)
    for path in (
        save_npz(other / "a.npz"),
        save_npz(other / "b.npz", sample_rate=np.array([8000])),
        save_npz(other / "c.npz", scale=1 / 32768),
    ):
        packed = opened(path)
        assert packed.classes == splits.classes
        np.testing.assert_allclose(packed.train[3][0], splits.train[3][0], atol=1e-6)
    assert opened(other / "a.npz").fingerprint == splits.fingerprint


@pytest.mark.parametrize("name", ["label", "labels", "y"])
def test_names_of_the_labels(tmp_path, name):
    labels = np.array([label for label, _ in CLIPS])
    splits = opened(save_npz(tmp_path / "a.npz", **({"label": None} | {name: labels})))
    assert splits.train.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_another_rate_changes_the_windows(tmp_path):
    assert (
        opened(save_npz(tmp_path / "a.npz", rate=16000)).train.series[0].shape[1] == 1 + (len(CLIPS[0, 5]) - 400) // 160
    )


def test_missing(tmp_path):
    holds = r"looked for \{label\}_\{speaker\}_\{index\}\.wav.* not found; get it from https://github"
    for root in (tmp_path, tmp_path / "gone", tmp_path / "gone.npz"):
        with pytest.raises(UserError, match=holds):
            opened(root)


def test_only_test_takes(tmp_path):
    save_wav(tmp_path / "0_ann_0.wav", clip(1000))
    with pytest.raises(UserError, match="no usable training samples; takes 0 to 4 are for testing"):
        opened(tmp_path)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("0_ann_1.wav", _truncate, "truncated: "),
        ("0_ann_1.wav", lambda path: path.write_bytes(b"RIFF"), "cannot be read as WAV"),
        ("0_ann_1.wav", lambda path: save_wav(path, clip(800), channels=2), "one channel of 16 bits, got 2 of 16"),
        ("0_ann_1.wav", lambda path: save_wav(path, clip(800), width=1), "one channel of 16 bits, got 1 of 8"),
        ("0_ann_1.wav", lambda path: save_wav(path, clip(0)), "truncated: 0 of 0 samples"),
        (
            "0_ann_1.wav",
            lambda path: save_wav(path, clip(800), rate=16000),
            "16000 samples per second, .* have 8000;",
        ),
        ("zero.wav", lambda path: save_wav(path, clip(800)), "its name is not of the form"),
        (
            "2_ann_0.wav",
            lambda path: save_wav(path, clip(800)),
            "is a test clip of '2', of which there is no training clip",
        ),
    ],
)
def test_wrong_files(folder, name, spoil, message):
    spoil(folder / name)
    with pytest.raises(DataFault, match=f"{name}: .*{message}"):
        opened(folder)
    splits = opened(folder, on_error="skip")
    assert len(splits.skipped) == 1
    assert name in splits.skipped[0]
    assert (len(splits.train), len(splits.test)) == (6, 9 if name == "0_ann_1.wav" else 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wave": None}, "has no array 'wave'; found index, label, offsets"),
        ({"wave": np.zeros((2, 9), np.int16)}, r"wave must be int16 or float \[S\], got int16 \[2, 9\]"),
        ({"offsets": np.array([0, 5, 3])}, "offsets must increase from at least 0 to at most"),
        ({"offsets": np.array([0, 10**9])}, "offsets must increase from at least 0 to at most"),
        ({"offsets": np.array([0, 500, 999])}, "label has 16 values for 2 samples"),
        ({"label": np.arange(16) + 1}, "no training sample has label 0"),
        ({"label": np.array([7, *[0] * 15])}, r"label\[0\] is 7, labels go from 0 to 0"),
        ({"sample_rate": np.array([8000, 8000])}, "sample_rate must be one number, got 2"),
        ({"sample_rate": 8}, "has 8 samples per second, expected at least 1000"),
    ],
)
def test_wrong_arrays(tmp_path, changes, message):
    with pytest.raises(DataFault, match=message):
        opened(save_npz(tmp_path / "a.npz", **changes))


def test_values_that_are_not_finite(tmp_path):
    sound = np.concatenate(list(CLIPS.values())) / np.float32(32768)
    sound[3] = np.nan
    path = save_npz(tmp_path / "a.npz", wave=sound)
    with pytest.raises(DataFault, match="clip 0 has values that are not finite"):
        opened(path)
    splits = opened(path, on_error="skip")
    assert (len(splits.test), len(splits.skipped)) == (9, 1)


# -- class folders -----------------------------------------------------------------------------------------------------


def save_clips(root, *names):
    """One of CLIPS in each of these files; a class is the name of its folder."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save_wav(root / name, list(CLIPS.values())[i])


def classes_of(splits):
    return [
        None if part is None else [splits.classes[i] for i in part.labels]
        for part in (splits.train, splits.validation, splits.test)
    ]


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_folders_of_parts(tmp_path, parts):
    train, validation, test = parts
    save_clips(tmp_path, f"{train}/no/a.wav", f"{train}/yes/b.wav", f"{train}/yes/c.wav", f"{test}/yes/d.wav")
    (tmp_path / "README.md").write_text("of the set")
    splits = opened(tmp_path)
    assert classes_of(splits) == [["no", "yes", "yes"], None, ["yes"]]
    first = [reference(samples / 32768, 8) for samples in list(CLIPS.values())[:3]]
    whole = np.concatenate(first, axis=1)
    wanted = (first[2] - whole.mean(axis=1, keepdims=True)) / whole.std(axis=1, keepdims=True)
    np.testing.assert_allclose(splits.train[2][0][:, : wanted.shape[1]], wanted, atol=2e-3)
    (tmp_path / test).rename(tmp_path / validation)
    assert classes_of(opened(tmp_path)) == [["no", "yes", "yes"], None, ["yes"]]
    save_clips(tmp_path, f"{test}/no/e.wav")
    assert classes_of(opened(tmp_path)) == [["no", "yes", "yes"], ["yes"], ["no"]]
    assert opened(tmp_path).fingerprint != splits.fingerprint
    save_clips(tmp_path, f"{validation}/maybe/f.wav")
    with pytest.raises(DataFault, match=r"f\.wav: is a validation clip of 'maybe', of which there is no training clip"):
        opened(tmp_path)


@pytest.mark.parametrize("part", ["", "train/"])
def test_class_folders_alone_are_divided(tmp_path, part):
    save_clips(tmp_path, *(f"{part}{'no' if i < 10 else 'yes'}/{i}.wav" for i in range(15)))
    splits = opened(tmp_path)
    assert classes_of(splits) == [["no"] * 8 + ["yes"] * 4, None, ["no"] * 2 + ["yes"]]
    assert splits.test_held_out
    assert classes_of(opened(tmp_path, test_share=0.6))[2] == ["no"] * 6 + ["yes"] * 3
    assert opened(tmp_path, split_seed=1).fingerprint != splits.fingerprint == opened(tmp_path).fingerprint


def test_the_layout_of_speech_commands(tmp_path):
    names = [f"{word}/{speaker}_nohash_{i}.wav" for word in ("no", "yes") for speaker in ("a1", "b2") for i in range(2)]
    save_clips(tmp_path, *names, "_background_noise_/hum.wav")
    (tmp_path / "_background_noise_" / "README.md").write_text("of the noise")
    (tmp_path / "testing_list.txt").write_text("no/b2_nohash_0.wav\nyes/a1_nohash_1.wav\n")
    without = opened(tmp_path)
    assert classes_of(without) == [["no"] * 3 + ["yes"] * 3, None, ["no", "yes"]]
    (tmp_path / "validation_list.txt").write_text("yes/b2_nohash_0.wav\n")
    splits = opened(tmp_path)
    assert classes_of(splits) == [["no"] * 3 + ["yes"] * 2, ["yes"], ["no", "yes"]]
    assert splits.fingerprint != without.fingerprint
    longest = 1 + (len(list(CLIPS.values())[5]) - 200) // 80  # of yes/a1_nohash_1.wav
    assert splits.test[1][0].any(axis=0).nonzero()[0].max() == longest - 1
    (tmp_path / "validation_list.txt").write_text("\nyes/b2_nohash_7.wav\n")
    with pytest.raises(DataFault, match=r"validation_list\.txt:2: there is no clip yes/b2_nohash_7\.wav in"):
        opened(tmp_path)


def test_flac(tmp_path):
    """The same as wav, sample by sample, of 16 bits; of 24 bits it is finer."""
    soundfile = pytest.importorskip("soundfile", reason="comes with the extra hf")
    save_clips(tmp_path / "a", *(f"no/{i}.wav" for i in range(4)))
    wanted = opened(tmp_path / "a")
    for folder, subtype in (("b", "PCM_16"), ("c", "PCM_24")):
        (tmp_path / folder / "no").mkdir(parents=True)
        for i, samples in enumerate(list(CLIPS.values())[:4]):
            soundfile.write(tmp_path / folder / "no" / f"{i}.flac", samples, RATE, subtype=subtype)
    # Which ones are held out follows from the names of the files.
    found, finer = (opened(tmp_path / folder) for folder in "bc")

    def clips(splits):
        return sorted(x.sum() for part in (splits.train, splits.test) for x in part.series)

    assert len(found.train) == len(wanted.train) == 3
    np.testing.assert_allclose(clips(finer), clips(found), rtol=1e-4, atol=1e-2)
    (tmp_path / "b" / "no" / "2.flac").write_bytes((tmp_path / "b" / "no" / "2.flac").read_bytes()[:200])
    with pytest.raises(DataFault, match=r"2\.flac: (truncated|cannot be read as audio)"):
        opened(tmp_path / "b")


def test_class_folders_that_cannot_be_used(tmp_path):
    save_clips(tmp_path, "no/a.wav", "no/b.wav", "yes/c.wav", "yes/d.wav")
    (tmp_path / "yes" / "e.aiff").write_bytes(b"")
    with pytest.raises(DataFault, match=r"e\.aiff: unknown file type '\.aiff'; known: \.wav, \.flac"):
        opened(tmp_path)
    (tmp_path / "yes" / "e.aiff").unlink()
    save_wav(tmp_path / "yes" / "d.wav", clip(900), rate=16000)
    with pytest.raises(DataFault, match=r"d\.wav: has 16000 samples per second, those before it have 8000; resample"):
        opened(tmp_path)
    (tmp_path / "maybe").mkdir()
    with pytest.raises(DataFault, match="maybe: this class folder holds no recordings"):
        opened(tmp_path)


@pytest.mark.skipif("STEP_AHSAR_DATA" not in os.environ, reason="needs real data")
def test_real_free_spoken_digits():
    start = time.monotonic()
    splits = opened(f"{os.environ['STEP_AHSAR_DATA']}/fsdd.npz", mels=40)
    assert time.monotonic() - start < 20
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (2700, 300, 10)
    frames = np.concatenate(splits.train.series, axis=1)
    np.testing.assert_allclose(frames.mean(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(frames.std(axis=1), 1, atol=1e-3)
