"""Fingerprints are of content, and cheap to take again."""

import os
import sqlite3

import numpy as np
import pytest

from step_ahsar.config import DataConfig
from step_ahsar.data.common import fingerprint
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.fingerprint import fingerprint_arrays, fingerprint_files


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "set"
    for name, content in (("a/1.bin", b"one"), ("a/2.bin", b"two"), ("b/1.bin", b"six")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def taken(root, cache):
    return fingerprint_files(root, {"training": sorted(root.rglob("*.bin"))}, DataConfig(cache=str(cache)))


def edit(path, content):
    """Another content of the same size, changed later."""
    stamp = path.stat().st_mtime_ns
    assert len(content) == path.stat().st_size
    path.write_bytes(content)
    os.utime(path, ns=(stamp + 1, stamp + 1))


def test_content_counts_and_not_names_and_sizes_alone(files, tmp_path):
    """Fault: names and sizes were called content."""
    before = taken(files, tmp_path)
    assert taken(files, tmp_path) == before
    edit(files / "a" / "2.bin", b"owt")
    changed = taken(files, tmp_path)
    assert changed != before
    (files / "a" / "2.bin").rename(files / "a" / "3.bin")  # a name, which is often a class, is content too
    assert taken(files, tmp_path) not in (before, changed)


def test_it_does_not_depend_on_place_or_time(files, tmp_path):
    before = taken(files, tmp_path)
    moved = files.rename(tmp_path / "elsewhere")
    os.utime(moved / "a" / "1.bin", ns=(1, 1))
    assert taken(moved, tmp_path) == before


def test_which_sample_is_in_which_part_counts(files, tmp_path):
    """Fault: after two lines of the lists of parts had changed places, evaluate measured training pictures as test."""
    one, two, three = sorted(files.rglob("*.bin"))
    config = DataConfig(cache=str(tmp_path))
    divisions = (
        {"training": [one, two], "test": [three]},
        {"training": [one, three], "test": [two]},
        {"training": [two, one], "test": [three]},  # samples are chosen for validation by their position
        {"training": [one], "test": [two, three]},
    )
    assert len({fingerprint_files(files, parts, config) for parts in divisions}) == len(divisions)


def test_files_outside_the_root(files, tmp_path):
    """Fault: a COCO annotation with absolute names of pictures ended in a traceback."""
    config = DataConfig(cache=str(tmp_path))
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"one")
    parts = {"training": [outside], "test": []}
    first = fingerprint_files(files, parts, config)
    outside.write_bytes(b"three")
    assert fingerprint_files(files, parts, config) != first


def test_a_file_is_read_once(files, tmp_path, monkeypatch):
    read = []
    digest = fingerprint._hash
    monkeypatch.setattr(fingerprint, "_hash", lambda file: read.append(file.name) or digest(file))
    first = taken(files, tmp_path / "cache")
    assert sorted(read) == ["1.bin", "1.bin", "2.bin"]
    read.clear()
    assert taken(files, tmp_path / "cache") == first
    assert read == []
    edit(files / "b" / "1.bin", b"xis")
    taken(files, tmp_path / "cache")
    assert read == ["1.bin"]


@pytest.mark.parametrize("damage", ["garbage", "folder", "another table", "read-only"])
def test_a_cache_that_cannot_be_used_only_costs_time(files, tmp_path, damage):
    expected = taken(files, tmp_path / "good")
    kept = tmp_path / "cache" / fingerprint._KEPT
    kept.parent.mkdir()
    if damage == "garbage":
        kept.write_bytes(b"no data base" * 99)
    elif damage == "folder":
        kept.mkdir()
    elif damage == "another table":
        with sqlite3.connect(kept) as opened:
            opened.execute("CREATE TABLE files (path TEXT)")
    else:
        (kept.parent / "below").write_text("a file where a folder is wanted")
        kept = kept.parent / "below" / "deeper" / fingerprint._KEPT
    assert taken(files, kept.parent) == expected


def test_a_file_that_cannot_be_read_is_named(files, tmp_path):
    config = DataConfig(cache=str(tmp_path))
    with pytest.raises(DataFault, match=r"gone\.bin: cannot be read: No such file"):
        fingerprint_files(files, {"training": [files / "gone.bin"]}, config)
    with pytest.raises(DataFault, match=r"a: cannot be read: Is a directory"):
        fingerprint_files(files, {"training": [files / "a"]}, config)


def test_arrays_by_type_shape_and_values():
    x = np.arange(6, dtype=np.int32)
    of = {fingerprint_arrays([each]) for each in (x, x.astype(np.int64), x.reshape(2, 3), x[::-1], x + 1)}
    assert len(of) == 5
    assert fingerprint_arrays([x[::-1].copy()]) == fingerprint_arrays([x[::-1]])
    assert fingerprint_arrays([x, x]) != fingerprint_arrays([x])
