"""The schema of an experiment config: every key, its range and its default."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from step_ahsar.ahsar.config import AHSARConfig
from step_ahsar.config.grid import cross
from step_ahsar.config.values import explain, merge_values
from step_ahsar.errors import UserError, unknown
from step_ahsar.files import digest

SEAL = "# SHA-256 of the lines above: "

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]  # strict: true and "4" are not numbers
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[NotNegative, Field(le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Index = Annotated[int, Field(ge=0, strict=True)]
Range = tuple[Positive, Positive]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TransformConfig(BaseModel):
    """A transform of tonic's: its class, and the arguments that it is made with."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name."""
        return dict(self.model_extra or {})


class EventsConfig(_Section):
    """How recordings become frames [T, P, H, W], where T is model.time_steps, and how recordings are augmented."""

    representation: str = Field(default="time", description="see `step-ahsar list representations`")
    window_ms: Positive | None = Field(default=None, description="duration of a slice, for `window`")
    tau_ms: Positive | None = Field(default=None, description="decay of a time surface; null = the duration of a slice")
    hflip: Fraction = Field(default=0.0, description="probability of a left-right flip")
    roll: Index = Field(default=0, description="largest shift in pixels; events that leave enter on the other side")
    rotate: NotNegative = Field(default=0.0, description="largest rotation in degrees, in both directions")
    cutout: Fraction = Field(
        default=0.0, description="side of a square without events, relative to the sensor's shorter side"
    )
    drop: Fraction = Field(default=0.0, description="probability of EventDrop")
    jitter_us: NotNegative = Field(default=0.0, description="standard deviation of the noise on timestamps")
    transforms: list[TransformConfig] = Field(
        default_factory=list,
        description="tonic's transforms of the events of every part, with their arguments, such as "
        "{name: Denoise, filter_time: 10000}",
    )
    train_transforms: list[TransformConfig] = Field(
        default_factory=list, description="tonic's transforms that augment training recordings, likewise"
    )


class SequenceConfig(_Section):
    """How a series enters a model."""

    axis: Literal["tokens", "time"] = Field(
        default="tokens",
        description="tokens: samples are tokens, repeated T times; time: samples are divided among the T time steps",
    )
    length: Count | None = Field(default=None, description="length of every series, in samples; null = unchanged")
    fit: Literal["cut", "resample"] = Field(
        default="cut", description="how series get that length: cut or padded with zeros, or resampled linearly"
    )
    permute: bool = Field(default=False, description="pixels in a fixed random order")
    bins: Count = Field(default=100, description="time bins of spike audio")
    channels: Count = Field(default=140, description="channels of spike audio, merged from the cochlea's 700")
    mels: Count = Field(default=40, description="mel bands of speech")


class ColumnsConfig(_Section):
    """Columns of a table of the package `datasets`. null = found by their types and names."""

    input: str | tuple[str, ...] | None = Field(
        default=None,
        description="the column of images, audio or series; of series also several: columns of lists are a channel "
        "each, columns of numbers a time step each; of series a pattern, such as t*, stands for several",
    )
    label: str | None = Field(default=None, description="the column of classes")


class DataConfig(_Section):
    """The data set and its preparation. The augmentation keys are timm's; by default there is no augmentation."""

    name: str = Field(default="digits", description="see `step-ahsar list datasets`")
    root: str | None = Field(default=None, description="file or folder of the data set; embedded sets need none")
    download: bool = Field(default=False, description="download the data set if it is not there")
    validation: Annotated[NotNegative, Field(lt=1)] = Field(
        default=0.1,
        description="share of each class held out of training for validation, unless the data set has a validation "
        "split; 0 = validate on the test set",
    )
    test_share: Annotated[Positive, Field(lt=1)] | None = Field(
        default=None,
        description="share of each class held out for testing, in a data set without a test part; null = 0.2",
    )
    split_seed: Index = Field(default=0, description="seed of the choice of held-out samples")
    train_limit: Count | None = Field(default=None, description="most training samples, always the same ones")
    test_limit: Count | None = Field(
        default=None, description="most test samples, and most validation samples, always the same ones"
    )
    on_error: Literal["raise", "skip"] = Field(
        default="raise", description="what to do about files that cannot be used"
    )
    cache: str | None = Field(
        default=None, description="folder for frames of events and digests of files; null = ~/.cache/step-ahsar"
    )
    img_size: Count | tuple[Count, Count] | None = Field(
        default=None, description="pixels, or [height, width]; null = the data set's own"
    )
    test_size: Count | tuple[Count, Count] | None = Field(
        default=None, description="img_size of test data; null = img_size"
    )
    batch_size: Count = Field(default=64, description="samples of a step, of each process")
    workers: Index = Field(
        default=0,
        description="loading processes, which prepare batches beside the steps; 0 = the one that trains does it, "
        "between steps; results do not depend on it",
    )
    prefetch: Count = Field(default=2, description="batches that each loading process prepares in advance")
    pin_memory: bool | None = Field(default=None, description="page-locked batches; null = if there is a GPU")
    shuffle_time: Literal["test", "both"] | None = Field(
        default=None,
        description="the frames of each recording, or the samples of each series, in a random order: in testing alone, "
        "or in training and validation too; a model that needs the order of time then loses accuracy",
    )
    encoder: str = Field(
        default="direct",
        description="from an image to T time steps, see `step-ahsar list encoders`; direct repeats the image",
    )
    corruption: str | None = Field(
        default=None, description="corruption of test data, name:severity, such as gaussian_noise:3"
    )
    columns: ColumnsConfig = ColumnsConfig()
    events: EventsConfig = EventsConfig()
    sequence: SequenceConfig = SequenceConfig()
    mean: tuple[Number, ...] | None = Field(
        default=None, description="mean of each channel, of pixels in [0, 1]; null = the data set's"
    )
    std: tuple[Positive, ...] | None = Field(
        default=None, description="standard deviation of each channel; null = the data set's"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "random"] = Field(
        default="bilinear", description="how images are resized"
    )
    crop_pct: Annotated[Positive, Field(le=1)] = Field(
        default=1.0, description="share of a test image that the centre crop keeps"
    )
    scale: Range = Field(default=(1.0, 1.0), description="area of the random crop, relative to the image")
    ratio: Range = Field(default=(1.0, 1.0), description="aspect ratio of the random crop")
    hflip: Fraction = Field(default=0.0, description="probability of a horizontal flip")
    color_jitter: NotNegative = Field(
        default=0.0, description="strength of random changes of brightness, contrast and saturation"
    )
    auto_augment: str | None = Field(default=None, description="timm's policy string, such as rand-m9-mstd0.5-inc1")
    re_prob: Fraction = Field(default=0.0, description="random erasing")
    re_mode: Literal["const", "rand", "pixel"] = Field(
        default="const", description="what erased parts of an image are filled with"
    )


class ModelConfig(_Section):
    """The model and its spiking neuron. null means the default of the neuron or of the model."""

    name: str = Field(default="spikformer_2_64", description="see `step-ahsar list models`")
    time_steps: Count = Field(default=4, description="T of inputs without a time axis of their own")
    neuron: str = Field(default="lif", description="see `step-ahsar list neurons`; `ahsar` is one of them")
    backend: str = Field(default="torch", description="the library that simulates the neuron")
    base: str | None = Field(default=None, description="the neuron that `ahsar` regulates; null = lif")
    threshold: Positive | None = Field(default=None, description="firing threshold")
    attn_threshold: Positive | None = Field(default=None, description="null = half of the threshold")
    tau: Annotated[Number, Field(gt=1)] | None = Field(
        default=None, description="membrane time constant, in time steps"
    )
    surrogate: str | None = Field(default=None, description="see `step-ahsar list surrogates`")
    alpha: Positive | None = Field(default=None, description="sharpness of the surrogate")
    reset: Literal["hard", "soft"] | None = Field(default=None, description="to 0 after a spike, or by the threshold")
    detach_reset: bool | None = Field(default=None, description="whether gradients stop at the reset")
    norm: str | None = Field(
        default=None, description="norm in front of the neurons: bn, tdbn, tebn or none; null = bn"
    )
    weight_bits: Annotated[int, Field(ge=2, le=32, strict=True)] | None = Field(
        default=None, description="bits of quantised weights (LSQ), 2 to 8, or 32 for none; null = the model's own"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="further arguments of the model and of its neuron")

    def layer_options(self) -> dict[str, Any]:
        """The options of the model's layers that are set, by the models' names."""
        return {name: value for name in ("norm", "weight_bits") if (value := getattr(self, name)) is not None}

    def neuron_options(self) -> dict[str, Any]:
        """The options of the neuron that are set, by the registry's names."""
        names = ("base", "tau", "surrogate", "alpha", "reset", "detach_reset")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class RatePenaltyConfig(_Section):
    """A penalty on the mean firing rate with a steered weight. It changes the loss, whatever the neuron."""

    budget: Annotated[Positive, Field(lt=1)] | None = Field(
        default=None, description="firing rate, in spikes per neuron and time step, above which the loss is raised"
    )
    budget_ops: Positive | None = Field(
        default=None, description="in place of budget: synaptic operations of a sample above which the loss is raised"
    )
    band: Annotated[list[Fraction], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="in place of a budget: [lo, hi] of each layer's rate, outside of which the loss is raised, on the "
        "mean over layers; its weight is constant",
    )
    weight: NotNegative = Field(default=0.0, description="weight of the penalty in the first step")
    gain: NotNegative = Field(
        default=0.3, description="change of the weight per step and relative excess over the budget; 0 = constant"
    )
    most: Positive = Field(default=200.0, description="largest weight")

    @property
    def is_on(self) -> bool:
        """Whether there is a penalty."""
        return bool(self._given)

    @property
    def _given(self) -> list[str]:
        return [key for key in ("budget", "budget_ops", "band") if getattr(self, key) is not None]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(given := self._given) > 1:
            raise UserError(f"train.rate_penalty.{given[0]} and train.rate_penalty.{given[1]}: give one of them")
        if self.band is not None and not self.band[0] < self.band[1]:
            raise UserError(f"train.rate_penalty.band must be [lo, hi] with 0 <= lo < hi <= 1, got {self.band}")
        if self.band is not None and not self.weight:
            raise UserError("train.rate_penalty.band has a constant weight: set train.rate_penalty.weight > 0")
        if self.weight > self.most:
            raise UserError(
                f"train.rate_penalty.weight must be <= train.rate_penalty.most, got {self.weight:g} > {self.most:g}"
            )
        return self


class TrainConfig(_Section):
    """Training. Optimisers, schedules, mixing and weight averaging are timm's."""

    epochs: Count = Field(default=10, description="number of epochs")
    optimizer: str = Field(default="adamw", description="an optimiser of timm")
    lr: Positive = Field(default=1e-3, description="learning rate after warm-up")
    head_lr: Positive = Field(
        default=1.0,
        description="factor on the learning rate of a classifier's linear head; about 30 for a model that is to be "
        "nearly silent, whose features are small",
    )
    weight_decay: NotNegative = Field(
        default=0.05, description="of weights, not of biases, norms and the neurons' own parameters"
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="of the learning rate over the epochs"
    )
    patience: Count | None = Field(
        default=None, description="end after this number of epochs in a row without a better validation metric"
    )
    warmup_epochs: Index = Field(default=0, description="epochs in which the learning rate rises")
    warmup_lr: NotNegative = Field(default=1e-5, description="learning rate of the first epoch of a warm-up")
    min_lr: NotNegative = Field(default=0.0, description="learning rate at the end of a cosine")
    cooldown_epochs: Index = Field(default=0, description="number of last epochs, trained at min_lr")
    loss: str = Field(default="ce", description="see `step-ahsar list losses`")
    tet_lambda: Annotated[NotNegative, Field(lt=1)] = Field(
        default=0.0, description="weight of the term of `tet` that draws the logits of every step towards 1"
    )
    label_smoothing: Annotated[NotNegative, Field(lt=1)] = Field(
        default=0.0, description="share of the target that is spread over all classes"
    )
    mixup: NotNegative = Field(default=0.0, description="alpha of mixup; 0 = off")
    cutmix: NotNegative = Field(default=0.0, description="alpha of CutMix; 0 = off")
    eventmix: Fraction = Field(default=0.0, description="probability that a batch of event frames is mixed")
    mixup_off_epoch: Index = Field(default=0, description="last epoch with mixing; 0 = all epochs")
    ema_decay: Annotated[Positive, Field(lt=1)] | None = Field(
        default=None, description="decay of averaged weights, which are then judged; null = none"
    )
    amp: Literal["bf16", "fp16"] | None = Field(default=None, description="mixed precision; null = fp32")
    sync_bn: bool = Field(
        default=True, description="of several processes: whether batch norms normalise by the joined batch of all"
    )
    recalibrate_norms: Index = Field(
        default=0,
        description="batches over which the norms' averages are taken anew after each epoch, with weights and "
        "thresholds at rest; 0 = averages that follow training",
    )
    accumulate: Count = Field(default=1, description="batches per optimiser step")
    clip_grad: Positive | None = Field(default=None, description="largest norm of the gradient")
    rate_penalty: RatePenaltyConfig = RatePenaltyConfig()

    @property
    def averages(self) -> bool:
        """Whether averaged weights are kept, and judged."""
        return self.ema_decay is not None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_epochs + self.cooldown_epochs >= self.epochs and self.warmup_epochs + self.cooldown_epochs:
            raise UserError(
                f"train.warmup_epochs + train.cooldown_epochs must be < train.epochs, got "
                f"{self.warmup_epochs} + {self.cooldown_epochs} with {self.epochs} epochs"
            )
        return self


class HeadConfig(_Section):
    """The head of segmentation and detection."""

    name: str | None = Field(default=None, description="see `step-ahsar list heads`; null = the task's default")
    channels: Count = Field(default=64, description="channels of the feature pyramid and of the head")
    spiking: bool = Field(
        default=False, description="whether the head has spiking neurons, of the model's kind, in group `head`"
    )
    anchor_scale: Positive = Field(
        default=4.0, description="side of the smallest anchor of a map, relative to the map's stride"
    )
    score_threshold: Fraction = Field(default=0.05, description="lowest score of a detection")
    test_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default=(1.0,), description="test at these scales of the image, and merge the predictions"
    )
    test_flip: bool = Field(default=False, description="test on mirrored images as well, and merge the predictions")


class CellConfig(BaseModel):
    """One cell of a comparison: an id, and the dotted keys that it sets to other values."""

    model_config = ConfigDict(extra="allow", frozen=True)
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

    def values(self) -> dict[str, Any]:
        """The dotted keys."""
        return dict(self.model_extra or {})


class CompareConfig(_Section):
    """A comparison: every cell, of `cells` and of `grid`, is trained once per seed."""

    target: Fraction | None = Field(
        default=None, description="value of the task's metric; the first epoch that reaches it is reported"
    )
    seeds: Annotated[list[Index], Field(min_length=1)] = Field(
        default_factory=lambda: [0], description="one run of every cell for each of these"
    )
    pairs: list[str] | None = Field(
        default=None,
        description="factors: cells that differ in one of these dotted keys alone are compared seed by seed; null = in "
        "any key but those of the task and the data set",
    )
    places: list[str] = Field(
        default_factory=lambda: ["data", "task", "model.name"],
        description="keys, or sections of keys, by which cells are at different places; methods, which differ in the "
        "other keys, are ranked across places",
    )
    margin: Fraction = Field(
        default=0.01, description="differences of the task's metric that do not matter, for statements of equivalence"
    )
    conditions: list[str] = Field(
        default_factory=list,
        description="conditions under which every trained model is also tested: NAME:VALUE, or corruptions for all of "
        "them, see `step-ahsar list corruptions` and `list conditions`",
    )
    early_exit: Literal["confidence", "entropy"] | None = Field(
        default=None, description="criterion by which samples leave early when every trained model is tested once more"
    )
    reference: str | None = Field(
        default=None, description="id of the cell that mean corruption errors are relative to, seed by seed"
    )
    cells: list[CellConfig] = Field(default_factory=list, description="cells written one by one")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="lists of values by dotted key; every combination is a cell, and ids are made of what differs",
    )
    where: list[dict[str, Any]] = Field(
        default_factory=list,
        description="patterns, each a value or a list of values by key; only combinations that fit one are cells",
    )
    leave_out: list[dict[str, Any]] = Field(
        default_factory=list, alias="except", description="patterns; combinations that fit one are no cells"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.cells and not self.grid:
            raise UserError("compare has no cells: write them in compare.cells, or axes in compare.grid")
        if not self.grid and (self.where or self.leave_out):
            raise UserError("compare.where and compare.except choose combinations of compare.grid, which is missing")
        for key, values in (("seeds", self.seeds), ("cells", [cell.id for cell in self.planned])):
            twice = [value for i, value in enumerate(values) if value in values[:i]]
            if twice:
                raise UserError(f"compare.{key} must differ from each other, got {twice[0]!r} twice")
        if self.reference is not None and self.reference not in (ids := [cell.id for cell in self.planned]):
            raise unknown("cell in compare.reference:", self.reference, ids)
        return self

    @property
    def planned(self) -> list[CellConfig]:
        """The cells written one by one, then those of the grid."""
        crossed = cross(self.grid, self.where, self.leave_out) if self.grid else []
        return [*self.cells, *(CellConfig.model_validate({"id": name, **values}) for name, values in crossed)]

    def place(self, cell: str) -> str:
        """Where the config says the cell with this id, for messages."""
        return f"compare.{'cells' if cell in {each.id for each in self.cells} else 'grid'} {cell!r}"


class LaunchConfig(_Section):
    """How the runs of a comparison are started. It may be another each time that the comparison is continued."""

    launcher: str = Field(default="local", description="see `step-ahsar list launchers`")
    jobs: Count = Field(default=1, description="number of runs at a time")
    threads: Count | None = Field(
        default=None,
        description="threads of each run; null = this machine's cores divided among the jobs. The results are "
        "the same bit for bit with any number of jobs, but not with any number of threads, among which sums are split",
    )
    gpus: Index = Field(default=0, description="slurm, ray: GPUs of each run; under slurm one process for each of them")
    memory: Positive | None = Field(default=None, description="slurm, ray: memory of each run in GiB; null = no limit")
    partition: str | None = Field(default=None, description="slurm: the partition; null = the cluster's default")
    time: Count | None = Field(
        default=None, description="slurm: time limit of each run in minutes; null = that of the partition"
    )
    retries: Index = Field(default=3, description="ray: how often a run is started again when its process is lost")


class EnergyConfig(_Section):
    """Constants for an estimate of energy, in pJ, see docs/operations.md. null means that of the preset in `like`."""

    like: str = Field(default="compute-fp32", description="compute-fp32, compute-int8, memory or traffic")
    add: NotNegative | None = Field(default=None, description="an addition")
    multiply: NotNegative | None = Field(default=None, description="a multiplication")
    access: bool | None = Field(default=None, description="whether reading and writing memories is counted")
    per_bit: NotNegative | None = Field(default=None, description="moving a bit between memory and computation")
    bits: Count | None = Field(default=None, description="of a weight, a membrane and a real number")
    neurons: bool | None = Field(default=None, description="whether the updates of membranes are counted")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        for name in values if isinstance(values, dict) else ():
            if name not in cls.model_fields:
                raise unknown("constant of an energy preset", name, cls.model_fields)
        return values


class TrackConfig(_Section):
    """Where a run's progress is shown, besides TensorBoard. It may be another each time that a run is continued."""

    to: list[Literal["wandb", "mlflow", "trackio"]] = Field(
        default_factory=list, description="trackers, each of which has to be installed"
    )
    project: str = Field(default="step-ahsar", description="project or experiment in which the runs are")
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="arguments of each tracker's own init, such as {wandb: {mode: offline}}"
    )


_NOT_NUMBERS = ("centre", "gain", "calibrate_per", "thresholds_of", "placebo")  # keys of AHSARConfig


class Config(_Section):
    """One experiment with all its settings. Use :func:`load_config` to read one, :meth:`with_values` to change one."""

    task: str = Field(default="classification", description="see `step-ahsar list tasks`")
    seed: Index = Field(default=0, description="of weights, data order and everything else that is random")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    ahsar: AHSARConfig = AHSARConfig()
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    compare: CompareConfig | None = None
    launch: LaunchConfig = LaunchConfig()
    track: TrackConfig = TrackConfig()
    energy: dict[str, EnergyConfig] = Field(
        default_factory=dict, description="estimates of energy with constants of your own, by name"
    )

    @field_validator("ahsar", mode="before")
    @classmethod
    def _numbers(cls, section: Any) -> Any:
        """The section is a plain dataclass, which would take "0.1" and true for numbers."""
        if isinstance(section, Mapping):
            for key, value in section.items():
                if isinstance(value, str | bool) and key not in _NOT_NUMBERS and hasattr(AHSARConfig, key):
                    raise UserError(f"ahsar.{key} must be a number, got {value!r}")
        return section

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.compare is None and self.model.neuron != "ahsar":
            for key in ("budget", "budget_ops"):
                if getattr(self.ahsar, key) is not None:
                    raise UserError(
                        f"ahsar.{key} has no effect on neuron {self.model.neuron!r}: set model.neuron: ahsar, or "
                        f"train.rate_penalty.{key} for a penalty, which works for every neuron"
                    )
        if (self.train.mixup or self.train.cutmix) and self.data.batch_size % 2:
            raise UserError(f"data.batch_size must be even to mix images in pairs, got {self.data.batch_size}")
        if self.compare is not None:
            self.cells()  # raises UserError for wrong keys and values
        return self

    def with_values(self, values: Mapping[str, Any]) -> "Config":
        """A copy with some values replaced, by dotted key. Raises UserError for unknown keys and bad values.

        >>> Config().with_values({"model.threshold": 2.0, "data.batch_size": 8}).model.threshold
        2.0
        """
        return build_config(merge_values(self.to_dict(), values, Config))

    @property
    def judged_on(self) -> Literal["validation", "test"]:
        """The part of the data by which epochs are judged: the test set only without a validation part."""
        return "validation" if self.data.validation else "test"

    def lasting(self) -> "Config":
        """Without the sections `launch` and `track`: they change no result, and may differ from start to start."""
        return self.model_copy(update={"launch": LaunchConfig(), "track": TrackConfig()})

    def single(self) -> "Config":
        """The config of one run: :meth:`lasting`, and without what is about many runs."""
        return self.lasting().model_copy(update={"compare": None})

    def trained(self) -> dict[str, Any]:
        """The settings that a run's training depends on: all but the section `energy`, which may be another later."""
        return {key: value for key, value in self.to_dict().items() if key != "energy"}

    @property
    def own_energy(self) -> dict[str, dict[str, Any]]:
        """The section `energy`, without what is null."""
        return {name: own.model_dump(exclude_none=True) for name, own in self.energy.items()}

    def cells(self) -> list[tuple[str, "Config"]]:
        """The comparison's cells: (id, config of one run, under the config's own seed), in the order of the file."""
        if self.compare is None:
            raise UserError("the config has no section 'compare'; it describes one run: use `step-ahsar train`")
        single = self.single()
        cells = []
        for cell in self.compare.planned:
            try:
                for key in cell.values():
                    if key.split(".")[0] in ("seed", "compare", "launch", "track", "energy"):
                        raise UserError(f"a cell cannot set {key!r}: it is the same for all cells")
                cells.append((cell.id, single.with_values(cell.values())))
            except UserError as error:
                raise UserError(f"{self.compare.place(cell.id)}: {error}") from None
        return cells

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The config as YAML, and a checksum as a comment; loading it gives an equal config."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        return f"{text}{SEAL}{digest(text.encode())}\n"


def build_config(values: Mapping[str, Any]) -> Config:
    """Makes a config of plain values whose keys were checked. A section that is null has its defaults.

    Raises:
        UserError: a value out of range, by its dotted key.
    """
    try:
        return Config.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        raise explain(error, values) from None
