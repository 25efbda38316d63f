"""The schema of an experiment config: every key, its range and its default."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from step_ahsar.ahsar.law import AHSARConfig
from step_ahsar.config.values import explain, merge_values
from step_ahsar.errors import UserError

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]  # strict: neither true nor "4" is a number
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[NotNegative, Field(le=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Index = Annotated[int, Field(ge=0, strict=True)]
Range = tuple[Positive, Positive]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EventsConfig(_Section):
    """From an event recording to frames [T, P, H, W], T being model.time_steps; and augmentation of the events."""

    representation: Literal["time", "count", "window", "voxel_grid", "time_surface"] = Field(
        default="time", description="T slices of equal duration, of equal count, of window_ms each; or as named"
    )
    window_ms: Positive | None = Field(default=None, description="duration of a slice, for `window`")
    tau_ms: Positive | None = Field(default=None, description="decay of a time surface; null = a slice's duration")
    hflip: Fraction = Field(default=0.0, description="probability of a left-right flip")
    roll: Index = Field(default=0, description="greatest shift in pixels, either way; what leaves comes in again")
    rotate: NotNegative = Field(default=0.0, description="greatest rotation in degrees, either way")
    cutout: Fraction = Field(default=0.0, description="side of a square without events, of the sensor's shorter side")
    drop: Fraction = Field(default=0.0, description="probability of EventDrop")
    jitter_us: NotNegative = Field(default=0.0, description="standard deviation of a shift of each timestamp")


class SequenceConfig(_Section):
    """How a series enters a model."""

    axis: Literal["tokens", "time"] = Field(
        default="tokens", description="its samples are tokens, shown T times; or they play over the T time steps"
    )
    permute: bool = Field(default=False, description="pixel sequences in one fixed random order")
    bins: Count = Field(default=100, description="time bins of spike audio")
    channels: Count = Field(default=140, description="channels of spike audio, merged from the cochlea's 700")
    mels: Count = Field(default=40, description="mel bands of a waveform")


class DataConfig(_Section):
    """What is trained and tested on. The augmentation keys are timm's; left alone, there is no augmentation."""

    name: str = Field(default="digits", description="see `step-ahsar list datasets`")
    root: str | None = Field(default=None, description="where the data set is on disk; embedded ones need none")
    download: bool = Field(default=False, description="fetch the data set if it is not under root")
    train_limit: Count | None = Field(default=None, description="train on so many samples, always the same ones")
    test_limit: Count | None = Field(default=None, description="test on so many samples, always the same ones")
    on_error: Literal["raise", "skip"] = Field(default="raise", description="files that cannot be used: stop, or skip")
    cache: str | None = Field(default=None, description="folder for frames of events; null = ~/.cache/step-ahsar")
    img_size: Count | tuple[Count, Count] | None = Field(
        default=None, description="pixels, or [height, width]; of a series its length; null = the data set's own"
    )
    test_size: Count | tuple[Count, Count] | None = Field(default=None, description="of test data; null = img_size")
    batch_size: Count = 64
    workers: Index = Field(default=0, description="loading processes; results do not depend on it")
    prefetch: Count = Field(default=2, description="batches that each loading process prepares ahead")
    pin_memory: bool | None = Field(default=None, description="page-locked batches; null = where there is a GPU")
    encoder: Literal["direct", "rate", "ttfs", "phase", "delta", "burst"] = Field(
        default="direct", description="from images to T steps; direct shows the image at each"
    )
    corruption: str | None = Field(default=None, description="of test data: name:severity, such as gaussian_noise:3")
    events: EventsConfig = EventsConfig()
    sequence: SequenceConfig = SequenceConfig()
    mean: tuple[Number, ...] | None = Field(
        default=None, description="per channel, of pixels in [0, 1]; null = the data set's"
    )
    std: tuple[Positive, ...] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "random"] = "bilinear"
    crop_pct: Annotated[Positive, Field(le=1)] = Field(default=1.0, description="share of a test image that is kept")
    scale: Range = Field(default=(1.0, 1.0), description="area of the random crop, of the image's")
    ratio: Range = Field(default=(1.0, 1.0), description="aspect ratio of the random crop")
    hflip: Fraction = 0.0
    color_jitter: NotNegative = 0.0
    auto_augment: str | None = Field(default=None, description="timm's policy string, such as rand-m9-mstd0.5-inc1")
    re_prob: Fraction = Field(default=0.0, description="random erasing")
    re_mode: Literal["const", "rand", "pixel"] = "const"


class ModelConfig(_Section):
    """Which model with which spiking neuron. null leaves the neuron's or the model's own default."""

    name: str = "spikformer_2_64"
    time_steps: Count = 4
    neuron: str = "lif"
    backend: str = "torch"
    base: str | None = Field(default=None, description="the neuron that `ahsar` regulates; null = lif")
    threshold: Positive = 1.0
    attn_threshold: Positive | None = None
    tau: Annotated[Number, Field(gt=1)] | None = None
    surrogate: str | None = None
    alpha: Positive | None = None
    reset: Literal["hard", "soft"] | None = None
    detach_reset: bool | None = None
    args: dict[str, Any] = Field(default_factory=dict, description="further arguments of the model")

    def neuron_options(self) -> dict[str, Any]:
        """Options of the neuron that were set, by the registry's names."""
        names = ("base", "tau", "surrogate", "alpha", "reset", "detach_reset")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class TrainConfig(_Section):
    """How it is trained; optimisers, schedules, mixing and averaging are timm's."""

    epochs: Count = 10
    optimizer: str = "adamw"
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: Index = 0
    warmup_lr: NotNegative = 1e-5
    min_lr: NotNegative = 0.0
    cooldown_epochs: Index = Field(default=0, description="the last of the epochs, spent at min_lr")
    loss: Literal["ce", "tet", "dice", "ce+dice"] = Field(
        default="ce", description="cross-entropy of the mean logits, or of each time step's (tet); dice of masks"
    )
    label_smoothing: Annotated[NotNegative, Field(lt=1)] = 0.0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    eventmix: Fraction = Field(default=0.0, description="probability that a batch of event frames is mixed")
    mixup_off_epoch: Index = Field(default=0, description="epoch after which there is no mixing; 0 = mix to the end")
    ema_decay: Annotated[Positive, Field(lt=1)] | None = None
    amp: Literal["bf16", "fp16"] | None = None
    accumulate: Count = Field(default=1, description="batches per optimiser step")
    clip_grad: Positive | None = Field(default=None, description="greatest norm of the gradient")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_epochs + self.cooldown_epochs >= self.epochs and self.warmup_epochs + self.cooldown_epochs:
            raise UserError(
                f"train.warmup_epochs + train.cooldown_epochs must be < train.epochs, got "
                f"{self.warmup_epochs} + {self.cooldown_epochs} with {self.epochs} epochs"
            )
        return self


class HeadConfig(_Section):
    """What stands on the backbone in segmentation and detection."""

    name: Literal["fcn", "fpn", "upernet", "retinanet", "fcos", "faster_rcnn", "mask_rcnn"] | None = Field(
        default=None, description="null = fpn for segmentation, fcos for detection"
    )
    channels: Count = Field(default=64, description="width of the feature pyramid and of the head")
    spiking: bool = Field(default=False, description="with the model's neurons, in group `head`")
    anchor_scale: Positive = Field(default=4.0, description="side of the smallest anchor at a level, of its stride")
    score_threshold: Fraction = Field(default=0.05, description="detections below are dropped")
    test_scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default=(1.0,), description="sizes at which test images are seen, of their own; predictions are merged"
    )
    test_flip: bool = Field(default=False, description="see test images mirrored as well")


class CellConfig(BaseModel):
    """One cell of a comparison: an id, and dotted keys with the values that set it apart."""

    model_config = ConfigDict(extra="allow", frozen=True)
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

    def values(self) -> dict[str, Any]:
        """The dotted keys."""
        return dict(self.model_extra or {})


class CompareConfig(_Section):
    """A comparison: every cell is trained once per seed."""

    target: Fraction | None = Field(default=None, description="of the task's metric; its first epoch is reported")
    seeds: Annotated[list[Index], Field(min_length=1)] = Field(default_factory=lambda: [0])
    cells: Annotated[list[CellConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for key, values in (("seeds", self.seeds), ("cells", [cell.id for cell in self.cells])):
            twice = [value for i, value in enumerate(values) if value in values[:i]]
            if twice:
                raise UserError(f"compare.{key} must differ from each other, got {twice[0]!r} twice")
        return self


class Config(_Section):
    """One experiment, fully resolved. Make one with :func:`load_config`; it is frozen, see :meth:`with_values`."""

    task: str = "classification"
    seed: Index = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    ahsar: AHSARConfig = AHSARConfig()
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    compare: CompareConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.train.mixup or self.train.cutmix) and self.data.batch_size % 2:
            raise UserError(f"data.batch_size must be even to mix images in pairs, got {self.data.batch_size}")
        if self.compare is not None:
            self.cells()  # whose keys and values are checked by that
        return self

    def with_values(self, values: Mapping[str, Any]) -> "Config":
        """A copy with some values replaced, by dotted key. Raises UserError for unknown keys and bad values.

        >>> Config().with_values({"model.threshold": 2.0, "data.batch_size": 8}).model.threshold
        2.0
        """
        return build_config(merge_values(self.to_dict(), values, Config))

    def cells(self) -> list[tuple[str, "Config"]]:
        """The comparison's cells: (id, config of one run, under the config's own seed), in the order of the file."""
        if self.compare is None:
            raise UserError("the config has no section 'compare'; it describes one run: use `step-ahsar train`")
        single = self.model_copy(update={"compare": None})
        cells = []
        for cell in self.compare.cells:
            try:
                for key in cell.values():
                    if key.split(".")[0] in ("seed", "compare"):
                        raise UserError(f"a cell cannot set {key!r}: cells share their seeds; see compare.seeds")
                cells.append((cell.id, single.with_values(cell.values())))
            except UserError as error:
                raise UserError(f"compare.cells {cell.id!r}: {error}") from None
        return cells

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The resolved config; loading it gives an equal config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def build_config(values: Mapping[str, Any]) -> Config:
    """The config of plain values whose keys were checked; a section that is null takes its defaults.

    Raises:
        UserError: a value out of range, by its dotted key.
    """
    try:
        return Config.model_validate({key: value for key, value in values.items() if value is not None})
    except ValidationError as error:
        raise explain(error, values) from None
