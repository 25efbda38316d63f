"""Files are replaced whole, and are on disk when that is said."""

import json
import os
import threading

import pytest

from step_ahsar.files import (
    Locked,
    append_line,
    digest,
    is_locked,
    is_there,
    is_unfinished,
    locked,
    remove,
    replacing,
    sealed,
    unsealed,
    write_file,
)


@pytest.fixture
def synced(monkeypatch):
    """Names of the files and folders that were synced to disk."""
    names, sync = [], os.fsync

    def note(descriptor):
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("names of open files are Linux's")
    monkeypatch.setattr(os, "fsync", note)
    return names


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "a.txt"
    write_file(file, "old")
    write_file(file, b"new")
    assert file.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "folder"
    for content in ("old", "new"):
        with replacing(folder) as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_changes_nothing(tmp_path, error):
    file = tmp_path / "a.txt"
    write_file(file, "old")

    def fail():
        with replacing(file) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_content_and_place_are_synced_before_it_is_said_to_be_done(tmp_path, synced):
    write_file(tmp_path / "a.txt", "content")
    assert synced == [f".a.txt.{os.getpid()}.partial", tmp_path.name]
    synced.clear()
    write_file(tmp_path / "a.txt", "content", durable=False)
    assert synced == []


def test_a_folders_files_are_synced_too(tmp_path, synced):
    with replacing(tmp_path / "folder") as partial:
        partial.mkdir()
        for name in "ab":
            (partial / name).write_text(name)
    assert sorted(synced[:2]) == ["a", "b"]
    assert synced[2:] == [f".folder.{os.getpid()}.partial", tmp_path.name]


def test_a_line_is_synced(tmp_path, synced):
    for line in ("first\n", "second\n"):
        append_line(tmp_path / "lines", line)
    assert synced == ["lines", "lines"]
    assert (tmp_path / "lines").read_text() == "first\nsecond\n"


def test_what_is_left_of_an_interruption_is_recognised(tmp_path):
    for name, unfinished in ((f".a.txt.{os.getpid()}.partial", True), ("a.partial", False), (".hidden", False)):
        assert is_unfinished(tmp_path / name) == unfinished
    with replacing(tmp_path / "a.txt") as partial:
        assert is_unfinished(partial)
        partial.write_text("")


def test_removing(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    remove(tmp_path / "link")
    assert (tmp_path / "folder" / "file").exists()
    remove(tmp_path / "folder")
    remove(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_readers_never_see_half_a_file(tmp_path):
    file, seen, done = tmp_path / "a.txt", set(), threading.Event()
    contents = {letter * 100_000 for letter in "ab"}
    write_file(file, "a" * 100_000)

    def read():
        while not done.is_set():
            seen.add(file.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for content in contents:
            write_file(file, content, durable=False)
    done.set()
    reader.join()
    assert seen <= contents


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(Locked), locked(tmp_path):
            pass
    assert not is_locked(tmp_path)
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    assert not is_locked(tmp_path)


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with locked(tmp_path):
        pass
    assert "file system without locks" in capsys.readouterr().err


@pytest.mark.parametrize("text", ['{"a": [1, 2.5], "b": "\u00e4"}', '{\n "a": 1\n}', '{"checksum": "x", "a": 1}'])
def test_every_byte_of_a_sealed_object_counts(text):
    content = sealed(text).encode()
    assert json.loads(content)["checksum"] == digest(content[: content.rindex(b', "checksum"')])
    assert unsealed(content) == {key: value for key, value in json.loads(text).items() if key != "checksum"}
    for place in range(len(content)):
        for flipped in (content[place] ^ 1, content[place] ^ 32):
            altered = content[:place] + bytes([flipped]) + content[place + 1 :]
            with pytest.raises(ValueError, match=r"."):
                unsealed(altered)
        with pytest.raises(ValueError, match=r"."):
            unsealed(content[:place])
    with pytest.raises(ValueError, match="its checksum does not fit its content"):
        unsealed(content + b" ")


def test_an_object_without_a_seal():
    for content in (b'{"a": 1}', b'{"checksum": ""}', b'{"a": 1, "checksum": ""}'):
        with pytest.raises(ValueError, match="its checksum does not fit its content, which was altered or is of an"):
            unsealed(content)
    with pytest.raises(ValueError, match="it must hold a JSON object"):
        unsealed(b"[1]")


def test_what_cannot_be_known_is_not_said_not_to_be_there(tmp_path):
    """As Path.exists does from Python 3.14 on."""
    (tmp_path / "file").touch()
    assert is_there(tmp_path / "file")
    assert not is_there(tmp_path / "none")
    assert not is_there(tmp_path / "file" / "in a file")
    with pytest.raises(OSError, match=r"[Nn]ame too long"):
        is_there(tmp_path / ("x" * 300))
