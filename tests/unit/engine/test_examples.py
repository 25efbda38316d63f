"""The examples that a run keeps of its test set: which ones, and which classes are confused."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from step_ahsar import ranks
from step_ahsar.config import load_config
from step_ahsar.engine.examples import FEW, Examples
from step_ahsar.tasks import create_task

CLASSES = [f"class {i}" for i in range(5)]


@pytest.fixture(scope="module")
def task() -> Any:
    return create_task(load_config("classification/static/digits"), CLASSES)


@pytest.fixture(scope="module")
def samples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, logits and classes of 53 samples, among them some that are predicted equally well."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(53, 5, generator=generator)
    targets = torch.randint(0, 5, (53,), generator=generator)
    logits[40], targets[40] = logits[3], targets[3]
    probability = logits.softmax(-1)[range(53), targets]
    best, worst = probability.argmax(), probability.argmin()
    for twin, of in ((50, best), (51, worst)):
        logits[twin], targets[twin] = logits[of], targets[of]
    return torch.rand(53, 1, 8, 8, generator=generator), logits, targets


def collected(task: Any, samples: Any, part: slice = slice(None), size: int = 8) -> Examples:
    found = Examples(task)
    for batch in zip(*(each[part].split(size) for each in samples), strict=True):
        found.add(*batch)
    return found


def numbers(found: Examples) -> dict[str, list[int]]:
    return {kind: [each.sample for each in kept] for kind, kept in found.kinds.items()}


def test_the_first_the_best_and_the_worst_are_kept(task: Any, samples: Any) -> None:
    inputs, logits, targets = samples
    probability = logits.softmax(-1)[range(53), targets].double()
    by_hand = {
        "first": list(range(FEW)),
        "best": sorted(range(53), key=lambda i: (-probability[i].item(), i))[:FEW],
        "worst": sorted(range(53), key=lambda i: (probability[i].item(), i))[:FEW],
    }
    found = collected(task, samples)
    assert numbers(found) == by_hand
    assert {50, 51} & {*by_hand["best"], *by_hand["worst"]}  # of equal ones the first comes first
    for example in found.kinds["worst"]:
        assert torch.equal(example.inputs[0], inputs[example.sample])
        assert torch.equal(example.outputs[0], logits[example.sample])
        assert example.targets.tolist() == [targets[example.sample].item()]
        assert example.score == pytest.approx(probability[example.sample].item())


def test_confusions_are_those_of_scikit_learn(task: Any, samples: Any) -> None:
    _, logits, targets = samples
    matrix = np.zeros((5, 5), dtype=int)
    for (truth, guess), number in collected(task, samples).confusions.items():
        matrix[truth, guess] = number
    assert (matrix == confusion_matrix(targets, logits.argmax(1))).all()


def test_confusions_of_very_many_classes_are_counted_too(task: Any, samples: Any, monkeypatch: Any) -> None:
    expected = collected(task, samples).confusions
    monkeypatch.setattr("step_ahsar.engine.examples._LARGEST_TABLE", 24)
    assert collected(task, samples).confusions == expected


def test_examples_do_not_keep_their_batches(task: Any, samples: Any) -> None:
    for kept in collected(task, samples).kinds.values():
        for example in kept:
            assert example.inputs.untyped_storage().nbytes() == 8 * 8 * 4
            assert example.outputs.untyped_storage().nbytes() == 5 * 4


def test_examples_of_objects_do_not_keep_their_batches() -> None:
    """Boxes are in dicts, of which each image has one."""
    task = create_task(load_config("detection/static/digits_scenes"), CLASSES)
    boxes = torch.tensor([[0.0, 0, 4, 4], [4, 4, 8, 8]])
    scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    found = [{"boxes": boxes[i : i + 1], "scores": scores[i : i + 1], "labels": labels[i : i + 1]} for i in (0, 1)]
    truth = [{**each, "area": torch.tensor([16.0]), "crowd": torch.tensor([False])} for each in found]
    examples = Examples(task)
    examples.add(torch.rand(2, 1, 8, 8), found, truth)
    for example in examples.kinds["first"]:
        assert example.outputs[0]["boxes"].untyped_storage().nbytes() == 4 * 4
        assert example.targets[0]["boxes"].tolist() == boxes[example.sample : example.sample + 1].tolist()


def test_a_probability_that_is_none_is_as_bad_as_can_be(task: Any, samples: Any) -> None:
    inputs, logits, targets = samples
    broken = logits.clone()
    broken[[7, 30]] = float("nan")
    found = numbers(collected(task, (inputs, broken, targets)))
    assert found["worst"][:2] == [7, 30]
    assert not {7, 30} & {*found["best"]}


def test_a_prediction_is_the_class_of_the_highest_logit(task: Any) -> None:
    """Fault: pictures told another class than accuracy and confusions, where a softmax cannot tell two apart."""
    logits = torch.tensor([[0.0, 1e-9, -1, -1, -1]])
    assert task.show(logits, torch.tensor([0]))[0]["prediction"] == CLASSES[1]
    assert task.judge(logits, torch.tensor([0]))[1].tolist() == [1]


def test_ranks_find_what_one_process_finds(task: Any, samples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [collected(task, samples, part) for part in (slice(0, 20), slice(20, 39), slice(39, 53))]
    monkeypatch.setattr(ranks, "gathered", lambda mine: [(p._seen, p.kinds, p.confusions) for p in parts])
    joined = collected(task, samples, slice(20, 39))
    joined.join()
    alone = collected(task, samples)
    assert numbers(joined) == numbers(alone)
    assert joined.confusions == alone.confusions


def test_a_set_with_few_samples(task: Any, samples: Any) -> None:
    found = collected(task, samples, slice(0, 2))
    assert numbers(found)["first"] == [0, 1]
    assert sorted(numbers(found)["best"]) == [0, 1]
    assert numbers(found)["best"] == numbers(found)["worst"][::-1]


def test_the_record_names_the_pictures(task: Any, samples: Any) -> None:
    record, pictures = collected(task, samples).record()
    assert json.loads(json.dumps(record)) == record
    assert record["classes"] == CLASSES
    assert sum(number for *_, number in record["confusions"]) == 53
    assert {each["picture"] for each in record["examples"]} == set(pictures)
    assert len(pictures) == 3 * FEW
    worst = next(each for each in record["examples"] if each["kind"] == "worst")
    assert worst["picture"] == "worst-0.png"
    assert worst["shown"]["truth"] == CLASSES[samples[2][worst["sample"]]]
    seen = np.asarray(pictures["worst-0.png"].resize((8, 8), Image.Resampling.NEAREST).convert("L"), float)
    assert np.corrcoef(seen.ravel(), samples[0][worst["sample"]].ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("name", "overrides", "shape", "size"),
    [
        ("classification/static/digits", [], (2, 3, 16, 32), (256, 128)),
        ("classification/static/digits", ["data.encoder=rate"], (5, 2, 1, 8, 8), (5 * 96 + 4 * 8, 96)),
        ("classification/event/digits_events", [], (20, 2, 2, 8, 8), (8 * 96 + 7 * 8, 96)),
        ("classification/sequence/digits_sequence", [], (2, 1, 64), (256, 96)),
        ("classification/static/digits", [], (2, 1, 4, 4000), (4096, 4)),  # no wider than a JPEG can be
        ("classification/sequence/digits_sequence", ["data.sequence.axis=time"], (8, 2, 1, 8), (256, 96)),
        ("classification/sequence/digits_sequence", ["data.encoder=rate"], (8, 2, 1, 64), (256, 96)),
    ],
)
def test_every_kind_of_input_has_a_picture(name: str, overrides: list[str], shape: Any, size: Any) -> None:
    of_kind = create_task(load_config(name, overrides), CLASSES)
    torch.manual_seed(0)
    first, second = of_kind.draw(torch.rand(shape), torch.randn(2, 5), torch.tensor([0, 1]))
    assert first.size == second.size == size
    assert first.tobytes() != second.tobytes()
    assert np.asarray(first).std() > 5
