"""The format of summary.json as pydantic models. docs/summary.md explains every field.

`Summary.model_json_schema()` is the same format as a JSON schema, for readers in other languages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Metrics = dict[str, Annotated[float, Field(ge=0, le=1)]]
Interval = tuple[float, float]


class Layer(_Strict):
    """One spiking layer of one run, after each of its epochs."""

    group: str
    rate: list[float]
    threshold_scale: list[float] | None
    dead_fraction: list[float] | None = None


class Epoch(_Strict):
    """One epoch of one run: a line of the run's metrics.jsonl, without its layers, which are in `Seed.layers`.

    Metrics and firing rates are those of the set that `Cell.chosen_on` names.
    """

    epoch: int = Field(ge=1)
    train_loss: float
    metrics: Metrics
    lr: float
    step_ms: float
    firing_rate: dict[str, float]
    dead_fraction: float
    gamma: dict[str, float] | None = None
    rate_penalty: dict[str, float] | None = None
    seconds: float


class Best(_Strict):
    """The epoch with the best judged metric on the set that `Cell.chosen_on` names, and its metrics on the test set."""

    epoch: int = Field(ge=1)
    metrics: Metrics


class Neurons(_Strict):
    """How the firing rates of a layer's neurons are distributed, on the test set after the last epoch.

    `step_ahsar.measure.firing.Distribution` explains the fields.
    """

    group: str | None
    quantiles: tuple[float, float, float, float, float]
    dead: float
    saturated: float


class Synapses(_Strict):
    """How many spikes a synapse of a layer gets in one inference, as a mean."""

    group: str | None
    spikes: float


class Tested(_Strict):
    """A trained model's results on its test set under one condition; null if the model does not have the condition."""

    metrics: Metrics | None
    firing_rate: dict[str, float] | None
    dead_fraction: float | None
    error: str | None


class ExitPoint(_Strict):
    """Samples that leave at one threshold of certainty; null: after the last step."""

    threshold: float | None
    acc1: float
    time_steps: float
    shares: list[float]
    operations: float | None
    validation_acc1: float
    validation_time_steps: float


class EarlyExit(_Strict):
    """A trained model whose samples leave early; `step_ahsar.engine.measure_early_exit` explains the fields."""

    criterion: str
    epoch: int
    chosen: float | None
    operations: list[float] | None
    points: list[ExitPoint]


class Seed(_Strict):
    """One run: one cell with one seed. A run that did not end well has epochs, but its results are null."""

    seed: int
    status: Literal["ok", "failed", "unfinished"]
    error: str | None
    epochs: list[Epoch]
    layers: dict[str, Layer]
    metrics: Metrics | None
    best: Best | None
    epochs_to_target: int | None
    step_ms: float | None
    peak_memory_mib: float | None
    firing_rate: dict[str, float] | None
    threshold_scale: dict[str, float] | None
    dead_fraction: float | None
    # Earlier versions did not write the following.
    operations: dict[str, float] | None = None
    energy: dict[str, float] | None = None
    neurons: dict[str, Neurons] | None = None
    synapses: dict[str, Synapses] | None = None
    conditions: dict[str, Tested] | None = None
    robustness: dict[str, float] | None = None
    early_exit: EarlyExit | None = None
    energy_without_spikes: dict[str, float] | None = None


# Fields that are null unless the run ended well.
RESULTS = (
    "metrics",
    "best",
    "epochs_to_target",
    "step_ms",
    "peak_memory_mib",
    "firing_rate",
    "threshold_scale",
    "dead_fraction",
    "operations",
    "energy",
    "neurons",
    "synapses",
    "conditions",
    "robustness",
    "early_exit",
    "energy_without_spikes",
)


class Mean(_Strict):
    """Means over the seeds that ended well; null if there is no value."""

    metrics: dict[str, float] | None
    best_metrics: dict[str, float] | None
    train_loss: float | None
    epochs_to_target: float | None
    step_ms: float | None
    peak_memory_mib: float | None
    firing_rate: dict[str, float] | None
    threshold_scale: dict[str, float] | None
    dead_fraction: float | None
    operations: dict[str, float] | None = None
    energy: dict[str, float] | None = None
    conditions: dict[str, float] | None = None
    robustness: dict[str, float] | None = None
    early_exit: dict[str, float] | None = None
    energy_without_spikes: dict[str, float] | None = None


class Interval95(_Strict):
    """95 % Student-t intervals (low, high) of the means; null for fewer than two seeds."""

    metrics: dict[str, Interval] | None
    best_metrics: dict[str, Interval] | None
    train_loss: Interval | None
    epochs_to_target: Interval | None
    step_ms: Interval | None
    peak_memory_mib: Interval | None
    firing_rate: dict[str, Interval] | None
    threshold_scale: dict[str, Interval] | None
    dead_fraction: Interval | None
    operations: dict[str, Interval] | None = None
    energy: dict[str, Interval] | None = None
    conditions: dict[str, Interval] | None = None
    robustness: dict[str, Interval] | None = None
    early_exit: dict[str, Interval] | None = None
    energy_without_spikes: dict[str, Interval] | None = None


class Cell(_Strict):
    """One cell of the comparison: one configuration, trained once per seed."""

    id: str
    task: str
    metric: str | None
    modality: str
    dataset: str
    model: str
    neuron: str
    regulated: bool
    base: str | None
    backend: str
    threshold: float | None
    time_steps: int = Field(ge=1)
    settings: dict[str, Any]
    chosen_on: Literal["validation", "test"]
    parameters: int | None
    epochs: int = Field(ge=1)
    band: dict[str, Interval] | None
    seeds: list[Seed]
    n: int
    n_reached: int
    median_epochs_to_target: float | None = None  # which earlier versions did not write
    mean: Mean
    ci95: Interval95


class Difference(_Strict):
    """A value of the cell minus that of its control, seed by seed."""

    values: list[float]
    mean: float | None
    ci95: Interval | None


class Evidence(_Strict):
    """What the differences of the judged metric say about their true mean; null for fewer than two seeds.

    `step_ahsar.compare.statistics.PairedTest` explains the fields. `p_holm` is `p_t`, corrected for the number of pairs
    of the same factor.
    """

    effect_size: float | None
    p_t: float | None
    p_holm: float | None
    p_permutation: float | None
    p_equivalence: float | None
    detectable: float | None


class Wins(_Strict):
    """In how many seeds the cell has the higher metric, the same, and the lower one."""

    win: int
    tie: int
    loss: int


class EpochsRatio(_Strict):
    """Epochs to the target of the cell over those of its control, seed by seed; the mean is geometric."""

    values: list[float | None]
    bounds: list[Literal["exact", "at_most", "at_least", "unknown"]]
    mean: float | None
    bound: Literal["exact", "at_most", "at_least", "unknown"]
    ci95: Interval | None


class RobustnessDifference(_Strict):
    """The same for one of the figures of robustness, with what the differences say about their true mean."""

    difference: Difference
    test: Evidence


class BesideTheLine(_Strict):
    """A cell that is regulated or penalised minus the line through fixed thresholds, seed by seed, between two of them.

    At equal rate the line is the judged metric by spikes per neuron and time step, at equal operations by synaptic
    operations; at equal accuracy it is the metric under corruption by that on the clean test set. `outside` is the
    number of seeds beyond the ends of the line; they are left out.
    """

    difference: Difference
    test: Evidence
    outside: int


class Comparison(_Strict):
    """A cell beside a control that differs from it in one factor, paired over the seeds under which both ended well.

    With `chosen_from`, the control is the best of these cells in validation, and thresholds may differ as well.
    """

    cell: str
    control: str
    factor: str
    chosen_from: list[str]
    chosen_on: Literal["validation", "test"] | None
    differs: dict[str, tuple[Any, Any]]
    seeds: list[int]
    metric_difference: Difference
    test: Evidence
    wins: Wins
    area_difference: Difference
    epochs_ratio: EpochsRatio
    robustness: dict[str, RobustnessDifference] | None = None
    equal_rate: BesideTheLine | None = None
    equal_operations: BesideTheLine | None = None
    equal_accuracy: BesideTheLine | None = None


class Method(_Strict):
    """A method across places: mean rank, interquartile mean of the judged metric, and its 95 % bootstrap interval."""

    name: str
    rank: float
    iqm: float
    ci95: Interval


class Ranking(_Strict):
    """The methods that have results at every place; `step_ahsar.compare.ranking` says what these are."""

    places: list[str]
    methods: list[Method]
    p_friedman: float | None
    critical_difference: float


class Part(_Strict):
    """One of the folders whose summaries were joined: its config, and {id here: id there} of its cells."""

    name: str
    config: dict[str, Any]
    cells: dict[str, str]


class Manifest(_Strict):
    """The comparison as a whole: its config and data sets, and the software and hardware that it ran on.

    Of joined comparisons each of `parts` has a config of its own, and `config` is empty.
    """

    title: str
    target: float | None
    margin: float
    pairs: list[str] | None
    places: list[str]
    seeds: list[int]
    runs: int
    runs_done: int
    started: str
    updated: str
    versions: dict[str, str]
    hardware: dict[str, Any]
    git_commit: str | None
    datasets: list[dict[str, Any]]
    config: dict[str, Any]
    parts: list[Part] = Field(default_factory=list)
    reference: str | None = None


class Summary(_Strict):
    """The whole of summary.json."""

    manifest: Manifest
    cells: list[Cell]
    comparisons: list[Comparison]
    unpaired: list[str]
    ranking: Ranking | None
    checksum: str | None = None  # of the file
