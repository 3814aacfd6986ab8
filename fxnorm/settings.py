"""The settings of all stages, one section a stage, read from ``params.yaml``.

The same frozen objects go to DVC, Kubeflow and MLflow. Defaults are the values published with the method
(Martinez-Ramirez et al., "Automatic music mixing with deep learning and out-of-domain data", ISMIR 2022).
"""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from fxnorm.constants import STEMS
from fxnorm.errors import SettingsError, first_line, printable
from fxnorm.io import bounded

Effect = Literal["reverberation", "equalization", "compression", "panning", "loudness"]
FindingCode = Literal[
    "unreadable", "truncated", "not-finite", "ambiguous", "unused-file", "no-song", "no-mixture", "missing-stem",
    "mixture-residual", "other-mixture", "polarity", "delay", "drift", "leak", "duplicate", "same-name", "bleed",
    "wrong-label", "clipping", "dc", "band-limit", "dual-mono", "silence", "no-programme", "length", "rate",
]  # fmt: skip
"""What ``fxnorm check`` finds; :mod:`fxnorm.quality.findings` says what each means."""
PositiveInt = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
_LONGEST_SECONDS = 3600.0
_MOST_STEPS = 10_000_000  # twenty times the published training's


_SHOWN = 200  # characters of a value in an error

SECTIONS = ("statistics", "normalize", "train", "evaluate", "register")
"""Those that change results."""


def _plain_name(name: str) -> str:
    # it becomes a folder's name
    if not name.strip() or set(name) & set("/\\\0") or name in (".", ".."):
        raise PydanticCustomError("plain_name", "expected the name of a split, such as train")
    return name


Split = Annotated[str, AfterValidator(_plain_name)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CheckSettings(_Section):
    """What ``fxnorm check`` looks for in a dataset, and what stops the pipeline."""

    stop_at: Literal["error", "warning", "never"] = "error"
    """The least severity of a finding at which the exit status is 1 and the pipeline stops."""
    ignore: tuple[FindingCode, ...] = ()
    """Kinds of findings that are left out, such as ``unused-file``."""
    splits: tuple[Split, ...] = ()
    """The splits whose songs are read; none for all."""
    mixture_residual_db: Annotated[float, Field(le=0)] = -10.0
    """Energy of what is in the mixture and not in its stems, against the mixture's, from which it is reported. The gain
    of the mixture is followed over time and frequency before, so that a bus compressor, a limiter and an equalizer
    leave little."""
    delay_samples: PositiveInt = 2
    """Delay of a stem or of the whole mixture from which it is reported, in samples at 44.1 kHz."""
    drift_ppm: Positive = 5.0
    """Difference of two clocks from which it is reported, in millionths. At 5, a song of five minutes ends 1.5 ms
    late."""
    bleed_db: Annotated[float, Field(le=0)] = -15.0
    """Level of a stem within another stem, against its own, from which it is a warning; from 15 dB under that on it is
    a note. Stems that a network separated have -20 to -45 dB of each other."""
    clipped_runs_per_minute: NonNegative = 3.0
    """Runs of three and more equal samples at a channel's peak from which it counts as clipped."""
    dc_dbfs: float = -40.0
    """Level of a constant offset from which it is reported."""
    band_limit_hz: Positive = 15_000.0
    """A steep end of a file's spectrum below this frequency is a warning, as files of a lower sample rate have it; up
    to 19 kHz it is a note, as MP3 and AAC leave it."""
    silence_seconds: Positive = 10.0
    """Silence within a mixture from which it is reported."""
    length_seconds: NonNegative = 0.1
    """Difference between the lengths of a song's files from which it is reported."""
    label_songs: Annotated[int, Field(ge=4)] = 8
    """Songs with all of the labels that have to be there before a stem is compared with the averages of the others."""
    fingerprints: bool = True
    """Look for recordings that occur twice, also in another format, at another level or trimmed."""
    pictured_songs: int = Field(default=20, ge=0)
    """How many songs of the report have pictures, the worst first; the others stand in its table."""


class StatisticsSettings(_Section):
    """Which songs the averages are measured on."""

    split: Split = "train"
    """The split that is measured."""


class NormalizeSettings(_Section):
    """The effect chain. The Mixer contains it, so that stems are normalized as the training stems were."""

    effects: tuple[Effect, ...] = ("reverberation", "equalization", "compression", "panning", "loudness")
    """Applied in this, the published, order."""
    panning_limit_hz: dict[str, float | None] = {**dict.fromkeys(STEMS, 16_000.0), "drums": 6_000.0}
    """Bins above this frequency are not panned; null for no limit."""
    precise: bool = False
    """Bring the spectrum of every third of an octave and the panning to the targets themselves, instead of as near as
    the published filters come; only for networks that are trained behind it."""
    splits: tuple[str, ...] = ("train", "val")
    """The splits that are normalized."""
    format: Literal["wav", "flac"] = "wav"
    """Of the files: 24 bit both, the samples are the same; FLAC takes about half the bytes and more of the processor
    where crops are read. A stem that passes full scale is float WAV in any case."""
    seed: int = 0
    """Draws the impulse response and the reverberation's shelves, for each song by its name."""


class ScheduleStep(_Section):
    """A part of the training at one learning rate."""

    epochs: PositiveInt
    """How many, of ``batches_per_epoch`` steps each."""
    learning_rate: NonNegative
    """Adam's, in these epochs."""


class TrainSettings(_Section):
    """The network and its training."""

    task: Literal["mix", "front_end"] = "mix"
    """What is learnt: to mix; or, as a start for that, CRAFx2's front-end alone, to rebuild the stems it is given."""
    network: Literal["crafx2", "wave_u_net", "console"] = "crafx2"
    """What learns: the network of the method, the Wave-U-Net that it is compared with, or a mixing console whose
    equalizers and limiter a small network sets."""
    sizes: dict[str, int | float | str] = {}
    """Sizes of the network that differ from the published ones."""
    initial_weights: str | None = None
    """What an earlier run wrote and the network starts from: its folder, a .safetensors file, ``s3://BUCKET/PREFIX`` of
    either, ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or ``runs:/RUN_ID``. Of a front-end that was trained
    alone, the front-end takes it over. Under DVC, keep files of this machine with ``dvc add``."""
    loss: Literal["a", "b", "matched"] = "b"
    """The stereo-invariant loss of the mix, as published; or a matched one of spectra and dynamics, for which each mix
    is brought to its target's level first. The front-end's is the mean absolute difference of the samples."""
    sequence_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SECONDS)] = 440_960 / 44_100
    """Length of an example."""
    batch_size: Annotated[int, Field(gt=0, le=65_536)] = 4
    """Examples of a step, of all processes together."""
    batches_per_epoch: PositiveInt = 1_600
    """Steps of an epoch. After each epoch the validation loss is measured."""
    warm_up_batches: int = Field(default=1_600, ge=0)
    """Steps at learning rate 0 that only fill Adam's moments."""
    schedule: tuple[ScheduleStep, ...] = (
        ScheduleStep(epochs=150, learning_rate=1e-3),
        ScheduleStep(epochs=50, learning_rate=1e-3 / 3),
        ScheduleStep(epochs=50, learning_rate=1e-4),
        ScheduleStep(epochs=25, learning_rate=1e-3 / 30),
        ScheduleStep(epochs=25, learning_rate=1e-5),
        ScheduleStep(epochs=10, learning_rate=1e-6),
    )
    """Epochs and learning rates, one after the other."""
    weight_decay: NonNegative = 1e-7
    """Adam's."""
    gradient_norm: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 0.2
    """Gradients are scaled down to this norm where theirs is greater; .inf is no limit."""
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of an exponential moving average of the weights; validated and kept in place of the weights
    themselves, it evens out what small batches leave of noise. 0, as published, is no average."""
    swap_channels: bool = True
    """Swap left and right at random, for stems and mixture together."""
    reverberation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability with which vocals and other of a training crop, each for itself, get one more reverberation from the
    recipe's impulse responses: another one each time, where that of ``fxnorm normalize`` is one for a whole song."""
    early_stopping_epochs: int = Field(default=0, ge=0)
    """Epochs without a better validation loss after which the training ends; 0, as published, is the whole schedule."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the network's arithmetic; auto is bfloat16 (mixed precision) on CUDA devices that have it, else float32.
    Weights and losses are float32 always."""
    run_in_seconds: Annotated[float, Field(ge=0, le=_LONGEST_SECONDS)] = 30.0
    """How much of a song's end is put before its start when the Mixer mixes, so that the recurrent layers settle."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Draws the first weights, the crops, the swaps and the reverberation."""


class ResourcesSettings(_Section):
    """What a training takes of the machine. It changes nothing in what is learnt, so no stage of DVC names it."""

    compile: Literal["auto"] | bool = "auto"
    """Compile network and loss with torch.compile: minutes at the start for faster steps. auto does so on CUDA devices
    when 1,000 steps or more are to come, and keeps to it if compiled steps are measured to be faster there and to give
    the same loss. Checkpoints stay the same."""
    accumulation: Annotated[int, Field(gt=0, le=65_536)] = 1
    """Parts in which a process computes its examples of a step, one after the other, so that a small device learns what
    a large one does; but for rounding and for what dropout draws. A number that divides them."""
    report_every: PositiveInt = 10
    """Steps after which losses are fetched from the device, looked at and logged, one for each step. Until then nothing
    waits for the device, and of several processes none hears of a signal to another."""
    checkpoint_every: PositiveInt = 200
    """Steps between checkpoints."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints are kept. The second is there for the day the newest cannot be read."""
    threads: int = Field(default=0, ge=0, le=1_024)
    """Threads of the CPU's arithmetic; 0 leaves it to PyTorch. A small network gains little from more than one, and one
    does not suffer from other work on the machine (idle threads of a team spin while they wait)."""
    loader_workers: int = Field(default=2, ge=0, le=1_024)
    """Processes that read crops; 0 reads in the training process."""
    cache_gb: NonNegative = 10.0
    """Gigabytes (10^9 bytes) of disk for what is read of songs that are in an object store (``fxnorm publish``), of all
    trainings of the machine together; 0 keeps nothing. What was not read for longest goes first."""
    cache_folder: str | None = None
    """Where these lie; null is ``$XDG_CACHE_HOME/fxnorm``, or ``~/.cache/fxnorm``."""


class EvaluateSettings(_Section):
    """The comparison of the network's mixes with the reference mixes."""

    split: Split = "test"
    """The split whose songs are mixed."""
    also: dict[str, str] = {}
    """Other Mixers to compare with, by the name they get in the report: directories or models:/NAME@ALIAS. DVC does not
    see when one of them changes."""
    excerpt_seconds: Annotated[float, Field(gt=0, le=_LONGEST_SECONDS)] = 20.0
    """How much of each mix the report can play by itself: the part in which the reference mix is loudest."""
    report_megabytes: Annotated[float, Field(gt=0, le=1e6)] = 60.0
    """What all excerpts of the report may take together; with many songs they get shorter, down to 4 s."""


def _model_name(name: str) -> str:
    # MLflow itself refuses some of these only after the model is uploaded, and accepts names that no models:/NAME@ALIAS
    # can refer to
    if not name.strip() or set(name) & set("/:") or name in (".", ".."):
        raise PydanticCustomError("model_name", "expected a name without '/' and ':'")
    if set(name) & set("@?#%\\'\"") or not name.isprintable() or name != name.strip():
        raise PydanticCustomError("model_name", "expected a name without '@', '?', '#', '%', quotes and outer blanks")
    return name


class RegisterSettings(_Section):
    """The acceptance rule (which Mixer becomes the champion) and the name in the registry."""

    name: Annotated[str, AfterValidator(_model_name)] = "fxnorm-automix"
    """Name of the registered model."""
    split: str = "test_wet"
    """Of ``metrics.json``: whose songs decide."""
    metric: str = "stereo_loss_b_matched"
    """Of ``metrics.json``: what decides; lower is better."""
    baseline: str = "normalized_sum"
    """The system that has to be beaten; ``static_mix`` is the harder one."""
    margin: float = 0.0
    """How much lower than the baseline's (and the champion's) the metric must be, in the metric's own unit."""
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """How sure it must be that the metric is lower than the champion's on songs of this kind, and not on these alone:
    1 less the p-value of Wilcoxon's signed-rank test over the songs. At 0.95 that takes six songs. 0 is no test: the
    mean decides."""
    force: bool = False
    """A person's word: the Mixer becomes the champion whatever was measured. Licences still count."""
    allowed_licences: tuple[str, ...] = ()
    """Licences that a champion's training data may have, as ``import.json`` names them; ``unknown`` allows songs of
    unknown origin. Empty: any data."""


class Settings(_Section):
    """All sections of ``params.yaml``."""

    check: CheckSettings = CheckSettings()
    statistics: StatisticsSettings = StatisticsSettings()
    normalize: NormalizeSettings = NormalizeSettings()
    train: TrainSettings = TrainSettings()
    resources: ResourcesSettings = ResourcesSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    register_: RegisterSettings = Field(default=RegisterSettings(), alias="register")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def load(cls, path: str | Path | None, overrides: Iterable[str] = ()) -> "Settings":
        """Settings of a YAML file, then of ``section.key=value`` texts (values in YAML).

        Raises:
            SettingsError: the file is missing or not YAML, a key is unknown, or a value does not fit; the text
                names the file and the key.
        """
        content = {} if path is None else read_yaml(Path(path))
        for override in overrides:
            apply_override(content, override)
        return cls.of(content, "defaults" if path is None else str(path))

    @classmethod
    def merged(cls, paths: Iterable[Path], overrides: Iterable[str] = ()) -> "Settings":
        """Settings of several YAML files, each of which changes those before it, then of ``section.key=value`` texts.

        Keys that no file has are as published. Keys within keys (``train.sizes``) are changed one by one.

        Raises:
            SettingsError: as :meth:`load`, for each file by itself and for all together.
        """
        content: dict[str, Any] = {}
        names = []
        for path in paths:
            own = read_yaml(path)
            cls.of(own, str(path))
            content = _changed(content, own)
            names.append(str(path))
        for override in overrides:
            apply_override(content, override)
        return cls.of(content, " and ".join(names) or "defaults")

    @classmethod
    def of(cls, content: dict[str, Any], source: str = "settings") -> "Settings":
        """Settings of sections with keys, as YAML and JSON hold them; ``source`` stands in the errors.

        Raises:
            SettingsError: a key is unknown, or a value does not fit; one line.
        """
        try:
            settings = cls.model_validate(content)
        except ValidationError as error:
            raise SettingsError(f"{source}: {_explain(error, content)}") from error
        for problem in _problems(settings):
            raise SettingsError(f"{source}: {problem}")
        return settings

    def to_yaml(self) -> str:
        """All sections with all keys, as :meth:`load` reads them."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False)

    def flat(self, *sections: str) -> dict[str, Any]:
        """``section.key`` names and plain values of some sections, as experiment trackers show them side by side."""
        flat: dict[str, Any] = {}
        content = self.model_dump(mode="json", by_alias=True)
        for section, values in ((section, content[section]) for section in sections):
            for key, value in values.items():
                if key == "sizes":
                    flat |= {f"{section}.{key}.{name}": size for name, size in value.items()}
                elif key == "schedule":
                    flat[f"{section}.{key}"] = ", ".join(
                        f"{step['epochs']} x {step['learning_rate']:g}" for step in value
                    )
                elif isinstance(value, dict):
                    flat[f"{section}.{key}"] = ", ".join(f"{name} {part}" for name, part in value.items())
                elif isinstance(value, list):
                    flat[f"{section}.{key}"] = ", ".join(str(part) for part in value)
                else:
                    flat[f"{section}.{key}"] = value
        return flat


def _problems(settings: Settings) -> Iterator[str]:
    """What types and bounds of single keys do not exclude: conditions on several keys, and on values that a Mixer
    may have been made with before, whose recipe has to stay readable."""
    normalize, train = settings.normalize, settings.train
    if len(set(normalize.effects)) < len(normalize.effects):
        yield f"normalize.effects: expected each effect once, found {', '.join(normalize.effects)}"
    limits = normalize.panning_limit_hz
    if set(limits) != set(STEMS) or any(limit is not None and limit < 0 for limit in limits.values()):
        yield f"normalize.panning_limit_hz: expected a frequency or null for each of {', '.join(STEMS)}, found {limits}"
    splits = normalize.splits
    if not splits or len(set(splits)) < len(splits):
        yield f"normalize.splits: expected one or more splits, each once, found {list(splits)}"
    for split in splits:
        try:
            _plain_name(split)
        except PydanticCustomError as error:
            yield f"normalize.splits: {error.message()}, found {split!r}"
    if not 0 <= normalize.seed < 2**63:
        yield f"normalize.seed: expected a number from 0 to 2^63 - 1, found {normalize.seed}"
    steps = train.warm_up_batches + train.batches_per_epoch * sum(part.epochs for part in train.schedule)
    if not 0 < steps <= _MOST_STEPS:
        yield (
            f"train.schedule: expected from 1 to {_MOST_STEPS:,} steps together with train.warm_up_batches,"
            f" found {steps:,}"
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of keys.

    Raises:
        SettingsError: it is missing, not YAML, or holds something else.
    """
    try:
        content = bounded.read_yaml(path)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such settings file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as YAML ({first_line(error)})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected sections with keys, found {type(content).__name__}")
    return content


def apply_override(content: dict[str, Any], override: str) -> None:
    """Set a key to a value as ``key.key=value`` has them; the value is YAML.

    Raises:
        SettingsError: the text is not of that form, or the value is not YAML.
    """
    name, equals, text = override.partition("=")
    parts = name.split(".")
    if not equals or not all(parts):
        raise SettingsError(f"--set {override}: expected section.key=value")
    try:
        value = bounded.load_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override}: the value is not readable as YAML") from error
    section = content
    for depth, part in enumerate(parts[:-1], start=1):
        if not isinstance(section.get(part) or {}, dict):
            raise SettingsError(f"--set {override}: {'.'.join(parts[:depth])} has no keys of its own")
        section[part] = section = dict(section.get(part) or {})
    section[parts[-1]] = value


def _changed(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``content`` with the keys of ``changes``; where both hold keys, those are changed one by one."""
    changed = dict(content)
    for key, value in changes.items():
        before = content.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            changed[key] = _changed(before, value)
        else:
            changed[key] = value
    return changed


def _explain(error: ValidationError, content: dict[str, Any]) -> str:
    """The first of pydantic's findings, in one line with the key's dotted name and near matches."""
    first = error.errors()[0]
    location = first["loc"]
    name = ".".join(str(part) for part in location)
    if first["type"] != "extra_forbidden":
        value = printable(repr(first["input"]), _SHOWN)
        return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}, found {value}"
    if location[:-1] == ("train",) and location[-1] in ResourcesSettings.model_fields:
        return f"{name}: belongs into another section; expected resources.{location[-1]}"
    fields = _fields(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(fields)}"
    return f"{name}: unknown key; {hint}"


def _fields(location: tuple[int | str, ...]) -> list[str]:
    """The keys a section takes; of the whole file, its sections."""
    model: type[BaseModel] = Settings
    for part in location:
        if part == "schedule":
            model = ScheduleStep
        elif isinstance(part, str):
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            annotation = fields[part].annotation
            assert isinstance(annotation, type)
            assert issubclass(annotation, BaseModel)
            model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]
