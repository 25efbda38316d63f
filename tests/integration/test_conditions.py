"""Trained models under other conditions, on disk and in comparisons."""

import json

import pytest

from step_ahsar import engine
from step_ahsar.compare import collect, compare, load
from step_ahsar.config import load_config
from step_ahsar.engine import evaluate, measure_conditions, measured_conditions, train
from step_ahsar.errors import UserError
from step_ahsar.robustness import scores
from tests.integration.test_cli import ok, refused

pytestmark = pytest.mark.usefixtures("eager", "one_thread")

TINY = [
    "compare=null", "model.name=spikformer_2_64", "model.args={dim: 16, heads: 2, depth: 1}", "model.time_steps=2",
    "model.threshold=0.3", "data.train_limit=96", "data.test_limit=50", "data.batch_size=16", "data.img_size=16",
    "train.epochs=1",
]  # fmt: skip
SOME = ["jpeg:5", "contrast:5", "time_steps:3", "threshold:1.5", "weight_noise:0.5", "weight_bits:2"]
SOME += ["fgsm:16", "pgd:16"]


def tiny(*overrides):
    return load_config("quickstart", [*TINY, *overrides])


@pytest.fixture
def run(tmp_path):
    train(tiny("model.neuron=ahsar"), tmp_path / "run")
    return tmp_path / "run"


def test_each_condition_is_measured_once(run, monkeypatch):
    told = []
    found = measure_conditions(run, SOME[:3], on_condition=told.append)
    assert list(found) == ["clean", *SOME[:3]]
    assert [row["condition"] for row in told] == list(found)
    assert found["clean"]["metrics"]["acc1"] == engine.read_result(run)["metrics"]["acc1"]
    assert found["clean"]["firing_rate"] == engine.read_result(run)["firing_rate"]
    assert set(found["clean"]["metrics"]) == {"acc1", "ece"}
    assert all(row["error"] is None and row["epoch"] == 1 for row in found.values())

    def once(*arguments, **options):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("step_ahsar.engine.conditions.measure", once)
        assert measure_conditions(run, SOME[:3]) == found == measured_conditions(run)
    every = measure_conditions(run, SOME)
    assert {name: every[name] for name in found} == found
    assert list(measured_conditions(run)) == ["clean", *SOME]
    assert len((run / "conditions.jsonl").read_text().splitlines()) == 9
    changed = [name for name in SOME if every[name]["firing_rate"] != found["clean"]["firing_rate"]]
    assert changed == SOME  # every one changes what the model does
    assert every["threshold:1.5"]["firing_rate"]["stem"] < found["clean"]["firing_rate"]["stem"]


def test_what_was_cut_off_is_measured_again(run):
    found = measure_conditions(run, ["jpeg:5", "contrast:5"])
    file = run / "conditions.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    assert list(measured_conditions(run)) == ["clean", "jpeg:5"]
    assert measure_conditions(run, ["jpeg:5", "contrast:5"]) == found
    assert measured_conditions(run) == found


def test_conditions_are_those_of_the_data_they_change(run):
    found = measure_conditions(run, ["jpeg:5", "time_steps:3"])
    assert found["jpeg:5"]["metrics"]["acc1"] == evaluate(run, overrides=["data.corruption=jpeg:5"])["metrics"]["acc1"]


def test_each_checkpoint_has_records_of_its_own(tmp_path):
    config = tiny("train.epochs=2", "train.lr=0.02")
    result = train(config, tmp_path / "run")
    last, best = (measure_conditions(tmp_path / "run", ["jpeg:1"], which) for which in ("last", "best"))
    assert (last["clean"]["epoch"], best["clean"]["epoch"]) == (2, result["best"]["epoch"])
    assert best["clean"]["metrics"]["acc1"] == result["best"]["metrics"]["acc1"]
    assert measured_conditions(tmp_path / "run") == last
    other = last["jpeg:1"] | {"condition": "jpeg:2", "epoch": 1}
    engine.Run.existing(tmp_path / "run").add_condition(other | {"metrics": {"acc1": 0.123}})
    assert measured_conditions(tmp_path / "run") == last
    assert measure_conditions(tmp_path / "run", ["jpeg:2"])["jpeg:2"]["epoch"] == 2


def test_a_model_that_cannot_have_a_condition_says_why(tmp_path):
    train(tiny("model.norm=tebn"), tmp_path / "run")
    found = measure_conditions(tmp_path / "run", ["time_steps:3", "threshold:2"])
    assert found["time_steps:3"]["metrics"] is None
    assert "step_scale" in found["time_steps:3"]["error"]
    assert found["threshold:2"]["error"] is None
    said = ok("evaluate", tmp_path / "run", "--condition", "time_steps:3")
    assert "time_steps:3: checkpoint" in said


def test_thresholds_and_norms_are_adapted_to_the_data(run):
    rates = engine.Run.existing(run).rates(1)
    assert set(rates) == set(engine.read_result(run)["epochs"][-1]["layers"])
    names = ["contrast:5", *(f"{name}+{each}" for name in ("clean", "contrast:5") for each in ("thresholds", "norm"))]
    found = measure_conditions(run, names)
    assert list(found) == ["clean", *names]
    assert all(row["error"] is None for row in found.values())
    rate = {name: row["firing_rate"] for name, row in found.items()}
    assert len({json.dumps(each) for each in rate.values()}) == 6
    stem = [value for name, value in rates.items() if name.startswith("patch_embed")]
    assert rate["contrast:5+thresholds"]["stem"] == pytest.approx(sum(stem) / len(stem), rel=0.05)
    assert abs(rate["contrast:5"]["stem"] / rate["contrast:5+thresholds"]["stem"] - 1) > 0.1
    assert measure_conditions(run, names) == measured_conditions(run) == found
    said = ok("evaluate", run, "--condition", "contrast:5", "--adapt", "norm")
    assert [line.split()[0] for line in said.splitlines() if "contrast" in line] == ["contrast:5", "contrast:5+norm"]
    assert len(measured_conditions(run)) == 6

    wrong = {
        "contrast:5+weights": "unknown adaptation in condition 'contrast:5+weights': 'weights'",
        "fgsm:4+norm": "condition 'fgsm:4+norm' does not apply: attacks are on the model as it was trained",
        "nothing:1+norm": "unknown condition of static data 'nothing'",
    }
    for name, why in wrong.items():
        with pytest.raises(UserError, match=why.replace("+", r"\+")):
            measure_conditions(run, [name])
    with pytest.raises(UserError, match="holds no firing rates of epoch 2 on clean data"):
        engine.Run.existing(run).rates(2)
    (run / "rates.json").unlink()
    assert (
        "holds no firing rates of epoch 1 on clean data"
        in measure_conditions(run, ["jpeg:1+thresholds"])["jpeg:1+thresholds"]["error"]
    )


def test_norms_are_not_adapted_to_a_batch_of_one(tmp_path):
    train(tiny("data.test_limit=49", "data.batch_size=12"), tmp_path / "run")  # tested in batches of 48 and 1
    with pytest.raises(UserError, match=r"cannot be adapted to a batch of 1.*data\.batch_size"):
        measure_conditions(tmp_path / "run", ["clean+norm"])
    assert measured_conditions(tmp_path / "run").keys() == {"clean"}  # what was measured before is kept
    assert measure_conditions(tmp_path / "run", ["clean+norm"], overrides=["data.batch_size=10"])["clean+norm"][
        "metrics"
    ]


def test_on_the_command_line(run, tmp_path):
    train(tiny(), tmp_path / "other")
    said = ok("evaluate", run, "--condition", "jpeg:5", "--condition", "jpeg:1", "--reference", tmp_path / "other")
    first = [line.split(" ")[0] for line in said.splitlines()]
    assert [word for word in first if word in ("clean", "jpeg:1", "jpeg:5")] == ["clean", "jpeg:5", "jpeg:1"]
    summed = scores(measured_conditions(run), "acc1", measured_conditions(tmp_path / "other"))
    assert f"accuracy under corruption {100 * summed['corrupted']:.2f} %" in said
    assert f"mean corruption error against {tmp_path / 'other'} {100 * summed['mce']:.2f} %" in " ".join(said.split())
    ok("evaluate", run, "--corruptions")
    assert len(measured_conditions(run)) == 41
    assert "cannot be changed here, because the results are kept" in refused(
        "evaluate", run, "--corruptions", "head.test_flip=1"
    )
    assert "unknown condition of static data 'fog'" in refused("evaluate", run, "--condition", "fog:1")
    assert "--reference is for" in refused("evaluate", run, "--reference", run)
    assert "--operations is for the clean test set" in refused("evaluate", run, "--operations", "--corruptions")


def test_comparisons_test_every_trained_model(tmp_path):
    cells = "compare={target: null, seeds: [0, 1], cells: [{id: lif}, {id: ahsar, model.neuron: ahsar}], %s}"
    plain = load_config("quickstart", [*TINY[1:], cells % "margin: 0.01"])
    before = compare(plain, tmp_path)
    assert all(seed["conditions"] is None for cell in before["cells"] for seed in cell["seeds"])
    trained = {path: path.read_bytes() for path in tmp_path.glob("runs/*/*/result.json")}
    wanted = "conditions: [jpeg:5, contrast:5, threshold:1.5], reference: lif"
    config = load_config("quickstart", [*TINY[1:], cells % wanted])
    summary = compare(config, tmp_path)
    assert {path: path.read_bytes() for path in trained} == trained  # not trained again
    for cell in summary["cells"]:
        for seed in cell["seeds"]:
            assert list(seed["conditions"]) == ["clean", "jpeg:5", "contrast:5", "threshold:1.5"]
            assert seed["conditions"]["clean"]["metrics"]["acc1"] == seed["metrics"]["acc1"]
            assert set(seed["robustness"]) >= {"corrupted", "mce", "ece", "ece_corrupted"}
        mean = cell["mean"]
        assert mean["conditions"]["jpeg:5"] == pytest.approx(
            sum(seed["conditions"]["jpeg:5"]["metrics"]["acc1"] for seed in cell["seeds"]) / 2, rel=1e-5
        )
    lif, ahsar = summary["cells"]
    assert lif["mean"]["robustness"]["mce"] == 1
    [pair] = summary["comparisons"]
    ours, theirs = ([seed["robustness"]["corrupted"] for seed in cell["seeds"]] for cell in (ahsar, lif))
    values = [a - b for a, b in zip(ours, theirs, strict=True)]
    assert pair["robustness"]["corrupted"]["difference"]["values"] == pytest.approx(values, abs=1e-5)
    assert load(tmp_path) == summary
    rows = (tmp_path / "runs/lif/0/conditions.jsonl").read_text()
    compare(config, tmp_path)
    assert (tmp_path / "runs/lif/0/conditions.jsonl").read_text() == rows
    assert json.loads(rows.splitlines()[0])["condition"] == "clean"


def test_without_the_library_of_attacks(run, tmp_path, monkeypatch):
    """What was measured can be shown. What needs the library is refused before anything is trained or measured."""
    found = measure_conditions(run, ["fgsm:8"])
    attacked = "compare={target: null, cells: [{id: a}], conditions: ['fgsm:8']}"
    with_attacks = load_config("quickstart", [*TINY[1:], attacked])
    before = compare(with_attacks, tmp_path / "out")
    monkeypatch.setattr("step_ahsar.robustness.attacking.find_spec", lambda name: None)
    assert measure_conditions(run, ["fgsm:8"]) == found
    assert collect(tmp_path / "out")["cells"] == before["cells"]
    with pytest.raises(UserError, match="attacks need the Adversarial Robustness Toolbox: pip install"):
        measure_conditions(run, ["jpeg:1", "pgd:8"])
    assert "jpeg:1" not in measured_conditions(run)
    with pytest.raises(UserError, match="attacks need the Adversarial Robustness Toolbox"):
        compare(with_attacks, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_conditions_of_comparisons_must_fit_some_of_the_data():
    mixed = "compare={target: null, cells: [{id: a}, {id: b, data.name: digits_events}], conditions: [%s]}"

    def conditions(names):
        config = load_config("quickstart", [*TINY[1:5], mixed % names])
        return engine.conditions_of(config.compare.conditions, [cell for _, cell in config.cells()])

    static, event = conditions("fgsm:8, hot_pixels:1, threshold:2")
    assert static == ("clean", "fgsm:8", "threshold:2")
    assert event == ("clean", "hot_pixels:1", "threshold:2")
    with pytest.raises(UserError, match=r"compare\.conditions: unknown condition of static data 'fog'"):
        conditions("fog:1")
    with pytest.raises(UserError, match=r"unknown cell in compare.reference: 'c'"):
        load_config("quickstart", [*TINY[1:5], "compare={target: null, cells: [{id: a}], reference: c}"])
