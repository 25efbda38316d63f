"""The run directory, and who may write into it.

config.yaml      the resolved config
manifest.json    versions, hardware, commit, data set with fingerprint, parameters
metrics.jsonl    a line an epoch
checkpoints/     see checkpoint.py
predictions/     of the first test samples, after the last epoch: input, truth and prediction, where a task draws
result.json      the run's result once it has ended, well or not
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from step_ahsar.config import Config, load_config
from step_ahsar.errors import UserError


class Run:
    """A run directory that was opened for one config; see :meth:`open` and :meth:`existing`."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.config = path, config

    @classmethod
    def open(cls, path: Path, config: Config, resume: bool) -> "Run":
        """For training: a new directory, or one that holds a run of the same config. Nothing is written yet.

        Args:
            path: the directory; it may be empty or not exist yet.
            config: what is to be trained.
            resume: whether an unfinished run may be continued.

        Raises:
            UserError: the directory holds something else, or an unfinished run without ``resume``.
        """
        run = cls(path, config)
        if path.exists() and not path.is_dir():
            raise UserError(f"output {path} is a file; give a folder")
        if not path.exists() or not any(path.iterdir()):
            return run
        if not run._config_file.exists():
            raise UserError(f"output folder {path} is not empty and holds no run; give another folder")
        differing = _differences(load_config(run._config_file).to_dict(), config.to_dict())
        if differing:
            raise UserError(
                f"output folder {path} holds a run of another config: {_some(differing)}; give another folder"
            )
        result = run.result()
        finished = result is not None and result["status"] == "ok"
        if not finished and not resume:
            raise UserError(
                f"output folder {path} holds an unfinished run of this config; resume it or give another folder"
            )
        return run

    @classmethod
    def existing(cls, path: Path) -> "Run":
        """For reading. Raises UserError if there is no run."""
        file = path / "config.yaml"
        if not file.is_file():
            raise UserError(f"{path} holds no run: there is no config.yaml in it")
        return cls(path, load_config(file))

    @property
    def checkpoints(self) -> Path:
        """The checkpoints' folder."""
        return self.path / "checkpoints"

    @property
    def _config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def _metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    def begin(self, manifest: dict[str, Any]) -> None:
        """Writes the config and the manifest of a new run; a resumed one keeps those it began with."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self._config_file.exists():
                _write(self._config_file, self.config.to_yaml())
            if not (self.path / "manifest.json").exists():
                _write(self.path / "manifest.json", json.dumps(manifest, indent=1))
            (self.path / "result.json").unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to output folder {self.path}: {error}") from error

    def result(self) -> dict[str, Any] | None:
        """The result of a run that has ended, None while it has not."""
        return self._read_json("result.json")

    def write_result(self, result: dict[str, Any]) -> None:
        """Marks the run as ended."""
        _write(self.path / "result.json", json.dumps(result, indent=1))

    def manifest(self) -> dict[str, Any]:
        """The manifest. Raises UserError if training has not written one yet."""
        manifest = self._read_json("manifest.json")
        if manifest is None:
            raise UserError(f"{self.path} holds no manifest.json; its training never began")
        return manifest

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs so far. A last line that was cut off while it was written is left out."""
        return list(self._rows())

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Drops the lines behind that many epochs, which had no checkpoint when the run broke off; returns the rest."""
        rows = [row for row in self._rows() if row["epoch"] <= epochs]
        if [row["epoch"] for row in rows] != list(range(1, epochs + 1)):
            raise UserError(
                f"{self._metrics_file} lacks lines of epochs 1 to {epochs}, which the checkpoint has behind it"
            )
        _write(self._metrics_file, "".join(_line(row) for row in rows))
        return rows

    def add_metrics(self, row: dict[str, Any]) -> None:
        """Appends an epoch."""
        with self._metrics_file.open("a", encoding="utf-8") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    def write_pictures(self, pictures: list[Image.Image]) -> None:
        """Replaces the pictures of predictions."""
        folder = self.path / "predictions"
        folder.mkdir(exist_ok=True)
        for i, picture in enumerate(pictures):
            partial = folder / f".{i:02d}.partial"
            picture.save(partial, format="PNG")
            partial.replace(folder / f"{i:02d}.png")

    def _rows(self) -> Iterator[dict[str, Any]]:
        if not self._metrics_file.exists():
            return
        for line in self._metrics_file.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):
                return
            yield json.loads(line)

    def _read_json(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{path} is damaged: {error}") from error


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _write(path: Path, text: str) -> None:
    """Replaces the file at once: a reader, or a crash, sees the old text or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _differences(there: Any, given: Any, path: str = "") -> list[str]:
    if not isinstance(there, dict) or not isinstance(given, dict):
        return [] if there == given else [f"{path} is {there!r} there and {given!r} here"]
    keys = sorted({*there, *given})
    return [
        line
        for key in keys
        for line in _differences(there.get(key), given.get(key), f"{path}.{key}" if path else str(key))
    ]


def _some(lines: list[str], limit: int = 3) -> str:
    return "; ".join(lines[:limit]) + (f"; and {len(lines) - limit} more" if len(lines) > limit else "")
