"""Reading configs: YAML files that extend each other, packaged configs by name, overrides."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from step_ahsar.config.schema import SEAL, Config, build_config
from step_ahsar.config.values import check_keys, merge, merge_values
from step_ahsar.errors import UserError, unknown
from step_ahsar.files import digest, is_there
from step_ahsar.paths import configs_dir


def load_config(source: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a config.

    Args:
        source: path of a YAML file, or the name of a packaged config (see :func:`list_configs`).
        overrides: ``"a.b=value"`` with a value in YAML. They take precedence over the file.

    Raises:
        UserError: no such file, invalid YAML, an unknown key or a value out of range. The message names the place.

    >>> load_config("quickstart", ["train.epochs=1"]).train.epochs
    1
    """
    values: dict[str, Any] = _read(_find(str(source)), ())
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise UserError(f"an override is key=value, such as train.lr=0.001; got {override!r}")
        values = merge_values(values, {key.strip(): _parse(text, f"value of {key.strip()!r}")}, Config)
    return build_config(values)


def list_configs() -> list[str]:
    """Names of the packaged configs. Files that start with an underscore, which others extend, are left out."""
    root = configs_dir()
    paths = (path.relative_to(root) for path in root.rglob("*.yaml"))
    return sorted(path.with_suffix("").as_posix() for path in paths if not path.name.startswith("_"))


def _find(name: str, beside: Path | None = None) -> Path:
    """The file with this path, which may be relative to ``beside``, else the packaged config with this name."""
    here = Path(name) if beside is None else beside / name
    packaged = configs_dir() / name
    try:
        for path in (here, packaged, packaged.with_name(f"{packaged.name}.yaml")):
            if is_there(path) and path.is_file():
                return path
        there = is_there(here)
    except (OSError, ValueError) as error:  # such as a name that is too long or not valid
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"no config file {name[:60]!r}...: {reason}") from None
    if here.suffix in (".yaml", ".yml") or there:
        place = "" if beside is None else f" beside {beside}"
        raise UserError(
            f"no config file {name!r}{place} (working directory {Path.cwd()}); `step-ahsar list configs` shows the "
            "packaged configs"
        )
    raise unknown("config", name, list_configs())


def _read(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    """The values of the file, merged into those of the file that it extends."""
    if path.resolve() in chain:
        circle = " -> ".join(str(p) for p in (*chain, path.resolve()))
        raise UserError(f"configs extend each other in a circle: {circle}")
    try:
        text = path.read_text(encoding="utf-8")
        values = _parse(text, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read config {path}: {error}") from None
    body, sign, given = text.rpartition(SEAL)
    if sign and given.strip() != digest(body.encode()):
        raise UserError(f"{path} was altered after it was written; if that was meant, remove its last line")
    if _sets_nothing(values):
        raise UserError(f"{path} is empty; a config must set at least one key, such as model.name")
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold keys and values, got a {type(values).__name__}")
    extends = values.pop("extends", None)
    try:
        check_keys(values, Config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if extends is None:
        return values
    if not isinstance(extends, str):
        raise UserError(f"{path}: extends must be the path of one config, got {extends!r}")
    base = _read(_find(extends, path.parent), (*chain, path.resolve()))
    return merge(base, values)


def _sets_nothing(values: Any) -> bool:
    return values is None or (isinstance(values, dict) and all(map(_sets_nothing, values.values())))


# libyaml's parser, where PyYAML was built with it, is ten times as fast; a comparison reads a config for each run.
_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_FastLoader):
    """PyYAML's loader, except that a key given twice is an error and that 1e-3 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # "<<: *name", whose keys may be given again
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else None)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        last = text.rstrip().count("\n")  # the end of a text may be marked as a line of its own
        line = f", line {min(mark.line, last) + 1}" if mark is not None else ""
        raise UserError(f"{what}{line}: not valid YAML: {problem}") from None
