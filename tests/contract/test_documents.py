import re
import runpy
from pathlib import Path

from step_ahsar.config import load_config

ROOT = Path(__file__).parents[2]


def test_the_table_of_neurons_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "neuron_table.py"))
    assert "| `lif` |" in (ROOT / "docs" / "neurons.md").read_text()
    assert not script["stale"](), "run scripts/neuron_table.py"


def test_the_grid_of_the_document_has_the_cells_that_it_names(tmp_path):
    text = (ROOT / "docs" / "compare.md").read_text()
    (tmp_path / "my.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    ids = [name for name, _ in load_config(tmp_path / "my.yaml").cells()]
    assert len(ids) == 10
    assert "This grid has ten cells." in text
    assert "qkformer_3_64-lif-threshold0.5" in ids


def test_the_table_of_models_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "model_table.py"))
    assert "`swformer_4_384` (7.48)" in script["fresh"]()
    assert script["fresh"]() == script["DOCUMENT"].read_text(), "run scripts/model_table.py"


def test_the_page_of_keys_is_up_to_date_and_says_what_each_is():
    script = runpy.run_path(str(ROOT / "scripts" / "config_table.py"))
    page = script["page"]()
    assert "| `head_lr` | `1.0` | factor on the learning rate" in page
    assert not re.findall(r"^\| `.*\|  \|$", page, re.MULTILINE), "a key without a description"
    assert page == script["DOCUMENT"].read_text(), "run scripts/config_table.py"


def test_the_tables_of_results_are_those_of_the_summaries():
    script = runpy.run_path(str(ROOT / "scripts" / "results_table.py"))
    document = script["DOCUMENT"].read_text()
    folders = {path.name for path in (ROOT / "results").iterdir()}
    in_pages = {"main", "bands_digits"}  # too many cells for a document
    assert {place[1] for place in script["PLACE"].findall(document)} == folders - in_pages - {"bench"}
    assert all((ROOT / "results" / name / "report.html").is_file() for name in in_pages)
    assert script["fresh"]() == document, "run scripts/results_table.py"
    assert script["fresh_speed"]() == script["SPEED"].read_text(), "run scripts/results_table.py"
