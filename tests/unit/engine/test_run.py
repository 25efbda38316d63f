"""Who may write into a folder."""

import errno
import json
from pathlib import Path

import pytest

from step_ahsar import engine
from step_ahsar.config import Config
from step_ahsar.engine.run import InUse, Run, is_vacant
from step_ahsar.errors import UserError
from step_ahsar.files import is_locked, sealed


def manifest(seed=0):
    return dict.fromkeys(engine.run._MANIFEST) | {
        "seed": seed,
        "dataset": {"name": "digits", "fingerprint": "sha256:0"},
    }


def result(status):
    return dict.fromkeys(engine.run._RESULT) | {"status": status, "epochs": [row(1)], "metrics": {"acc1": 0.5}}


def row(epoch):
    return dict.fromkeys(engine.run._ROW) | {"epoch": epoch}


@pytest.fixture
def begun(tmp_path):
    run = Run.open(tmp_path / "run", Config(), resume=False)
    run.begin(manifest())
    return run


def tree(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_opening_writes_nothing(tmp_path):
    Run.open(tmp_path / "new" / "run", Config(), resume=False)
    assert not (tmp_path / "new").exists()


def test_a_run_says_what_it_is(begun):
    assert Run.existing(begun.path).config == Config()
    assert begun.manifest() == manifest()
    assert begun.result() is None


@pytest.mark.parametrize("resume", [True, False])
def test_folders_that_hold_something_else(begun, tmp_path, resume):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    before = tree(tmp_path)
    with pytest.raises(UserError, match="not empty and holds no run"):
        Run.open(other, Config(), resume)
    with pytest.raises(UserError, match="is a file"):
        Run.open(other / "thesis.tex", Config(), resume)
    with pytest.raises(UserError, match=r"another config: model\.threshold is None there and 2\.0 here; give"):
        Run.open(begun.path, Config().with_values({"model.threshold": 2.0}), resume)
    assert tree(tmp_path) == before


def test_the_price_of_energy_may_be_another_than_when_the_run_began(begun):
    config = Config.model_validate({"energy": {"chip": {"add": 0.1}}})
    assert Run.open(begun.path, config, resume=True).path == begun.path


def test_an_unfinished_run_is_continued_only_on_request(begun):
    with pytest.raises(UserError, match="holds an unfinished run of this config; resume it"):
        Run.open(begun.path, Config(), resume=False)
    Run.open(begun.path, Config(), resume=True)
    begun.write_result(result("failed"))
    with pytest.raises(UserError, match="unfinished"):
        Run.open(begun.path, Config(), resume=False)
    begun.write_result(result("ok"))
    assert Run.open(begun.path, Config(), resume=False).result() == result("ok")


def test_a_resumed_run_keeps_its_manifest_and_forgets_its_failure(begun):
    begun.write_result(result("failed"))
    begun.begin(manifest(1))
    assert begun.manifest() == manifest()
    assert begun.result() is None


def test_a_run_that_is_held_is_refused_to_others(begun):
    other = Run.existing(begun.path)
    with begun.held():
        with pytest.raises(InUse, match="another process is training the run in"), other.held():
            pass
        assert is_locked(begun.path)
    assert not is_locked(begun.path)
    with other.held():
        pass
    assert Run.open(begun.path, Config(), resume=True).path == begun.path


def test_a_folder_with_nothing_but_a_lock_is_vacant(tmp_path):
    with Run(tmp_path / "run", Config()).held():
        assert is_vacant(tmp_path / "run")


def test_many_differences_are_counted(begun):
    values = {"model.threshold": 2.0, "seed": 3, "train.lr": 1.0, "train.epochs": 2, "data.img_size": 8}
    with pytest.raises(UserError, match=" and 2 more; give another folder"):
        Run.open(begun.path, Config().with_values(values), resume=False)


def test_metrics_survive_a_line_that_was_cut_off(begun):
    for epoch in (1, 2, 3):
        begun.add_metrics(row(epoch))
    file = begun.path / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-4])
    assert [row["epoch"] for row in begun.metrics()] == [1, 2]
    assert begun.keep_metrics(1) == [row(1)]
    assert file.read_text() == sealed(json.dumps(row(1))) + "\n"
    with pytest.raises(
        UserError, match="must have the epochs 1 to 2, for which the checkpoint was trained; some are missing"
    ):
        begun.keep_metrics(2)


def test_what_an_interrupted_beginning_left_is_taken_over(tmp_path):
    """Fault: a kill in a run's first moments, or a full disk, left a folder that was refused for ever."""
    folder = tmp_path / "run"
    folder.mkdir()
    assert is_vacant(folder)
    (folder / ".config.yaml.4711.partial").write_text("task: class")
    assert is_vacant(folder)
    for resume in (False, True):
        Run.open(folder, Config(), resume)
    (folder / "thesis.tex").write_text("years of work")
    assert not is_vacant(folder)


def test_a_run_without_a_manifest_is_begun_again(tmp_path):
    run = Run.open(tmp_path / "run", Config(), resume=True)
    run.begin(manifest())
    (run.path / "manifest.json").unlink()  # killed between the two files
    again = Run.open(tmp_path / "run", Config(), resume=True)
    again.begin(manifest())
    assert again.manifest() == manifest()


def test_a_full_disk_leaves_nothing_that_is_in_the_way(tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", Config(), resume=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(UserError, match=r"cannot write to output folder .*No space left"):
            run.begin(manifest())
    assert is_vacant(tmp_path / "run")
    Run.open(tmp_path / "run", Config(), resume=False).begin(manifest())


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("open_it", [lambda path: Run.open(path, Config(), resume=False), Run.existing])
def test_a_name_longer_than_the_file_system_allows(tmp_path, open_it):
    """Fault: a traceback."""
    with pytest.raises(UserError, match=r"[Nn]ame too long") as error:
        open_it(tmp_path / ("x" * 300))
    assert "\n" not in str(error.value)


def test_an_emptied_config_is_named(begun):
    """Fault: evaluate ended in a traceback."""
    (begun.path / "config.yaml").write_text("")
    with pytest.raises(UserError, match=r"config\.yaml is empty"):
        Run.existing(begun.path)


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        Run.existing(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to output folder"):
        Run(tmp_path / "file" / "run", Config()).begin({})


def written(record):
    return sealed(json.dumps(record)).encode()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("manifest.json", written({"a": 1}), r"manifest\.json is damaged: it has no 'started'"),
        ("manifest.json", b"[]", r"manifest\.json is damaged: it must hold a JSON object"),
        ("manifest.json", b"\xff\xfe", r"manifest\.json is damaged: "),
        ("manifest.json", b"{}", r"manifest\.json is damaged: its checksum does not fit its content"),
        ("result.json", written({"a": 1}), r"result\.json is damaged: it has no 'seed'"),
        ("result.json", b"3", r"result\.json is damaged: it must hold a JSON object"),
        ("manifest.json", written(manifest() | {"dataset": {}}), "its dataset has no name and fingerprint"),
        ("result.json", written(result("ok") | {"metrics": None}), "its epochs or its metrics are not"),
        ("result.json", written(result("failed") | {"epochs": "x"}), "its epochs or its metrics are not"),
        ("result.json", written(result("failed") | {"epochs": [{"epoch": 1}]}), "its epochs or its metrics"),
        ("metrics.jsonl", b"garbage\n", r"metrics\.jsonl, line 1, is damaged: "),
        ("metrics.jsonl", b"\xff\n", r"metrics\.jsonl, line 1, is damaged: "),
        ("metrics.jsonl", written({"epoch": 1}) + b"\n", r"metrics\.jsonl, line 1, is damaged: it has no 'train_loss'"),
    ],
)
def test_damaged_records_are_named(begun, file, content, message):
    """Fault: they were tracebacks."""
    (begun.path / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        (begun.manifest if "manifest" in file else begun.result if "result" in file else begun.metrics)()
    assert "\n" not in str(error.value)
