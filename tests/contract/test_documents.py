import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_neurons_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "neuron_table.py"))
    assert "| `lif` |" in (ROOT / "docs" / "neurons.md").read_text()
    assert not script["stale"](), "run scripts/neuron_table.py"
