"""What the check found: one :class:`Finding` for each thing, of a kind that :data:`KINDS` describes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fxnorm.settings import CheckSettings, FindingCode

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The worst first."""

SCHEMA = 1
"""Of what :func:`as_json` gives; it counts up when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding, in words for people who have to do something about it.

    Attributes:
        title: what it is, in two or three words.
        meaning: what is wrong with it.
        remedy: what to do about it.
    """

    title: str
    meaning: str
    remedy: str


KINDS: Mapping[FindingCode, Kind] = {
    "unreadable": Kind(
        "Unreadable file",
        "No stage can read the file: it is damaged, empty, no audio, or has more than two channels.",
        "Copy it again from its source, or export it again.",
    ),
    "truncated": Kind(
        "Truncated file",
        "The file ends before its header says it does, as after a download that was broken off.",
        "Copy it again from its source.",
    ),
    "not-finite": Kind(
        "Values that are no numbers",
        "The file holds NaN, infinite or absurdly large samples, which a plug-in left when it failed.",
        "Export it again.",
    ),
    "ambiguous": Kind(
        "Unclear name",
        "Two files or folders claim the same place, a link leads nowhere, or a song's name is not in UTF-8.",
        "Rename or remove one of them; bring back what the link leads to.",
    ),
    "unused-file": Kind(
        "Audio that nothing reads",
        "A file or folder holds audio, and no stage reads it: the name, the place or the format is none that is known.",
        "Rename it, add it to a stem, or move it out of the dataset. If it is part of a"
        " stem, the song is incomplete.",
    ),
    "no-song": Kind(
        "Folder that is no song",
        "A folder lies where songs lie and has no stem, so it is passed over.",
        "Name its files vocals, bass, drums and other, or move it out of the dataset.",
    ),
    "no-mixture": Kind(
        "No mixture",
        "The song has no mixture. It can be measured and mixed, but nothing can be learnt from it or compared with it.",
        "Add the finished mix as mixture.wav, or move the song out of train and val.",
    ),
    "missing-stem": Kind(
        "Missing stem",
        "A stem has no file and is taken as silence.",
        "If the song has that instrument, look for the file: it may have another name.",
    ),
    "mixture-residual": Kind(
        "Stems do not add up",
        "The mixture holds sound that no stem has, or the stems hold sound that is not in the mixture.",
        "Look for a missing or additional track, another version of the mix, or effects on the mix bus that change it.",
    ),
    "other-mixture": Kind(
        "Mixture of another song",
        "The mixture has next to nothing in common with the stems: it is another song, another take, or damaged.",
        "Replace the mixture by that of these stems, or remove the song.",
    ),
    "polarity": Kind(
        "Inverted polarity",
        "A stem has the opposite polarity of the same stem in the mixture, so that it cancels where it should add.",
        "Invert the polarity of the file that is named.",
    ),
    "delay": Kind(
        "Delay",
        "A stem is later or earlier than it is in the mixture.",
        "Shift the file by the samples that are given, or export it again from the start of the session.",
    ),
    "drift": Kind(
        "Clock drift",
        "The delay grows over the song: two recorders or converters ran at different rates.",
        "Export both from one session, or resample the file by the millionths that are given.",
    ),
    "leak": Kind(
        "Song in two splits",
        "The same recording is in two splits, so the network is tested on what it learnt from.",
        "Remove one of the two.",
    ),
    "duplicate": Kind(
        "Song that is there twice",
        "The same recording, or the same stem, is in two songs of the dataset and counts twice.",
        "Remove one of the two.",
    ),
    "same-name": Kind(
        "One name in two splits",
        "Two songs of different splits have the same name and may be two recordings of one song.",
        "Listen to both; if it is one song, put both into the same split.",
    ),
    "bleed": Kind(
        "Bleed",
        "One stem can be heard within another one, as a loudspeaker or an instrument in another microphone.",
        "Use a take without bleed, gate the pauses, or leave the song out where the level is high.",
    ),
    "wrong-label": Kind(
        "Wrong label",
        "A stem sounds more like another stem of this dataset than like those of its own name.",
        "Listen to it; if it has the wrong name, rename it.",
    ),
    "clipping": Kind(
        "Clipping",
        "The waveform is cut off flat at its peak. A file that was clipped and then turned down is"
        " damaged too.",
        "Export it again at a lower level. A mixture that is meant to be clipped can stay.",
    ),
    "dc": Kind(
        "Constant offset",
        "The waveform is not centred on zero, which takes headroom and gives clicks at cuts.",
        "Put a high-pass filter of some hertz on the file.",
    ),
    "band-limit": Kind(
        "Band limit",
        "The spectrum ends steeply far below half the sample rate: the file was an MP3 or AAC, or had a lower rate.",
        "Look for the uncompressed source. Do not mix such songs with full-band ones in one training.",
    ),
    "dual-mono": Kind(
        "Two equal channels",
        "Left and right are the same. That is usual for vocals and bass, and unusual for a mixture.",
        "Nothing, if the source is mono.",
    ),
    "silence": Kind(
        "Silence",
        "A file is silent throughout, or a mixture has a long silence.",
        "Cut the silence off in all files of the song, or look for what is missing.",
    ),
    "no-programme": Kind(
        "No programme",
        "A stem, or one side of it, has clicks, hum, noise or bleed alone. It is taken as it is and not normalized.",
        "Remove the file if the song does not need it.",
    ),
    "length": Kind(
        "Different lengths",
        "The files of a song differ in length; shorter ones are taken to end in silence.",
        "Export all files over the same range.",
    ),
    "rate": Kind(
        "Other sample rate",
        "The file is not at 44.1 kHz and is resampled each time it is read.",
        "Nothing; to save time, resample it once.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: its kind.
        severity: an ``error`` spoils a run, a ``warning`` may, a ``note`` is good to know.
        song: path of the song's folder; of what is in no song, of the folder it lies in.
        message: one line with the figures.
        file: name of the file within the song; empty where it concerns several.
        figures: the measured values, by names with their units.
        split: of the song; empty for a folder of songs without splits.
    """

    code: FindingCode
    severity: Severity
    song: str
    message: str
    file: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    split: str = ""

    @property
    def line(self) -> str:
        """The finding as text, without the song."""
        return f"{self.file}: {self.message}" if self.file else self.message


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity, the worst first, then by song, file and kind."""
    return sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), one.song, one.file, one.code, one.message))


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many there are of each severity."""
    found = [finding.severity for finding in findings]
    return {severity: found.count(severity) for severity in SEVERITIES}


def in_words(numbers: Mapping[Severity, int]) -> str:
    """What :func:`counts` gives, such as ``1 error, 2 warnings, 0 notes``."""
    return ", ".join(f"{numbers[name]} {name}{'' if numbers[name] == 1 else 's'}" for name in SEVERITIES)


def kept(findings: Iterable[Finding], settings: CheckSettings) -> list[Finding]:
    """Findings in order, without those that the settings ignore."""
    return in_order(finding for finding in findings if finding.code not in settings.ignore)


def stopping(findings: Iterable[Finding], settings: CheckSettings) -> list[Finding]:
    """Those findings at which the pipeline stops."""
    if settings.stop_at == "never":
        return []
    least = SEVERITIES.index(settings.stop_at)
    return [finding for finding in findings if SEVERITIES.index(finding.severity) <= least]


def as_json(finding: Finding) -> dict[str, Any]:
    """A finding as plain values; ``file`` and ``split`` are null where it has none."""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "song": finding.song,
        "split": finding.split or None,
        "file": finding.file or None,
        "message": finding.message,
        "figures": dict(finding.figures),
    }
