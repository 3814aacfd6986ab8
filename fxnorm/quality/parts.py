"""What was found in some of a dataset's songs, in a file, so that several machines can read the songs.

The songs' own findings are in it and what songs are compared by: hashes, features and fingerprints. Pictures are kept
of the worst songs alone, since no page shows more.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.data.dataset import Layout, Song
from fxnorm.errors import DatasetError, first_line, printable
from fxnorm.io import bounded
from fxnorm.io.files import write_packed_json
from fxnorm.quality.findings import SEVERITIES, Finding
from fxnorm.quality.fingerprints import Fingerprint
from fxnorm.quality.pictures import Curve, Picture
from fxnorm.quality.songs import CheckedSong

_SCHEMA = 1
_LARGEST = 2**32  # bytes of the JSON: a song takes some 50 KB
_KINDS = frozenset({"<f4", "<f8", "<i2", "<i4", "<i8"})


def save(file: Path, layout: Layout, songs: Sequence[CheckedSong], most_pictured: int) -> None:
    """Write what was found in songs of a dataset.

    Args:
        file: the file to write.
        layout: of the dataset, whose root is no part of the songs' names in the file.
        songs: what was found in them.
        most_pictured: how many songs keep their pictures.
    """
    with_pictures = sorted((one for one in songs if one.pictures), key=_worst_first)[:most_pictured]
    pictured = {one.song.folder for one in with_pictures}
    content = {
        "schema": _SCHEMA,
        "songs": {
            one.song.folder.relative_to(layout.root).as_posix(): _as_json(one, one.song.folder in pictured)
            for one in songs
        },
    }
    write_packed_json(file, content)


def load(files: Sequence[Path], layout: Layout) -> Callable[[Song], CheckedSong]:
    """What was found in a song of a dataset, as :func:`save` wrote it into one of the files.

    Raises:
        DatasetError: a file is none of this kind, or a song is in two files; when it is asked for, that it is in none.
    """
    found: dict[str, CheckedSong] = {}
    by_name = {song.folder.relative_to(layout.root).as_posix(): song for song in [*layout.songs, *layout.flat]}
    for file in files:
        try:
            content = bounded.read_packed_json(file, _LARGEST)
            if content["schema"] != _SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            part = {name: _of_json(by_name[name], values) for name, values in content["songs"].items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            detail = printable(first_line(error), 200)
            raise DatasetError(f"{file}: expected what was found in songs, as fxnorm writes it ({detail})") from error
        if both := found.keys() & part.keys():
            raise DatasetError(f"{file}: {min(both)} is in another part as well")
        found |= part

    def of(song: Song) -> CheckedSong:
        name = song.folder.relative_to(layout.root).as_posix()
        if name not in found:
            raise DatasetError(f"{song.folder}: expected what was found in it, it is in no part")
        return found[name]

    return of


def _worst_first(one: CheckedSong) -> tuple[int, str]:
    worst = min((SEVERITIES.index(finding.severity) for finding in one.findings), default=len(SEVERITIES))
    return worst, str(one.song.folder)


def _as_json(one: CheckedSong, pictured: bool) -> dict[str, Any]:
    mark = one.fingerprint
    return {
        "split": one.split,
        "findings": [
            [finding.code, finding.severity, finding.message, finding.file, dict(finding.figures)]
            for finding in one.findings
        ],
        "seconds": one.seconds,
        "figures": one.figures,
        "band_limits_hz": one.band_limits_hz,
        "features": {name: _packed(values) for name, values in one.features.items()},
        "digests": {name: value.hex() for name, value in one.digests.items()},
        "fingerprint": None if mark is None else [mark.seconds, _packed(mark.frames), _packed(mark.bins)],
        "pictures": [
            [code, file, [_picture_as_json(picture) for picture in pictures]]
            for (code, file), pictures in (one.pictures.items() if pictured else ())
        ],
    }


def _of_json(song: Song, content: Mapping[str, Any]) -> CheckedSong:
    split, mark = content["split"], content["fingerprint"]
    return CheckedSong(
        song,
        split,
        [
            Finding(code, severity, str(song.folder), message, file, figures, split)
            for code, severity, message, file, figures in content["findings"]
        ],
        content["seconds"],
        content["figures"],
        content["band_limits_hz"],
        {name: _unpacked(values) for name, values in content["features"].items()},
        {name: bytes.fromhex(value) for name, value in content["digests"].items()},
        None if mark is None else Fingerprint(mark[0], _unpacked(mark[1]), _unpacked(mark[2])),
        {(code, file): [_picture_of_json(one) for one in pictures] for code, file, pictures in content["pictures"]},
    )


def _picture_as_json(picture: Picture) -> list[Any]:
    curves = [[one.name, _packed(one.places), _packed(one.values), one.marked] for one in picture.curves]
    shown = [picture.mark, picture.logarithmic, picture.least_range]
    return [picture.caption, picture.places, picture.values, curves, *shown]


def _picture_of_json(content: Sequence[Any]) -> Picture:
    caption, places, values, curves, *shown = content
    drawn = [Curve(name, _unpacked(along), _unpacked(up), marked) for name, along, up, marked in curves]
    return Picture(caption, places, values, drawn, *shown)


def _packed(values: np.ndarray) -> list[str]:
    """The type and the bytes of an array (n,): the same values when it is read again."""
    values = np.asarray(values)
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return [little.dtype.str, base64.b64encode(np.ascontiguousarray(little).tobytes()).decode()]


def _unpacked(packed: Sequence[str]) -> np.ndarray:
    kind, content = packed
    if kind not in _KINDS:
        raise ValueError(f"values of a type {kind!r}")
    return np.frombuffer(base64.b64decode(content), np.dtype(kind))
