"""The folder of a run.

config.yaml      the resolved config
manifest.json    versions, hardware, commit, data set with fingerprint, parameters
metrics.jsonl    one line per epoch
checkpoints/     see checkpoint.py
tensorboard/     the same for TensorBoard, see track.py
predictions/     the first, best and worst test samples after the last epoch, the classes that are confused, and a look
                 at the first sample, see examples.py and looking.py
conditions.jsonl what was measured under other conditions after training, see conditions.py
early_exit.json  accuracy and cost of samples that leave early, see early_exit.py
rates.json       firing rates on clean training data, at the last epoch and at the best one, see adapt.py
result.json      the result, once the run has ended, well or not
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from step_ahsar.config import Config, differences, load_config
from step_ahsar.data import FINGERPRINT_VERSION, Data
from step_ahsar.errors import UserError, shortened, shortened_path
from step_ahsar.files import (
    LOCK,
    Locked,
    append_line,
    is_there,
    is_unfinished,
    locked,
    replacing,
    sealed,
    unsealed,
    write_file,
)

# Keys that the records of a run have in every version, see step_ahsar.engine.record.
_MANIFEST = ("started", "parameters", "device", "dataset", "versions", "hardware", "git_commit")
_ROW = ("epoch", "train_loss", "metrics", "firing_rate", "dead_fraction", "layers")
_RESULT = ("seed", "status", "error", "epochs", "metrics", "firing_rate", "dead_fraction")


_CONDITION = ("condition", "epoch", "metrics", "firing_rate", "dead_fraction", "error")

_EARLY_EXIT = ("criterion", "epoch", "chosen", "operations", "points")

_RATES = ("epochs",)

METRICS, RESULT, CONDITIONS = "metrics.jsonl", "result.json", "conditions.jsonl"


class InUse(UserError):
    """Another process is training the run."""


class Run:
    """The folder of a run, opened by :meth:`open` or :meth:`existing`."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config

    @classmethod
    def open(cls, path: Path, config: Config, resume: bool) -> "Run":
        """Opens a folder for training: a new one, or one with a run of the same config. Nothing is written yet.

        Args:
            path: the folder. It may be missing, empty, or contain the remains of a run that was interrupted at its
                start.
            config: the config to train.
            resume: whether an unfinished run may be continued.

        Raises:
            UserError: the folder contains something else, or an unfinished run and ``resume`` is false.
        """
        run = cls(path, config)
        if is_vacant(path):
            return run
        if not run.config_file.exists():
            raise UserError(f"output folder {path} is not empty and holds no run; give another folder")
        differing = differences(load_config(run.config_file).trained(), config.trained())
        if differing:
            what = shortened(differing, limit=3, separator="; ")
            raise UserError(f"output folder {path} holds a run of another config: {what}; give another folder")
        result = run.result()
        finished = result is not None and result["status"] == "ok"
        if not finished and not resume:
            raise UserError(
                f"output folder {path} holds an unfinished run of this config; resume it (--resume) or give another "
                "folder"
            )
        return run

    @classmethod
    def existing(cls, path: Path) -> "Run":
        """Opens a run for reading. Raises UserError if there is none."""
        file = path / "config.yaml"
        try:
            there = is_there(file)
        except OSError as error:
            raise UserError(f"{path} holds no run: {error.strerror}") from None
        if not there:
            raise UserError(f"{path} holds no run: there is no config.yaml in it")
        return cls(path, load_config(file))

    @property
    def checkpoints(self) -> Path:
        """The checkpoints' folder."""
        return self.path / "checkpoints"

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def _metrics_file(self) -> Path:
        return self.path / METRICS

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from training this run, for the block.

        Raises:
            InUse: another one does.
        """
        with ExitStack() as stack:
            try:
                with self._writing():
                    self.path.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(self.path))
            except Locked:
                raise InUse(f"another process is training the run in {self.path}; wait for it, or end it") from None
            yield

    @property
    def has_begun(self) -> bool:
        """Whether it has a manifest, the last file that a starting run writes."""
        return (self.path / "manifest.json").is_file()

    def begin(self, manifest: dict[str, Any]) -> None:
        """Writes config and manifest of a new run. A resumed run keeps those that it has."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.config_file.exists():
                write_file(self.config_file, self.config.to_yaml())
            if not (self.path / "manifest.json").exists():
                write_file(self.path / "manifest.json", sealed(json.dumps(manifest, indent=1)))
            (self.path / RESULT).unlink(missing_ok=True)

    def result(self) -> dict[str, Any] | None:
        """The result of the run; None if it has not ended."""
        result = self._read_json(RESULT, _RESULT)
        if result is not None:
            epochs = result["epochs"]
            sound = isinstance(epochs, list) and all(isinstance(row, dict) and set(_ROW) <= set(row) for row in epochs)
            if not sound or (result["status"] == "ok" and not (epochs and isinstance(result["metrics"], dict))):
                raise UserError(f"{self.path / RESULT} is damaged: its epochs or its metrics are not complete")
        return result

    def write_result(self, result: dict[str, Any]) -> None:
        """Writes the result, which marks the run as ended."""
        with self._writing():
            write_file(self.path / RESULT, sealed(json.dumps(result, indent=1)))

    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises UserError if training has not written one yet."""
        manifest = self._read_json("manifest.json", _MANIFEST)
        if manifest is None:
            raise UserError(f"{self.path} holds no manifest.json; its training never began")
        dataset = manifest["dataset"]
        if not (isinstance(dataset, dict) and {"name", "fingerprint"} <= set(dataset)):
            raise UserError(f"{self.path / 'manifest.json'} is damaged: its dataset has no name and fingerprint")
        return manifest

    def check_data(self, data: Data) -> None:
        """Raises UserError if these are not the data that the run was trained on."""
        trained_on, given = self.manifest()["dataset"], data.describe()
        what = f"dataset {data.spec.name!r}" + (f" in {data.config.data.root}" if data.config.data.root else "")
        if trained_on["fingerprint"] == data.splits.fingerprint:
            # Earlier versions wrote no class names.
            if trained_on.get("class_names", given["class_names"]) != given["class_names"]:
                raise UserError(
                    f"the classes of {what} are not those that "
                    f"{self.path} was trained on: now they are {shortened(data.classes)}"
                )
            return
        if trained_on.get("fingerprint_version") != FINGERPRINT_VERSION:
            raise UserError(
                f"{self.path} was made by an earlier version, whose fingerprints of data cannot be compared with "
                f"today's: whether dataset {data.spec.name!r} is what it was trained on is not known; train it again"
            )
        raise UserError(
            f"{what} is not what {self.path} was trained on: "
            f"fingerprint {data.splits.fingerprint[:23]}..., was {trained_on['fingerprint'][:23]}..."
        )

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs so far. A last line that is incomplete is left out."""
        return list(_rows(self._metrics_file, _ROW))

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Removes the lines after that many epochs, for which there is no checkpoint. Returns the remaining epochs."""
        rows = [row for row in self.metrics() if row["epoch"] <= epochs]
        if [row["epoch"] for row in rows] != list(range(1, epochs + 1)):
            raise UserError(
                f"{self._metrics_file} must have the epochs 1 to {epochs}, for which the checkpoint was trained; some "
                "are missing"
            )
        with self._writing():
            write_file(self._metrics_file, "".join(_line(row) for row in rows))
        return rows

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Appends an epoch."""
        with self._writing():
            append_line(self._metrics_file, _line(row))

    def conditions(self) -> list[dict[str, Any]]:
        """What was measured under other conditions so far. A last line that is incomplete is left out."""
        return list(_rows(self.path / CONDITIONS, _CONDITION))

    def add_condition(self, row: dict[str, Any]) -> None:
        """Appends what was measured under one condition."""
        path = self.path / CONDITIONS
        with self._writing():
            if path.exists() and not path.read_bytes().endswith(b"\n"):  # interrupted while it was written
                write_file(path, "".join(_line(known) for known in self.conditions()))
            append_line(path, _line(row))

    def early_exit(self) -> dict[str, Any] | None:
        """What was measured of samples that leave early; None if nothing was."""
        return self._read_json("early_exit.json", _EARLY_EXIT)

    def write_early_exit(self, found: dict[str, Any]) -> None:
        """Writes what was measured of samples that leave early."""
        with self._writing():
            write_file(self.path / "early_exit.json", sealed(json.dumps(found, indent=1)))

    def rates(self, epoch: int) -> dict[str, float]:
        """The layers' firing rates on clean training data after an epoch, by name. Raises UserError without them."""
        kept = self._read_json("rates.json", _RATES)
        if kept is None or str(epoch) not in kept["epochs"]:
            raise UserError(
                f"{self.path} holds no firing rates of epoch {epoch} on clean data, to which thresholds could be "
                "adapted; they are saved when training ends"
            )
        return kept["epochs"][str(epoch)]

    def write_rates(self, epochs: dict[int, dict[str, float]]) -> None:
        """Writes the layers' firing rates on clean training data after some epochs."""
        with self._writing():
            write_file(self.path / "rates.json", sealed(json.dumps({"epochs": epochs}, indent=1)))

    def write_examples(self, record: dict[str, Any], pictures: Mapping[str, Image.Image]) -> None:
        """Writes examples of test samples, and their pictures by file name."""
        folder = self.path / "predictions"
        with self._writing():
            folder.mkdir(exist_ok=True)
            for name, picture in pictures.items():
                with replacing(folder / name, durable=False) as partial:  # a crash of the machine may cost a picture
                    picture.save(partial, format="PNG")
            write_file(folder / "examples.json", sealed(json.dumps(record)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write to output folder {self.path}: {error}") from error

    def _read_json(self, name: str, keys: Sequence[str]) -> Any:
        path = self.path / name
        try:
            return _record(path.read_bytes(), str(path), keys)
        except FileNotFoundError:
            return None


def _rows(path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The lines of a file; none if there is no file. A last line that is incomplete is left out."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            return
        yield _record(line[:-1], f"{path}, line {number},", keys)


def _record(content: bytes, place: str, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON object with these keys. Raises UserError if it is none."""
    try:
        found = unsealed(content)
    except ValueError as error:
        raise UserError(f"{place} is damaged: {error}") from error
    for key in keys:
        if key not in found:
            raise UserError(f"{place} is damaged: it has no {key!r}")
    return found


def _line(row: dict[str, Any]) -> str:
    return sealed(json.dumps(row)) + "\n"


def is_vacant(path: Path, what: str = "output") -> bool:
    """Whether a folder is missing, empty, or has only the partial files of an interrupted start.

    Raises:
        UserError: it is a file, or the path is not valid.
    """
    try:
        if not is_there(path):
            is_there(path.parent)
            return True
        if not path.is_dir():
            raise UserError(f"{what} {path} is a file; give a folder")
        return all(entry.name == LOCK or is_unfinished(entry) for entry in path.iterdir())
    except OSError as error:  # such as a name that is too long
        raise UserError(f"{what} folder {shortened_path(str(path))} cannot be used: {error.strerror}") from None
