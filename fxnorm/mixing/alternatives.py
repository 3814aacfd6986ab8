"""Several mixes of one session, which differ for stated reasons, and how they compare.

The first is the mix as it is without alternatives. The others change what an engineer may see otherwise and the
published method leaves open: the impulse responses, the short reverberation that dry recordings get, and whether the
panning or the dynamics of the session stay as they are. Balances are no alternative here: ``fxnorm remix`` changes
those of any mix in seconds.

The session is read once, and a stem that two mixes share is normalized once where they follow each other.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from fxnorm import __version__
from fxnorm.errors import OutputError, SettingsError
from fxnorm.io import bounded
from fxnorm.io.files import whole_file, write_json
from fxnorm.losses import FFT_SIZE, HOP, stereo_losses
from fxnorm.mixing.delivery import DeliveredMix, encode, write
from fxnorm.mixing.mix_files import FileMix, PartsOut, mix_samples
from fxnorm.mixing.mixer import KEPT, Mixer, refuse_damaged, refuse_unusable
from fxnorm.mixing.options import Keep, MixOptions
from fxnorm.mixing.reference import MatchedMix, Reference, ReferenceMatch, check_reference, delivered_mix
from fxnorm.mixing.report import measure_stems
from fxnorm.mixing.treatment import Character, Described, Measured, compare
from fxnorm.models.network import Progress
from fxnorm.normalization.normalizer import REVERBERATED_STEMS

MOST = 12
"""Mixes of one session: more are not listened to."""

SAME_DB = -80.0
"""Energy of the difference over that of a mix under which two mixes are the same: rounding, and nothing to be heard."""

DEFAULT = "default"
_SPARE = 3  # ways that wait in case others turn out to give the same
_SEEDS = 200  # that are tried for other impulse responses
_STRIDE = 64  # one of so many samples is kept of each mix, to compare it with the next
_FRAMES_AT_ONCE = 1_024


@dataclass(frozen=True)
class Way:
    """A way to mix a session.

    Attributes:
        name: for engineers, and in the name of its file.
        why: what is otherwise, in a sentence.
        arguments: of ``fxnorm mix`` that give this mix by itself.
        options: the same.
    """

    name: str
    why: str
    arguments: str
    options: MixOptions


class Alternative(Described):
    """One of the mixes; null where a figure has no value."""

    name: str = Field(description="of the way it was mixed")
    file: str = Field(description="in the same folder")
    why: str = Field(description="what is otherwise than in the first")
    arguments: str = Field(description="options of fxnorm mix that give it by itself, with all others as they were")
    dry: bool = Field(description="the stems were taken for recordings without effects")
    seed: int = Field(description="that drew the impulse responses")
    keep: Keep | None = Field(description="what stayed of the stems as it was")
    character: Character = Field(description="what the delivered mix sounds like")
    true_peak_dbtp: float | None = Field(description="its true peak; null for silence")
    equalization_db: dict[str, float | None] = Field(
        description="by centre in Hz of each third of an octave: level less the first's, less that of the loudness"
    )
    difference_db: float | None = Field(description="energy of the difference from the first, over that of the first")
    stereo_loss: float = Field(description="stereo loss b between it and the first")
    sentence: str = Field(description="the differences from the first in words")
    remarks: list[str] = Field(description="what was not reached of loudness or reference")


class Comparison(Described):
    """What ``MIX-alternatives.json`` holds."""

    format: Literal[1] = Field(description="version of what is described here")
    made_by: str = Field(description="the program and its version")
    alternatives: list[Alternative] = Field(description="the mixes, the first among them")
    left_out: list[str] = Field(description="ways that gave a mix that was there already")

    def lines(self) -> list[str]:
        """A table."""
        width = max(len(mix.name) for mix in self.alternatives) + 4
        heads = ("LUFS", "dBTP", "width dB", "crest dB", "range LU", "loss", "diff. dB")
        lines = [f"{'':<{width}}" + "".join(f"{head:>10}" for head in heads)]
        for number, mix in enumerate(self.alternatives, 1):
            heard = mix.character
            figures = (
                heard.loudness_lufs,
                mix.true_peak_dbtp,
                heard.side_to_middle_db,
                heard.crest_factor_db,
                heard.loudness_range_lu,
            )
            cells = [_cell(figure) for figure in figures]
            compared = ["-", "-"] if number == 1 else [f"{mix.stereo_loss:.3f}", _cell(mix.difference_db)]
            lines.append(f"{number:>2}  {mix.name:<{width - 4}}" + "".join(f"{cell:>10}" for cell in cells + compared))
        return lines


@dataclass(frozen=True)
class Made:
    """Alternatives that were written.

    Attributes:
        first: the first mix.
        comparison: of all.
        matches: what brought each to a song, if there was one, by name.
    """

    first: FileMix
    comparison: Comparison
    matches: dict[str, ReferenceMatch]

    def for_report(self) -> dict[str, Any]:
        """What a report says of them: ``alternatives``, each with its ``reference`` if there is one."""
        return {
            "alternatives": [
                mix.model_dump() | ({"reference": self.matches[mix.name].model_dump()} if self.matches else {})
                for mix in self.comparison.alternatives
            ]
        }


def comparison_file(output: Path) -> Path:
    """Where the comparison of the alternatives of ``output`` goes."""
    return output.with_name(f"{output.stem}-alternatives.json")


def file_of(output: Path, number: int, name: str) -> Path:
    """Where an alternative goes; the first is ``output`` itself."""
    return output if number == 1 else output.with_name(f"{output.stem}-{number}-{name}{output.suffix}")


def ways(mixer: Mixer, stems: Sequence[str], options: MixOptions) -> Iterator[Way]:
    """The ways in which a Mixer can mix stems, by their names, the first as the options say; no more than MOST.

    Args:
        mixer: the Mixer.
        stems: that there are.
        options: of the first mix.
    """
    yield Way(DEFAULT, "as this Mixer mixes without alternatives", "", options)
    reverberated = [stem for stem in REVERBERATED_STEMS if stem in stems]
    rooms = _rooms(mixer, reverberated, options)
    if options.dry and reverberated:
        what = " and ".join(reverberated)
        why = f"{what} without the short reverberation that dry recordings get"
        yield Way("no-room", why, "--wet", options.model_copy(update={"dry": False}))
    yield from _some(rooms, 1)
    effects = mixer.keeping(options.keep).recipe.settings.effects
    for keep, effect in KEPT.items():
        if options.keep is None and effect in effects:
            why = (
                f"the {keep} of the stems stay{'s' if keep == 'panning' else ''}: they are normalized without {effect}"
            )
            yield Way(f"own-{keep}", why, f"--keep {keep}", options.model_copy(update={"keep": keep}))
    yield from rooms


def _some(rooms: Iterator[Way], count: int) -> Iterator[Way]:
    for _, room in zip(range(count), rooms, strict=False):
        yield room


def _rooms(mixer: Mixer, stems: Sequence[str], options: MixOptions) -> Iterator[Way]:
    """Ways with other impulse responses, as long as there are some."""
    normalizer, seed = mixer.recipe.normalizer(), mixer.seed_of(options.seed)

    def drawn(number: int) -> tuple[bytes, ...]:
        song_seed = mixer.seed_of(number, options.song)
        found = [normalizer.impulse_responses(stem, seed=song_seed, dry=bool(options.dry)) for stem in stems]
        return tuple(response.tobytes() for responses in found for response in responses.values())

    seen = {drawn(seed)}
    for step in range(1, _SEEDS):
        number = (seed + step) % 2**63
        draws = drawn(number)
        if draws not in seen and len(seen) < MOST:
            seen.add(draws)
            why = f"other impulse responses for {' and '.join(stems)}"
            changed = options.model_copy(update={"seed": number})
            yield Way(f"room-{len(seen)}", why, f"--seed {number}", changed)


def planned(mixer: Mixer, stems: Sequence[str], options: MixOptions, count: int) -> tuple[list[Way], list[Way]]:
    """The ways that are taken, and those that wait in case some of them give the same mix.

    Those that share normalized stems follow each other.

    Raises:
        SettingsError: there are fewer than ``count``.
    """
    if not 2 <= count <= MOST:
        raise SettingsError(f"alternatives: expected 2 to {MOST}, found {count}")
    found = list(_some(ways(mixer, stems, options), count + _SPARE))
    if len(found) < count:
        names = ", ".join(way.name for way in found)
        raise SettingsError(
            f"alternatives: expected at most {len(found)}, found {count}: this Mixer and these stems have {names}"
        )
    taken = sorted(found[:count], key=lambda way: way.options.keep != options.keep)
    return taken, found[count:]


def refuse_foreign(output: Path, names: Sequence[str]) -> None:
    """Refuse to overwrite a file that an alternative, or the comparison, would have the name of.

    Those that an earlier comparison lists are replaced.

    Raises:
        OutputError: the first such file.
    """
    file, listed = comparison_file(output), set[str]()
    if file.exists():
        try:
            listed = {mix.file for mix in Comparison.model_validate(bounded.read_json(file)).alternatives}
        except (OSError, ValueError, ValidationError) as error:
            raise OutputError(f"{file}: is no comparison of alternatives; remove it, or name another output") from error
    for number in range(2, MOST + 1):
        for name in names:
            path = file_of(output, number, name)
            if path.name not in listed and path.exists():
                raise OutputError(f"{path}: is there already; remove it, or name another output")


def mix_alternatives(
    mixer: Mixer,
    samples: Mapping[str, np.ndarray],
    options: MixOptions,
    output: Path,
    count: int,
    progress: Progress | None = None,
    parts: PartsOut | None = None,
    sources: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    reported: bool = True,
) -> Made:
    """Mix stems in several ways, and compare the mixes.

    The first mix is written as soon as it is made; the others and the comparison appear together.

    Args:
        mixer: the Mixer.
        samples: by stem, (1 or 2 channels, samples) at 44.1 kHz.
        options: of the first mix.
        output: the first mix; the others go beside it, see :func:`file_of`.
        count: how many.
        progress: called with the fraction that is done.
        parts: where parts of the first mix go, if they shall be written.
        sources: where each stem is from, for the description of the parts.
        reference: a song that all mixes are brought to.
        reported: measure the stems for the report of the first.

    Raises:
        SettingsError: there are not so many ways.
        AudioError, ModelError: as :meth:`Mixer.mix`.
        OutputError: a file would be overwritten that is not of an earlier comparison, or cannot be written.
    """
    refuse_unusable(samples)
    check_reference(reference, options)
    taken, spare = planned(mixer, list(samples), options, count)
    refuse_foreign(output, [way.name for way in (*taken, *spare)])
    session = _Session(mixer, samples)
    show = _Shown(progress, count)
    if parts is not None:
        first = mix_samples(mixer, dict(samples), options, output, show, parts, sources, reference, reported)
    else:
        delivered = session.deliver(taken[0], reference, show)
        write(output, delivered.audio, options.sample_rate, options.bits)
        measured = measure_stems(samples) if reported else {}
        first = FileMix(mixer.keeping(options.keep), measured, delivered, options.sample_rate)
    compared = _Compared(first.delivered, mixer)
    done = [compared.add(taken[0], output, first.delivered)]
    left_out: list[str] = []
    matches = {} if first.match is None else {DEFAULT: first.match}
    with contextlib.ExitStack() as stack:
        for way in (*taken[1:], *spare):
            if len(done) == count:
                break
            show.step = len(done)
            delivered = session.deliver(way, reference, show)
            if (same := compared.same_as(delivered.mix)) is not None:
                left_out.append(f"{way.name}: the same as {same}")
                continue
            path = file_of(output, len(done) + 1, way.name)
            content = encode(delivered.audio, options.sample_rate, output.suffix.lower(), options.bits)
            stack.enter_context(whole_file(path)).write_bytes(content)
            done.append(compared.add(way, path, delivered))
            if isinstance(delivered, MatchedMix):
                matches[way.name] = delivered.match
        comparison = Comparison(format=1, made_by=f"fxnorm {__version__}", alternatives=done, left_out=left_out)
        write_json(comparison_file(output), comparison.model_dump())
    return Made(first, comparison, matches)


class _Session:
    """Stems that are mixed in one way after the other; what two that follow each other share is normalized once."""

    def __init__(self, mixer: Mixer, samples: Mapping[str, np.ndarray]) -> None:
        self._mixer = mixer
        self._samples = samples
        self._normalized: np.ndarray | None = None
        self._made: dict[str, tuple[Keep | None, bool, int]] = {}  # by stem, how the rows of ``_normalized`` are

    def deliver(self, way: Way, reference: Reference | None, progress: Progress) -> DeliveredMix:
        """The mix of these stems, as it is delivered: that of :func:`fxnorm.mixing.mix_files.mix_samples`."""
        options, dry = way.options, bool(way.options.dry)
        mixer, seed = self._mixer.keeping(options.keep), self._mixer.seed_of(options.seed, options.song)
        wanted = {
            stem: (options.keep, dry, seed) if stem in REVERBERATED_STEMS else (options.keep, False, 0)
            for stem in self._samples
        }
        unchanged = [stem for stem, how in wanted.items() if self._made.get(stem) == how]
        self._normalized = mixer.normalize(
            self._samples, dry, seed, progress, into=self._normalized, unchanged=unchanged
        )
        self._made = wanted
        mixed = mixer.mix_normalized(self._normalized, progress)
        refuse_damaged(mixed)
        np.clip(mixed, -1.0, 1.0, out=mixed)
        return delivered_mix(mixed, options, mixer.recipe.statistics, reference)


@dataclass
class _Shown:
    """Progress of all mixes, from that of each."""

    progress: Progress | None
    count: int
    step: int = 0

    def __call__(self, done: float) -> None:
        if self.progress is not None:
            self.progress((self.step + done) / self.count)


class _Compared:
    """Compares mixes with the first, which is kept, and with the others, of which a part of the samples is."""

    def __init__(self, first: DeliveredMix, mixer: Mixer) -> None:
        self._mixer = mixer
        self._first = first.mix
        self._measured = Measured(first.mix)
        self._parts: dict[str, np.ndarray] = {}

    def same_as(self, mix: np.ndarray) -> str | None:
        """The name of a mix that this one equals within rounding, if there is one."""
        if _difference_db(mix, self._first) < SAME_DB:
            return DEFAULT
        return next((name for name, part in self._parts.items() if _difference_db(_part(mix), part) < SAME_DB), None)

    def add(self, way: Way, path: Path, delivered: DeliveredMix) -> Alternative:
        """Compare a mix with the first, and remember it."""
        is_first = delivered.mix is self._first
        measured = self._measured if is_first else Measured(delivered.mix)
        against = compare(self._measured, measured)
        if not is_first:
            self._parts[way.name] = _part(delivered.mix)
        remarks = [] if delivered.remark is None else [delivered.remark]
        if isinstance(delivered, MatchedMix):
            remarks += delivered.match.remarks
        difference = -math.inf if is_first else _difference_db(delivered.mix, self._first)
        return Alternative(
            name=way.name,
            file=path.name,
            why=way.why,
            arguments=way.arguments,
            dry=bool(way.options.dry),
            seed=self._mixer.seed_of(way.options.seed),
            keep=way.options.keep,
            character=against.after,
            true_peak_dbtp=round(delivered.true_peak_dbtp, 2) if delivered.mix.any() else None,
            equalization_db=against.equalization_db,
            difference_db=round(difference, 2) if math.isfinite(difference) else None,
            stereo_loss=0.0 if is_first else round(_stereo_loss(delivered.mix, self._first), 4),
            sentence="" if is_first else against.sentence,
            remarks=remarks,
        )


def _part(mix: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(mix[:, ::_STRIDE])


def _difference_db(mix: np.ndarray, first: np.ndarray) -> float:
    """Energy of the difference over that of the first, in dB."""
    energy = difference = 0.0
    for block, other in zip(_blocks(mix), _blocks(first), strict=True):
        energy += float(np.vdot(other, other))
        change = block - other
        difference += float(np.vdot(change, change))
    return 10 * math.log10((difference + 1e-30) / (energy + 1e-30))


def _blocks(audio: np.ndarray) -> Iterator[np.ndarray]:
    length = _FRAMES_AT_ONCE * HOP
    return (audio[:, start : start + length] for start in range(0, audio.shape[1], length))


def _stereo_loss(mix: np.ndarray, first: np.ndarray) -> float:
    """Stereo loss b, whose means over frames are taken some frames at a time: spectra of a song are gigabytes."""
    step, total, frames = _FRAMES_AT_ONCE * HOP, 0.0, 0
    for start in range(0, max(1, mix.shape[1] - (FFT_SIZE - HOP)), step):
        part = slice(start, start + step + FFT_SIZE - HOP)
        count = 1 + max(0, mix[:, part].shape[1] - FFT_SIZE) // HOP
        total += count * stereo_losses({"mix": mix[:, part]}, first[:, part])["mix"]["b"]
        frames += count
    return total / frames


def _cell(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"
