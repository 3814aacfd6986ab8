"""Before the stages: every file of a dataset read to its end, and what would spoil a run or be passed over."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fxnorm.constants import MIXTURE, SAMPLE_RATE, SILENCE_DBFS, STEMS
from fxnorm.data.dataset import Layout, Song
from fxnorm.data.parallel import map_songs
from fxnorm.data.splits import refuse_shared
from fxnorm.effects import programme
from fxnorm.errors import AudioError
from fxnorm.io import audio

_MIXTURE_TOLERANCE_SECONDS = 0.1


@dataclass(frozen=True)
class Findings:
    """What :func:`run` found.

    Attributes:
        layout: which songs there are, and what is not read.
        songs: for each song what is wrong with it and what is worth knowing, as :func:`find_problems` returns them.
    """

    layout: Layout
    songs: list[tuple[Song, list[str], list[str]]] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """How many songs no stage can use."""
        return sum(bool(problems) for _, problems, _ in self.songs)

    @property
    def is_clean(self) -> bool:
        """Whether every song can be used and everything is read."""
        return not (self.bad or self.layout.problems or self.layout.unused)

    def lines(self) -> Iterator[str]:
        """The findings as text: songs first, then what is unclear, then what is not read."""
        for song, problems, remarks in self.songs:
            yield f"{'BAD ' if problems else 'ok  '} {song.folder}: {', '.join(path.name for path in song.files)}"
            yield from (f"       {line}" for line in [*problems, *remarks])
        yield f"{len(self.songs)} songs, {self.bad} with problems"
        yield from (f"BAD  {problem}" for problem in self.layout.problems.values())
        yield from (f"not read: {unused.path}: {unused.reason}" for unused in self.layout.unused)


def run(dataset: Path, workers: int = 0) -> Findings:
    """Look at every folder of a dataset and read every file of its songs.

    Args:
        dataset: a folder of splits, or of songs.
        workers: processes; 0 for one a core.

    Raises:
        DatasetError: the folder is missing, or it is empty.
    """
    layout = Layout.read(dataset)
    if not (layout.problems or layout.unused):
        layout.of(None)
    checked, _ = map_songs(find_problems, layout.songs, "check", workers or None)
    return Findings(layout, [(song, problems, remarks) for song, (problems, remarks) in checked])


def refuse_shared_songs(findings: Findings) -> None:
    """Refuse songs that two splits have in common, as ``normalize`` and ``train`` do.

    Raises:
        DatasetError: there are such songs.
    """
    refuse_shared(findings.layout.splits, findings.layout.root)


def find_problems(song: Song) -> tuple[list[str], list[str]]:
    """What is wrong with a song (no stage can use it) and what is worth knowing (it can be used all the same).

    Every file is read to its end, so a truncated or damaged one is found here rather than in the middle of a run.
    """
    problems, remarks = [], [f"no {stem}: taken as silence" for stem in STEMS if stem not in song.stems]
    lengths: dict[str, int] = {}
    for path in song.files:
        try:
            samples, found_rate = audio.read(path, sample_rate=None)
        except AudioError as error:
            problems.append(str(error))
            continue
        lengths[path.name] = round(samples.shape[1] * SAMPLE_RATE / found_rate)
        if found_rate != SAMPLE_RATE:
            remarks.append(f"{path.name}: {found_rate} Hz, will be resampled to {SAMPLE_RATE} Hz")
        if audio.peak_dbfs(samples) <= SILENCE_DBFS:
            remarks.append(f"{path.name}: silent (peak at or under {SILENCE_DBFS:g} dBFS)")
        elif remark := programme.remark(audio.resample(samples, found_rate, SAMPLE_RATE), SAMPLE_RATE):
            remarks.append(f"{path.name}: {remark}")
    if lengths and max(lengths.values()) - min(lengths.values()) > _MIXTURE_TOLERANCE_SECONDS * SAMPLE_RATE:
        listed = ", ".join(f"{name} {length / SAMPLE_RATE:.2f} s" for name, length in lengths.items())
        remarks.append(f"lengths differ ({listed}): shorter files are taken to end in silence")
    if song.mixture is None:
        remarks.append(f"no {MIXTURE}: usable for mixing and statistics, not for training")
    return problems, remarks
