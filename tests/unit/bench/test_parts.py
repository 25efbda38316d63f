import pytest

from step_ahsar.bench import PARTS, Setting, run_bench
from step_ahsar.bench import parts as parts_of
from step_ahsar.bench.timing import Row
from step_ahsar.errors import UserError

SMALL = Setting(threads=1, rounds=1, small=True)


def test_what_was_measured_so_far_is_there_after_every_row(monkeypatch):
    def two(setting):
        yield Row("one", "a", "ms", {"ours": [1.0]})
        yield Row("one", "b", "ms", {"ours": [2.0]})

    monkeypatch.setitem(PARTS, "one", PARTS["neuron"]._replace(measure=two))
    lengths = [len(found["rows"]) for found in run_bench(["one", "one"], SMALL)]
    assert lengths == [1, 2, 3, 4]


def test_the_machine_is_described():
    found = next(run_bench(["neuron"], SMALL))
    assert found["hardware"]["threads"] == 1
    assert found["small"]
    assert {"torch", "step-ahsar"} <= found["versions"].keys()


def test_a_part_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="unknown part of the benchmark 'nuron'; did you mean 'neuron'"):
        next(run_bench(["nuron"], SMALL))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "nonsense"}, "device 'nonsense' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"rounds": 0}, "rounds and threads must be >= 1, got 0 and 2"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(UserError, match=message):
        Setting(**options)


def test_a_library_that_is_missing_or_fails_is_left_out_and_said():
    def absent(*_):
        raise UserError("backend 'x' is not installed")

    def broken():
        raise RuntimeError("no kernel image\nand more")

    steps, skipped = parts_of._available(["a", "b", "c"], lambda kind: {"a": dict, "b": absent, "c": broken}[kind])
    assert steps == {"a": dict}
    assert skipped == {"b": "backend 'x' is not installed", "c": "RuntimeError: no kernel image"}
    with pytest.raises(RuntimeError, match="no kernel image"):
        parts_of._available(["step-ahsar"], lambda kind: broken)


def test_an_accelerator_gets_more_images():
    assert {case.batch for case in Setting(device="meta").cases} == {128}
    assert {case.batch for case in Setting().cases} == {8, 64}


def test_training_of_all_contenders():
    (row,) = PARTS["training"].measure(SMALL)
    assert next(iter(row.values)) == "step-ahsar"
    assert {*row.values, *row.skipped} == {
        *("step-ahsar", "SpikingJelly", "SpikingJelly's neurons", "BrainCog's neurons", "ReLU", "products alone")
    }
    medians = row.medians()
    assert medians["products alone"] < medians["step-ahsar"]
    assert not row.skipped or all("install" in reason or "import" in reason for reason in row.skipped.values())


def test_time_against_t_is_in_the_rows_for_the_plot():
    rows = list(PARTS["time-steps"].measure(SMALL))
    assert [row.at for row in rows] == [1, 2, 4]


def test_variables_of_the_environment_are_as_before(monkeypatch):
    monkeypatch.setenv("A_VARIABLE", "before")
    monkeypatch.delenv("ANOTHER", raising=False)
    with parts_of._env(A_VARIABLE="inside", ANOTHER="inside"):
        assert parts_of.os.environ["ANOTHER"] == "inside"
    assert parts_of.os.environ["A_VARIABLE"] == "before"
    assert "ANOTHER" not in parts_of.os.environ
