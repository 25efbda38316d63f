"""Every packaged config loads, names what exists, and says how it is started."""

from importlib.util import find_spec

import pytest

from step_ahsar.config import list_configs, load_config
from step_ahsar.engine import validate
from step_ahsar.paths import configs_dir


@pytest.mark.parametrize("name", list_configs())
def test_config(name):
    config = load_config(name)
    for library in ("spikingjelly", "braincog"):  # which not every Python has
        if library in config.to_yaml() and find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    validate(config)
    header = (configs_dir() / f"{name}.yaml").read_text().split("\n\n")[0]
    command = "compare" if config.compare else "train"
    assert f"step-ahsar {command} " in header
    assert name in header
