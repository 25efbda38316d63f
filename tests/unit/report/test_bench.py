import json

import pytest

from step_ahsar.errors import UserError
from step_ahsar.report.bench import as_markdown, draw, lines, write

ROW = {
    "part": "training",
    "case": "net, batch 8",
    "unit": "ms",
    "at": None,
    "medians": {"ours": 1402.4, "theirs": 1550.0},
    "ratios": {"theirs": {"median": 0.9048, "low": 0.8912, "high": 0.9251}},
    "values": {"ours": [1402.4], "theirs": [1550.0]},
    "skipped": {"absent": "not installed"},
}


def found(*rows):
    machine = {"threads": 2, "cpu": "a processor", "accelerator": None}
    return {
        "made": "2026-11-28T10:00:00+00:00",
        "device": "cpu",
        "rounds": 15,
        "hardware": machine,
        "versions": {"torch": "2.14.1"},
        "rows": list(rows),
    }


def at(part, place, ours, theirs):
    return ROW | {"part": part, "case": f"net, T {place}", "at": place, "medians": {"ours": ours, "theirs": theirs}}


def test_lines_of_a_row():
    assert lines(ROW) == [
        "training: net, batch 8",
        "  ours        1402 ms",
        "  theirs      1550 ms   (0.90 [0.89, 0.93])",
        "  absent  not measured: not installed",
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")]
)
def test_numbers_have_no_more_digits_than_they_need(value, shown):
    assert f" {shown} ms" in lines(ROW | {"medians": {"ours": value}})[1]


def test_markdown_has_a_table_for_each_part():
    other = ROW | {"part": "memory", "unit": "MiB", "skipped": {}}
    text = as_markdown(found(ROW, other))
    assert text.startswith("2 threads of a processor; 15 rounds; torch 2.14.1; 2026-11-28.\n")
    assert "| training | ours | theirs | absent |" in text
    assert "| net, batch 8 | 1402 ms | 1550 ms (0.90 [0.89, 0.93]) | – |" in text
    assert "| memory | ours | theirs |" in text


def test_a_gpu_is_named_in_place_of_the_processor():
    on_gpu = found(ROW) | {"device": "cuda"}
    on_gpu["hardware"] = on_gpu["hardware"] | {"accelerator": "a GPU"}
    assert as_markdown(on_gpu).startswith("a GPU; 15 rounds")


def test_curves_are_drawn_of_the_parts_that_were_measured():
    assert draw(found(ROW)) is None
    figure = draw(found(at("time-steps", 1, 10.0, 12.0), at("time-steps", 4, 30.0, 36.0)))
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["ours", "theirs"]
    assert axes.lines[1].get_xydata().tolist() == [[1, 12.0], [4, 36.0]]
    assert len(draw(found(at("time-steps", 1, 1, 2), at("batches", 1, 1, 2))).axes) == 2


def test_what_is_written(tmp_path):
    write(found(at("time-steps", 1, 10.0, 12.0)), tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bench.json", "bench.md", "bench.png"]
    assert json.loads((tmp_path / "new" / "bench.json").read_text())["rows"][0]["at"] == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        write(found(ROW), tmp_path / "file")
