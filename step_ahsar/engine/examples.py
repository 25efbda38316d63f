"""What a model did with a set, for a reader: its first, best and worst samples, and the classes that it confuses."""

from collections import Counter
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from typing import Any, Literal, TypeAlias

from PIL import Image
from torch import Tensor

from step_ahsar import ranks
from step_ahsar.engine.device import each_tensor
from step_ahsar.tasks import Task

Kind: TypeAlias = Literal["first", "best", "worst"]

FEW = 4  # examples of each kind
_LARGEST_TABLE = 2**22  # numbers of a table in which pairs of classes are counted


@dataclass(frozen=True)
class Example:
    """One sample, as a batch of one, on the CPU.

    Args:
        kind: why it was chosen.
        sample: its number in the set.
        score: how well it was predicted, see :meth:`step_ahsar.tasks.Task.judge`.
        inputs: [1, C, *S], or [T, 1, C, *S].
        outputs: the prediction, as far as the task keeps it.
        targets: the truth.
    """

    kind: Kind
    sample: int
    score: float
    inputs: Tensor
    outputs: Any
    targets: Any

    @property
    def order(self) -> tuple[float, int]:
        """The lowest of its kind is the first to be shown; of samples with equal scores it is the one before."""
        return _order(self.kind, self.score, self.sample)


@dataclass
class Examples:
    """Collects examples batch by batch, and with :meth:`join` those of all ranks.

    Args:
        task: the model's task.

    Attributes:
        kinds: the examples, in their order.
        confusions: how often a class, in the truth, was taken for a class, by both indices; empty for other tasks.
    """

    task: Task
    kinds: dict[Kind, list[Example]] = field(default_factory=lambda: {"first": [], "best": [], "worst": []})
    confusions: Counter[tuple[int, int]] = field(default_factory=Counter)
    _seen: int = 0

    def add(self, inputs: Tensor, outputs: Any, targets: Any) -> None:
        """Adds a batch and its predictions."""
        scores, pairs = self.task.judge(outputs, targets)
        scores = [score if score == score else 0.0 for score in scores]  # nan is as bad as can be
        axis = self.task.batch_axis(inputs)
        for kind, kept in self.kinds.items():
            places = sorted((_order(kind, score, self._seen + i), i) for i, score in enumerate(scores))[:FEW]
            if len(kept) == FEW:
                places = [place for place in places if place[0] < kept[-1].order]
            for _, i in places:
                one = inputs.narrow(axis, i, 1), self.task.kept(outputs[i : i + 1]), targets[i : i + 1]
                kept.append(Example(kind, self._seen + i, scores[i], *each_tensor(_copied, one)))
            self.kinds[kind] = nsmallest(FEW, kept, key=lambda example: example.order)
        self._seen += len(scores)
        if pairs is not None:
            for pair, number in _counted(pairs, len(self.task.classes)).items():
                self.confusions[divmod(pair, len(self.task.classes))] += number

    def join(self) -> None:
        """Adds those of the other ranks, each of which has a block of the samples."""
        every = ranks.gathered((self._seen, self.kinds, self.confusions))
        self.kinds, self.confusions, self._seen = {kind: [] for kind in self.kinds}, Counter(), 0
        for seen, kinds, confusions in every:
            for kind, kept in kinds.items():
                theirs = [replace(example, sample=self._seen + example.sample) for example in kept]
                self.kinds[kind] = nsmallest(FEW, self.kinds[kind] + theirs, key=lambda example: example.order)
            self.confusions.update(confusions)
            self._seen += seen

    def record(self) -> tuple[dict[str, Any], dict[str, Image.Image]]:
        """What JSON can hold of them, and their pictures by file name.

        Returns:
            ``classes``, ``confusions`` (triples of class index in truth and in prediction, and how often) and
            ``examples``, each with ``kind``, ``sample``, ``score``, ``picture`` and, as ``shown``, what the task says.
        """
        told, pictures = [], {}
        for kind, kept in self.kinds.items():
            for i, example in enumerate(kept):
                name = f"{i:02d}.png" if kind == "first" else f"{kind}-{i}.png"
                [pictures[name]] = self.task.draw(example.inputs, example.outputs, example.targets)
                [shown] = self.task.show(example.outputs, example.targets)
                told.append(
                    {"kind": kind, "sample": example.sample, "score": example.score, "picture": name, "shown": shown}
                )
        confusions = [[*pair, number] for pair, number in sorted(self.confusions.items())]
        return {"classes": [*self.task.classes], "confusions": confusions, "examples": told}, pictures


def _counted(pairs: Tensor, classes: int) -> dict[int, int]:
    """How often each number occurs. Counting in a table is faster than sorting, unless the table is very large."""
    if classes**2 > _LARGEST_TABLE:
        found, counts = pairs.unique(return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))
    counts = pairs.bincount(minlength=classes**2)
    found = counts.nonzero().flatten()
    return dict(zip(found.tolist(), counts[found].tolist(), strict=True))


def _copied(tensor: Tensor) -> Tensor:
    """A copy on the CPU: a view would keep its whole batch."""
    return tensor.detach().to("cpu", copy=True)


def _order(kind: Kind, score: float, sample: int) -> tuple[float, int]:
    return {"first": 0.0, "best": -score, "worst": score}[kind], sample
