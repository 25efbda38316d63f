"""What a command writes on a real terminal, in a notebook's terminal, and into a pipe."""

import contextlib
import os
import threading
import time

import pytest

from step_ahsar.cli import progress, progress_bar
from step_ahsar.progress import followed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="opens a pseudo-terminal")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """That of a terminal of 80 columns, in which work is shown soon."""
    for name in ("JPY_PARENT_PID", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(progress, "_SHOWN_AFTER", 0.05)
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.15)
    monkeypatch.setattr(progress.NotebookBar, "_EVERY", 0.05)


def written(ends, monkeypatch):
    """What work of 0.4 s writes on a stderr that is the second of two ends; it is read from the first."""
    reading, writing = ends
    parts = []

    def read():
        with contextlib.suppress(OSError):  # Linux: a terminal whose other end is closed
            while part := os.read(reading, 65536):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with open(writing, "w", encoding="utf-8", buffering=1) as stderr, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stderr)
        with progress_bar():
            for _ in followed("reading files", range(16)):
                time.sleep(0.025)
        stderr.write("after\n")
    reader.join()
    os.close(reading)
    return b"".join(parts).decode()


def test_a_terminal_gets_a_bar_that_vanishes(monkeypatch, capsys):
    shown = written(os.openpty(), monkeypatch)
    assert "reading files" in shown
    assert "━" in shown
    assert " s left" in shown
    assert shown.endswith("\r\x1b[2K\x1b[?25h\rafter\r\n")  # the line is erased, the cursor is there again
    assert capsys.readouterr().out == ""


def test_a_notebook_gets_carriage_returns_and_no_escapes(monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")  # as ipykernel's children have it, with FORCE_COLOR
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = written(os.openpty(), monkeypatch)
    assert "\x1b" not in shown
    assert shown.count("\n") == 1
    first, *lines, blank, last = shown.removesuffix("\r\n").split("\r")
    assert (first, blank.strip(), last) == ("", "", "after")
    assert len(lines) > 2
    assert all(line.startswith("reading files") and line.rstrip().endswith(" left") for line in lines)
    assert {len(line) for line in (*lines, blank)} == {79}  # each covers the one before


def test_a_pipe_gets_plain_lines_even_in_a_notebook_and_with_colours(monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    *lines, last = written(os.pipe(), monkeypatch).splitlines()
    assert last == "after"
    assert 1 <= len(lines) < 8  # in 0.4 s one each 0.15 s; a busy machine may take longer
    assert all(line.startswith("reading files: ") and "%; left " in line for line in lines)
    assert "\x1b" not in "".join(lines)


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    shown = written(os.openpty(), monkeypatch)
    assert shown.startswith("reading files: ")
    assert "\x1b" not in shown


def test_one_of_several_processes_alone_shows_something(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert written(os.openpty(), monkeypatch) == "after\r\n"
