"""How a mix comes about: tracks are summed to stems, mixed here or by an endpoint, and made ready to be listened to.

The steps are those of ``fxnorm mix --tracks --stems-out``, so the samples are its own. Beside the mix lie the plain sum
of the stems and the sum of what the network is given, to compare with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import FxnormError, SettingsError
from fxnorm.io import audio
from fxnorm.io.files import write_json
from fxnorm.mixing import client
from fxnorm.mixing.alternatives import MOST, mix_alternatives
from fxnorm.mixing.mix_files import FileMix, PartsOut, mix_samples
from fxnorm.mixing.mixer import Mixer, refuse_unusable
from fxnorm.mixing.options import Keep, MixOptions
from fxnorm.mixing.reference import Reference
from fxnorm.models.network import Progress
from fxnorm.page import curves
from fxnorm.page.refusal import Refused
from fxnorm.sessions.recordings import Recording
from fxnorm.sessions.stems import SessionStems, sum_groups
from fxnorm.sessions.table import Table
from fxnorm.statistics import DatasetStatistics

Rate = Literal[44_100, 48_000, 88_200, 96_000]
"""Sample rates of a mix in Hz."""

PARTS_FOLDER = "parts"
MIX_FILE = "mix.wav"
REPORT_FILE = "report.json"
FIGURES_FILE = "figures.json"
PART_PREFIX = "part-"

# where each phase begins, as a part of the whole: what the shipped Mixer takes for a song of four minutes
_NORMALIZING, _MIXING, _MEASURING = 0.2, 0.45, 0.9

_Report = Callable[[str, float], None]


class Request(BaseModel):
    """What a user asks for: see :class:`fxnorm.mixing.options.MixOptions`.

    Attributes:
        alternatives: how many ways to mix; 1 is one mix.
        reference: the id of the file of a song that the mix is brought to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dry: bool = True
    keep: Keep | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    target_loudness: Annotated[float, Field(ge=-70, le=0, allow_inf_nan=False)] | None = None
    true_peak: Annotated[float, Field(ge=-20, le=0, allow_inf_nan=False)] = -1.0
    sample_rate: Rate = 44_100
    alternatives: Annotated[int, Field(ge=1, le=MOST)] = 1
    reference: Annotated[str, Field(max_length=20)] | None = None

    @property
    def options(self) -> MixOptions:
        """Those of the mix, which is kept as 32-bit float."""
        given = self.model_dump(exclude={"alternatives", "reference"}, exclude_none=True)
        return MixOptions.of(given | {"output_format": "wav"})


class Source(BaseModel):
    """Something to listen to.

    Attributes:
        id: what requests call it.
        label: what people call it.
        loudness_lufs: integrated; None for silence.
        gain_db: brings all sources of a mix to one loudness, none of them past full scale.
    """

    id: str
    label: str
    loudness_lufs: float | None
    gain_db: float = 0.0


class Made(BaseModel):
    """What came of a request.

    Attributes:
        sample_rate: of all files, in Hz.
        samples: of the mix.
        parts: stems that have a part of the mix.
        sources: to listen to.
        warnings: sentences on stems that are unlike those of the training songs.
        sentence: on the mix's level.
        gains_db: of the tracks, by file.
    """

    sample_rate: int
    samples: int
    parts: list[str]
    sources: list[Source]
    warnings: list[str]
    sentence: str
    gains_db: dict[str, float]

    @classmethod
    def none(cls) -> "Made":
        """Nothing yet."""
        return cls(sample_rate=0, samples=0, parts=[], sources=[], warnings=[], sentence="", gains_db={})


@dataclass(frozen=True)
class ReferenceSong:
    """A song that a mix is brought to.

    Attributes:
        name: of its file.
        samples: (1 or 2 channels, samples) at 44.1 kHz.
        measured: what mixes are compared with.
    """

    name: str
    samples: np.ndarray
    measured: Reference


@dataclass(frozen=True)
class Engine:
    """What mixes: a Mixer here, or the one behind an endpoint.

    Attributes:
        name: of the Mixer, as it was given.
        mixer: the Mixer; None for an endpoint.
        endpoint: the address of the endpoint.
    """

    name: str
    mixer: Mixer | None = None
    endpoint: str | None = None

    @property
    def has_parts(self) -> bool:
        """Whether a mix is told apart into what each stem contributes."""
        return self.mixer is not None and self.mixer.network.has_parts

    @property
    def statistics(self) -> DatasetStatistics | None:
        """Of the training songs, with whose spectra tracks are compared; those of an endpoint are not known."""
        return None if self.mixer is None else self.mixer.recipe.statistics

    def check(self, request: Request) -> None:
        """Refuse what this engine does not do, before anybody waits for it.

        Raises:
            Refused: it does not.
        """
        try:
            if self.mixer is not None:
                self.mixer.keeping(request.keep)
        except SettingsError as error:
            raise Refused(422, str(error)) from error
        if self.mixer is None and request.alternatives > 1:
            raise Refused(422, "alternatives: an endpoint mixes in one way at a time")


@dataclass(frozen=True)
class Order:
    """What a mix is made of.

    Attributes:
        name: of the session.
        table: of its tracks.
        recordings: by the tracks' files.
        request: what is asked for.
        reference: a song that the mix is brought to.
    """

    name: str
    table: Table
    recordings: Mapping[str, Recording]
    request: Request
    reference: ReferenceSong | None


@dataclass
class _HeardMixer(Mixer):
    """A Mixer that tells how far normalization is, and lets the first normalized stems be heard."""

    began: Callable[[float], None]
    heard: Callable[[np.ndarray], None]
    _stems: int = field(default=0)

    def normalize(  # type: ignore[override]  # the rest by name
        self,
        stems: Mapping[str, np.ndarray],
        dry: bool = False,
        seed: int | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> np.ndarray:
        """As the Mixer's, whose progress says nothing of this part."""
        first = self._stems == 0

        def begins(_: float) -> None:  # called before each stem
            self.began(self._stems / len(STEMS) if first else 1.0)
            self._stems += 1

        normalized = super().normalize(stems, dry, seed, begins, **options)
        if first:
            self.heard(normalized)
        return normalized


def make(engine: Engine, order: Order, folder: Path, most_samples: int, report: _Report) -> Made:
    """Make a mix and all that belongs to it.

    Args:
        engine: what mixes.
        order: what it is made of.
        folder: is there and empty; everything goes there.
        most_samples: the longest song.
        report: called with a phase and the fraction that is done.

    Raises:
        FxnormError: a track cannot be read, or no mix can be made of them; the text names the file by its label.
    """

    def summing(done: int, total: int) -> None:
        report("reading tracks", _NORMALIZING * done / total)

    report("reading tracks", 0.0)
    sums = sum_groups(order.table, order.recordings, summing, most_samples)
    refuse_unusable(sums.stems)
    length = max(stem.shape[1] for stem in sums.stems.values())
    _write(folder / "sum.wav", sum(audio.pad_to(stem, length) for stem in sums.stems.values()), order.request)
    files = {"mix": MIX_FILE, "sum": "sum.wav"}
    labels = {"mix": "Mix", "sum": "Plain sum"}
    if engine.mixer is not None:
        mixed, others = _mixed_here(engine.mixer, engine.name, order, sums, folder, report)
        files["normalized"], labels["normalized"] = "normalized.wav", "Normalized sum"
        for number, (file, label) in enumerate(others, 2):
            files[f"alternative-{number}"], labels[f"alternative-{number}"] = file, label
        content, sentence = mixed.report(), mixed.delivered.sentence()
    else:
        content, sentence = _mixed_there(str(engine.endpoint), order, sums, folder, report)
    if order.reference is not None:
        _write(folder / "reference.wav", audio.to_stereo(order.reference.samples), order.request)
        files["reference"], labels["reference"] = "reference.wav", order.reference.name
    write_json(folder / REPORT_FILE, content)
    sources = _measured(folder, files, labels, report)
    parts = [stem for stem in STEMS if (folder / PARTS_FOLDER / f"{stem}.wav").is_file()]
    return Made(
        sample_rate=order.request.sample_rate,
        samples=audio.length(folder / MIX_FILE)[0],
        parts=parts,
        sources=sources,
        warnings=[*sums.findings, *content.get("warnings", [])],
        sentence=sentence,
        gains_db=sums.gains_db,
    )


def file_of(source: str, made: Made, folder: Path) -> Path | None:
    """The file of a source or of a stem's part; None where the mix has none of that name."""
    known = {entry.id: folder / f"{entry.id}.wav" for entry in made.sources}
    known |= {f"{PART_PREFIX}{stem}": folder / PARTS_FOLDER / f"{stem}.wav" for stem in made.parts}
    return known.get(source)


def _mixed_here(
    mixer: Mixer, name: str, order: Order, sums: SessionStems, folder: Path, report: _Report
) -> tuple[FileMix, list[tuple[str, str]]]:
    """The mix, and file and label of each alternative."""
    request = order.request

    def normalizing(done: float) -> None:
        report("normalizing", _NORMALIZING + (_MIXING - _NORMALIZING) * done)

    def mixing(done: float) -> None:
        if done > 0:
            report("mixing", _MIXING + (_MEASURING - _MIXING) * done)

    def heard(normalized: np.ndarray) -> None:
        path = folder / "normalized.wav"
        if not path.exists():  # alternatives are normalized otherwise
            _write(path, normalized.reshape(len(STEMS), 2, -1).sum(axis=0), request)

    heard_mixer = _HeardMixer(mixer.recipe, mixer.network, mixer.run_in_seconds, mixer.device, normalizing, heard)
    groups = {track.file: (str(track.group), sums.gains_db[track.file]) for track in order.table.used}
    out = PartsOut(folder / PARTS_FOLDER, name, session=True, tracks=groups) if mixer.network.has_parts else None
    sources = dict.fromkeys(sums.stems, order.name)
    reference = None if order.reference is None else order.reference.measured
    given = (out, sources, reference)
    if request.alternatives == 1:
        return mix_samples(heard_mixer, sums.stems, request.options, folder / MIX_FILE, mixing, *given), []
    made = mix_alternatives(
        heard_mixer, sums.stems, request.options, folder / MIX_FILE, request.alternatives, mixing, *given
    )
    others = []
    for number, mix in enumerate(made.comparison.alternatives[1:], 2):
        (folder / mix.file).rename(folder / f"alternative-{number}.wav")
        others.append((f"alternative-{number}.wav", _in_words(mix.name)))
    return made.first, others


def _in_words(way: str) -> str:
    """What people call a way of :func:`fxnorm.mixing.alternatives.ways`."""
    known = {"no-room": "Without added room", "own-panning": "Your own panning", "own-dynamics": "Your own dynamics"}
    return known.get(way, way.replace("room-", "Another room, ") if way.startswith("room-") else way)


def _mixed_there(
    endpoint: str, order: Order, sums: SessionStems, folder: Path, report: _Report
) -> tuple[dict[str, Any], str]:
    """Report and sentence of an endpoint's mix."""
    report("waiting for the endpoint", _NORMALIZING)
    reference = None
    if order.reference is not None:
        reference = folder / "to_send.flac"
        audio.write(reference, order.reference.samples)
    try:
        served = client.request_mix(endpoint, client.files_of(sums.stems), order.request.options, reference=reference)
    finally:
        if reference is not None:
            reference.unlink()
    samples, rate = audio.decode(served.content, endpoint, None)
    if rate != order.request.sample_rate or len(samples) != 2:
        raise FxnormError(f"{endpoint}: expected a stereo mix at {order.request.sample_rate} Hz")
    audio.write(folder / MIX_FILE, samples, rate)
    return served.report, served.sentence()


def _write(path: Path, samples: Any, request: Request) -> None:
    """32-bit float at the rate of the mix."""
    stereo = audio.to_stereo(np.asarray(samples, np.float32))
    audio.write(path, audio.resample(stereo, SAMPLE_RATE, request.sample_rate), request.sample_rate)


def _measured(folder: Path, files: Mapping[str, str], labels: Mapping[str, str], report: _Report) -> list[Source]:
    """All sources with the gains that make them alike in loudness; their figures go into a file."""
    figures, sources = {}, []
    for number, (source, file) in enumerate(files.items()):
        report("measuring", _MEASURING + (1 - _MEASURING) * number / len(files))
        figures[source] = curves.measure(audio.read(folder / file)[0])
        sources.append(Source(id=source, label=labels[source], loudness_lufs=figures[source].loudness_lufs))
    write_json(folder / FIGURES_FILE, {"sources": {source: found.as_json() for source, found in figures.items()}})
    levels = {
        source: (found.loudness_lufs, found.true_peak_dbtp)
        for source, found in figures.items()
        if found.loudness_lufs is not None and found.true_peak_dbtp is not None
    }
    if levels:
        # the loudest level at which none of them passes full scale
        common = min(min(loudness, loudness - peak) for loudness, peak in levels.values())
        for entry in sources:
            if entry.id in levels:
                entry.gain_db = round(common - levels[entry.id][0], 3)
    return sources
