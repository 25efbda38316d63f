"""Reading, layering and refusing configs."""

import pytest

from step_ahsar.config import Config, list_configs, load_config
from step_ahsar.errors import UserError


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


# -- layers ----------------------------------------------------------------------------------------------------------


def test_overrides_stand_over_the_file_and_that_over_what_it_extends(tmp_path):
    write(tmp_path, "base.yaml", "train: {epochs: 3, lr: 0.5}\nmodel: {threshold: 2.0}")
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner", "child.yaml", "extends: ../base.yaml\ntrain: {lr: 0.25}")
    config = load_config(path, ["train.epochs=4"])
    assert (config.train.epochs, config.train.lr, config.model.threshold) == (4, 0.25, 2.0)


def test_extends_takes_packaged_configs_by_name(tmp_path):
    path = write(tmp_path, "mine.yaml", "extends: classification/static/digits\nseed: 7")
    assert load_config(path) == load_config("classification/static/digits", ["seed=7"])


def test_null_leaves_a_section_at_its_defaults_and_drops_a_comparison(tmp_path):
    path = write(tmp_path, "single.yaml", "extends: quickstart\ncompare: null\ntrain: null")
    assert load_config(path).compare is None
    assert load_config(path).train == Config().train


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "model:\n", "model: {args: {}}\ntrain:\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path, text):
    """Fault: it was valid, one run of 10 epochs."""
    with pytest.raises(UserError, match=r"empty\.yaml is empty; a config must set at least one key"):
        load_config(write(tmp_path, "empty.yaml", text))


def test_a_name_longer_than_the_file_system_allows(tmp_path):
    for name in ("x" * 300, str(tmp_path / ("x" * 300)) + ".yaml"):
        with pytest.raises(UserError, match=r"no config file '.*\.\.\.: .*name too long") as error:
            load_config(name)
        assert len(str(error.value)) < 200


def test_override_values_are_yaml():
    config = load_config(
        "classification/static/digits",
        ["train.lr=1e-2", "ahsar.band=[0.1, 0.3]", "model.alpha=null", "model.args.depth=1", "data.root=a=b"],
    )
    assert config.train.lr == 0.01
    assert config.ahsar.band == (0.1, 0.3)
    assert config.model.args == {"depth": 1}
    assert config.data.root == "a=b"


@pytest.mark.parametrize("name", list_configs())
def test_the_resolved_dump_loads_back_equal(name, tmp_path):
    config = load_config(name)
    assert load_config(write(tmp_path, "dump.yaml", config.to_yaml())) == config


def test_with_values_leaves_the_original_alone():
    config = Config()
    assert config.with_values({"model.threshold": 2.0}).model.threshold == 2.0
    assert config.model.threshold is None


def test_only_neuron_options_that_were_set_are_passed_on():
    config = Config().with_values({"model.tau": 3.0, "model.detach_reset": False})
    assert config.model.neuron_options() == {"tau": 3.0, "detach_reset": False}


# -- comparisons -----------------------------------------------------------------------------------------------------


def comparison(*cells, **more):
    return Config().with_values({"compare": {"cells": list(cells), **more}})


def test_cells_are_the_config_with_their_values():
    config = comparison({"id": "a", "model.threshold": 2.0}, {"id": "b", "model.args.depth": 1}, seeds=[3, 4])
    (a, first), (b, second) = config.cells()
    assert (a, b) == ("a", "b")
    assert first == Config().with_values({"model.threshold": 2.0})
    assert second.model.args == {"depth": 1}
    assert first.compare is None


@pytest.mark.parametrize(
    ("cells", "more", "words"),
    [
        ([{"id": "a", "model.treshold": 1}], {}, "compare.cells 'a': unknown key 'model.treshold'"),
        ([{"id": "a", "model.threshold": 0}], {}, "compare.cells 'a': model.threshold must be > 0, got 0"),
        ([{"id": "a", "seed": 1}], {}, "compare.cells 'a': a cell cannot set 'seed'"),
        ([{"id": "a"}, {"id": "a"}], {}, "compare.cells must differ from each other, got 'a' twice"),
        ([{"id": "../a"}], {}, "compare.cells[0].id must match"),
        ([{"model.threshold": 1}], {}, "compare.cells[0]: 'id' is missing"),
        ([], {}, "compare has no cells: write them in compare.cells, or axes in compare.grid"),
        ([], {"grid": {"model.treshold": [1]}}, "compare.grid 'treshold1': unknown key 'model.treshold'"),
        ([], {"grid": {"seed": [1, 2]}}, "compare.grid 'seed1': a cell cannot set 'seed'"),
        ([], {"grid": {"model.threshold": []}}, "compare.grid.model.threshold"),
        (
            [],
            {"grid": {"model.tau": [2.0, 2.0]}},
            "compare.grid: the values of model.tau must differ from each other, got 2.0",
        ),
        (
            [{"id": "tau3"}],
            {"grid": {"model.tau": [2, 3]}},
            "compare.cells must differ from each other, got 'tau3' twice",
        ),
        ([{"id": "a"}], {"except": [{"model.tau": 2}]}, "choose combinations of compare.grid, which is missing"),
        ([{"id": "a"}], {"seeds": [1, 1]}, "compare.seeds must differ from each other, got 1 twice"),
        ([{"id": "a"}], {"seeds": []}, "compare.seeds is wrong"),
        ([{"id": "a"}], {"target": 90}, "compare.target must be <= 1, got 90"),
        ([{"id": "a"}], {"cell": []}, "unknown key 'compare.cell'; did you mean 'compare.cells'?"),
    ],
)
def test_faults_of_a_comparison_name_the_cell(cells, more, words):
    with pytest.raises(UserError) as error:
        comparison(*cells, **more)
    assert words in str(error.value)


GRID = {
    "model.name": ["spikformer_2_64", "qkformer_3_64"],
    "model.neuron": ["lif", "ahsar"],
    "model.threshold": [None, 2],
}


def grid(**more):
    return {name: cell.model for name, cell in comparison(grid=GRID, **more).cells()}


def test_a_grid_crosses_its_axes():
    cells = grid()
    assert list(cells) == [
        f"{model}-{neuron}{ending}"
        for model in GRID["model.name"]
        for neuron in GRID["model.neuron"]
        for ending in ("", "-threshold2")
    ]
    found = cells["qkformer_3_64-ahsar-threshold2"]
    assert (found.name, found.neuron, found.threshold) == ("qkformer_3_64", "ahsar", 2)
    assert cells["spikformer_2_64-lif"].threshold is None


def test_cells_beside_a_grid_come_first():
    config = comparison({"id": "own", "model.tau": 4.0}, grid={"model.neuron": ["lif", "plif"]})
    assert [name for name, _ in config.cells()] == ["own", "lif", "plif"]
    assert Config().with_values({"compare": config.to_dict()["compare"]}) == config  # `except` among its keys


def test_combinations_are_left_out():
    assert len(grid()) == 8
    without = grid(**{"except": [{"model.neuron": "ahsar", "model.threshold": 2}]})
    assert [name for name in grid() if name not in without] == [
        "spikformer_2_64-ahsar-threshold2",
        "qkformer_3_64-ahsar-threshold2",
    ]
    where = [
        {"model.name": "spikformer_2_64", "model.threshold": None},
        {"model.neuron": ["ahsar"], "model.threshold": 2},
    ]
    assert list(grid(where=where)) == [
        "spikformer_2_64-lif",
        "spikformer_2_64-ahsar",
        "spikformer_2_64-ahsar-threshold2",
        "qkformer_3_64-ahsar-threshold2",
    ]
    assert list(grid(where=where, **{"except": [{"model.threshold": None}]})) == [
        "spikformer_2_64-ahsar-threshold2",
        "qkformer_3_64-ahsar-threshold2",
    ]


@pytest.mark.parametrize(
    ("axes", "ids"),
    [
        ({"data.name": ["images/cifar10", "digits"]}, ["images_cifar10", "digits"]),
        ({"model.detach_reset": [True, False]}, ["detach_reset", "no_detach_reset"]),
        ({"train.lr": [1e-3, 1e-5]}, ["lr0.001", "lr1e-05"]),
        ({"data.img_size": [16, [16, 32]]}, ["img_size16", "img_size16x32"]),
        ({"model.args": [{}, {"attention": "none", "depth": 3}]}, ["default", "none-depth3"]),
        ({"model.neuron": ["lif"], "model.time_steps": [2, 4]}, ["time_steps2", "time_steps4"]),
        ({"model.neuron": ["lif"], "model.time_steps": [2]}, ["lif-time_steps2"]),
    ],
)
def test_ids_say_what_differs(axes, ids):
    assert [name for name, _ in comparison(grid=axes).cells()] == ids


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"except": [{"model.threshold": [None, 2]}]},
            "compare.grid makes no cell: where and except leave out all of its 8 combinations",
        ),
        ({"where": [{"model.nam": "x"}]}, "compare.where[0]: unknown axis 'model.nam'; did you mean 'model.name'?"),
        ({"except": [{}, {"model.neuron": "lift"}]}, "compare.except[1]: model.neuron has no value 'lift' in the grid"),
    ],
)
def test_faults_of_a_grid(more, words):
    with pytest.raises(UserError) as error:
        grid(**more)
    assert words in str(error.value)


def test_a_grid_whose_ids_would_be_the_same():
    with pytest.raises(UserError, match=r"two cells would be called 'default'.*compare\.cells, with an id of its own"):
        comparison(grid={"model.neuron": ["lif"], "model.args": [{}, {"attention": None}]})


def test_cells_of_a_single_run():
    with pytest.raises(UserError, match="no section 'compare'"):
        Config().cells()


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.treshold=1", "unknown key 'model.treshold'; did you mean 'model.threshold'? known: model.name,"),
        ("modle.threshold=1", "unknown key 'modle'; did you mean 'model'? known: task, seed, data,"),
        ("threshold=1", "unknown key 'threshold'; did you mean 'model.threshold'?"),
        ("ahsar.bands=1", "unknown key 'ahsar.bands'; did you mean 'ahsar.band'?"),
        ("zzz=1", "unknown key 'zzz'; known: task"),
        ("model.threshold=0", "model.threshold must be > 0, got 0"),
        ("model.threshold=-1", "model.threshold must be > 0, got -1"),
        ("model.threshold=.nan", "model.threshold must be finite, got nan"),
        ("model.threshold=high", "model.threshold must be a number, got 'high'"),
        ("model.threshold=true", "model.threshold must be a number, got True"),
        ("model.threshold.x=1", "model.threshold must be a number, got {'x': 1}"),
        ("model.tau=1", "model.tau must be > 1, got 1"),
        ("model.time_steps=0", "model.time_steps must be >= 1, got 0"),
        ("model.time_steps=2.5", "model.time_steps must be an integer, got 2.5"),
        ("model.time_steps=true", "model.time_steps must be an integer, got True"),
        ("model.reset=sometimes", "model.reset must be one of 'hard', 'soft', got 'sometimes'"),
        ("model=3", "model is a section with keys of its own, got 3"),
        ("train.lr=0", "train.lr must be > 0, got 0"),
        ("train.amp=fp8", "train.amp must be one of 'bf16', 'fp16', got 'fp8'"),
        ("train.ema_decay=1", "train.ema_decay must be < 1, got 1"),
        ("train.warmup_epochs=10", "train.warmup_epochs + train.cooldown_epochs must be < train.epochs"),
        ("seed=-1", "seed must be >= 0, got -1"),
        ("ahsar.eta=2", "ahsar.eta must be in [1e-06, 1], got 2"),
        ("ahsar.band=[0.4, 0.2]", "ahsar.band must be [lo, hi]"),
        ("ahsar.band={mlp: [0.4, 0.2]}", "ahsar.band of group 'mlp' must be [lo, hi]"),
        ("ahsar.k=true", "ahsar.k must be a number, got True"),
        ("ahsar.calibrate='0.1'", "ahsar.calibrate must be a number, got '0.1'"),
        ("ahsar.budget=0.02", "ahsar.budget has no effect on neuron 'lif': set model.neuron: ahsar, or train.rate_pen"),
        ("data.scale=[1]", "data.scale"),
        ("train.lr", "an override is key=value"),
        ("=3", "an override is key=value"),
        ("train.lr=[1", "value of 'train.lr', line 1: not valid YAML"),
    ],
)
def test_faults_are_one_line_with_the_key_and_what_would_be_right(override, words):
    with pytest.raises(UserError) as error:
        load_config("classification/static/digits", [override])
    message = str(error.value)
    assert words in message
    assert "\n" not in message


def test_images_are_mixed_in_pairs():
    with pytest.raises(UserError, match=r"data\.batch_size must be even to mix images in pairs, got 3"):
        Config().with_values({"train.cutmix": 1.0, "data.batch_size": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {threshol: 1}", "unknown key 'model.threshol'; did you mean 'model.threshold'?"),
        ("seed: 1\nseed: 2", "line 2: not valid YAML: key 'seed' is given twice"),
        ("model: {name: [}", "not valid YAML"),
        ("- 1\n- 2", "must hold keys and values, got a list"),
        ("extends: [a, b]", "extends must be the path of one config"),
        ("extends: missing.yaml", "no config file 'missing.yaml'"),
        ("extends: quikstart", "unknown config 'quikstart'; did you mean 'quickstart'?"),
    ],
)
def test_faults_in_files_name_the_file(text, words, tmp_path):
    path = write(tmp_path, "faulty.yaml", text)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert words in str(error.value)
    assert "faulty.yaml" in str(error.value) or "extends" in text


def test_a_section_may_be_written_once_and_given_again(tmp_path):
    path = write(
        tmp_path,
        "merged.yaml",
        "compare: {cells: [&one {id: a, model.tau: 3, model.threshold: 2}, {<<: *one, id: b, model.threshold: 3}]}",
    )
    first, second = (cell.values() for cell in load_config(path).compare.cells)
    assert first == {"model.tau": 3, "model.threshold": 2}
    assert second == {"model.tau": 3, "model.threshold": 3}
    with pytest.raises(UserError, match="key 'id' is given twice"):
        load_config(write(tmp_path, "twice.yaml", "compare: {cells: [&one {id: a}, {<<: *one, id: b, id: c}]}"))


def test_configs_that_extend_each_other(tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml")
    path = write(tmp_path, "b.yaml", "extends: a.yaml")
    with pytest.raises(UserError, match=r"in a circle: .*b\.yaml -> .*a\.yaml -> .*b\.yaml"):
        load_config(path)


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match="no config file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        load_config("quickstrt")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read config"):
        load_config(tmp_path / "binary.yaml")


def test_list_configs_leaves_fragments_out():
    names = list_configs()
    assert "quickstart" in names
    assert not any(name.rsplit("/", 1)[-1].startswith("_") for name in names)
