"""What a user takes away: the mix as it is or with moved faders, its parts, the table, a DAW's project, or all."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fxnorm.constants import STEMS
from fxnorm.io import audio
from fxnorm.io.files import whole_file, write_json
from fxnorm.mixing import delivery, parts
from fxnorm.mixing.options import MixOptions
from fxnorm.page import making
from fxnorm.page.making import Made
from fxnorm.page.refusal import Refused
from fxnorm.sessions import table as tables
from fxnorm.sessions.table import TABLE_FILE, Table

What = Literal["mix", "parts", "daw", "tracks", "description", "all"]

_MIX, _MOST_GAIN_DB = "mix", 60.0
_Gain = Annotated[float, Field(ge=-_MOST_GAIN_DB, le=_MOST_GAIN_DB, allow_inf_nan=False)]
_Stem = Literal["vocals", "bass", "drums", "other"]


class Wish(BaseModel):
    """What shall be taken away.

    Attributes:
        what: the mix, its parts, the parts with a REAPER project, ``tracks.yaml``, ``mix.json``, or all of it.
        source: the mix, or the id of an alternative.
        format: of the mix.
        bits: of its samples; the default is that of :class:`fxnorm.mixing.options.MixOptions`.
        sample_rate: of the mix in Hz; the default is that at which it was made.
        gains_db: what stems' parts are turned up by.
        muted: stems that are left out.
        solo: if there are any, these alone are heard.
        target_loudness: in LUFS, with moved faders or for another level; the default is as it comes out.
        true_peak: in dBTP; the default is the mix's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    what: What
    source: Annotated[str, Field(max_length=40)] = _MIX
    format: Literal["wav", "flac", "mp3"] = "wav"
    bits: Literal["16", "24", "32f"] | None = None
    sample_rate: int | None = None
    gains_db: dict[_Stem, _Gain] = Field(default_factory=dict)
    muted: list[_Stem] = Field(default_factory=list, max_length=len(STEMS))
    solo: list[_Stem] = Field(default_factory=list, max_length=len(STEMS))
    target_loudness: float | None = None
    true_peak: float | None = None

    @property
    def is_changed(self) -> bool:
        """Whether it is another mix than the one that was made."""
        moved = bool(any(self.gains_db.values()) or self.muted or self.solo)
        return moved or self.target_loudness is not None or self.true_peak is not None

    @property
    def suffix(self) -> str:
        """Of the file that it becomes."""
        return {
            "mix": f".{self.format}", "parts": " parts.zip", "daw": " session.zip", "tracks": " tracks.yaml",
            "description": " mix.json", "all": ".zip",
        }[self.what]  # fmt: skip


def export(wish: Wish, made: Made, table: Table, folder: Path, place: Path) -> str:
    """Write what shall be taken away.

    Args:
        wish: what.
        made: the mix.
        table: of its tracks.
        folder: of the mix.
        place: the file to write, without suffix of the format yet.

    Returns:
        a sentence on its level, empty where it has none.

    Raises:
        Refused: there are no parts, or no such source.
        FxnormError: options that do not go together.
    """
    parts_folder = folder / making.PARTS_FOLDER
    if wish.what in ("parts", "daw", "description") and not made.parts:
        raise Refused(409, "this model's mix is not told apart into stems")
    if wish.what == "mix":
        return _mix(wish, made, folder, place)
    if wish.what == "tracks":
        place.write_text(tables.text(table), encoding="utf-8")
    elif wish.what == "description":
        place.write_bytes((parts_folder / parts.DESCRIPTION_FILE).read_bytes())
    elif wish.what == "parts":
        _zip(place, ((path, path.name) for path in _files(parts_folder) if path.name != parts.SESSION_FILE))
    elif wish.what == "daw":
        _zip(place, ((path, path.name) for path in _files(parts_folder) if path.name != parts.MIX_FILE))
    else:
        _everything(made, table, folder, place)
    return ""


def _mix(wish: Wish, made: Made, folder: Path, place: Path) -> str:
    source = making.file_of(wish.source, made, folder)
    if source is None or not wish.source.startswith((_MIX, "alternative-")):
        raise Refused(404, "no such mix")
    rate = wish.sample_rate or made.sample_rate
    given = {"target_loudness": wish.target_loudness, "true_peak": wish.true_peak, "bits": wish.bits}
    known = {name: value for name, value in given.items() if value is not None}
    options = MixOptions.of(known | {"output_format": wish.format, "sample_rate": rate})
    if wish.source != _MIX or (not wish.is_changed and rate == made.sample_rate) or not made.parts:
        if wish.is_changed:
            raise Refused(422, "only the mix itself has faders, and a level that can be changed afterwards")
        samples, _ = audio.read(source, None)
        samples = audio.resample(samples, made.sample_rate, rate)
        sentence = made.sentence if wish.source == _MIX else ""
    else:
        parts_folder = folder / making.PARTS_FOLDER
        description = parts.read_description(parts_folder)
        gains = {str(stem): gain for stem, gain in wish.gains_db.items()}
        change = parts.Change.of(gains, set(wish.muted), set(wish.solo), description.stems)
        remixed = parts.remix(parts_folder, change, options)
        samples, sentence = remixed.audio, remixed.sentence()
        if remixed.reduction_db > 0.05:
            sentence += f", peaks turned down by up to {remixed.reduction_db:.1f} dB"
        if remixed.remark is not None:
            sentence += f"; {remixed.remark}"
    content = delivery.encode(samples, rate, f".{wish.format}", wish.bits)
    with whole_file(place) as temporary:
        temporary.write_bytes(content)
    return sentence


def _everything(made: Made, table: Table, folder: Path, place: Path) -> None:
    listed = [(folder / making.MIX_FILE, "mix.wav"), (folder / making.REPORT_FILE, making.REPORT_FILE)]
    for entry in made.sources:
        if entry.id.startswith("alternative-"):
            listed.append((folder / f"{entry.id}.wav", f"{entry.id} {entry.label}.wav"))
    if made.parts:
        listed += [(path, f"parts/{path.name}") for path in _files(folder / making.PARTS_FOLDER)]
    text = place.with_name(f"{place.name}.tracks")
    text.write_text(tables.text(table), encoding="utf-8")
    gains = place.with_name(f"{place.name}.gains")
    write_json(gains, made.gains_db)
    try:
        _zip(place, [*listed, (text, TABLE_FILE), (gains, "gains_db.json")])
    finally:
        text.unlink()
        gains.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _zip(place: Path, files: Iterable[tuple[Path, str]]) -> None:
    """Packed as they are: compression would take minutes of float samples for a tenth of their size."""
    with whole_file(place) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path, name in files:
            archive.write(path, name)
