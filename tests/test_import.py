"""``fxnorm import``: which samples come in as which stem, in which split, and what is said of it.

The fixtures' samples are multiples of 2**-15, so sums of them are exact in float32: what is imported is compared for
equality unless it was resampled or coded with loss.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Layout
from fxnorm.data.importers import archives, kinds, provenance, tables
from fxnorm.data.importers.placement import folder_name
from fxnorm.data.importers.plan import LeftOut, Member, Options, Plan, PlannedSong
from fxnorm.data.importers.sources import Source
from fxnorm.data.importers.write import Imported, write
from fxnorm.errors import AudioError, DatasetError, FxnormError, OutputError
from fxnorm.io import audio, files
from tests import import_multitracks as multitracks
from tests import import_sources as sources
from tests.commands import fxnorm, the_line
from tests.import_sources import everything, recording

SONG = "Artist - Title"


def samples(path: Path) -> np.ndarray:
    """The samples of a file (channels, samples) as they are in it."""
    found, rate = audio.read(path, None)
    assert rate == SAMPLE_RATE
    return found


def songs(root: Path) -> dict[str, Any]:
    """The songs of ``import.json``."""
    found: dict[str, Any] = json.loads((root / "import.json").read_text())["songs"]
    return found


def written_stems(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def planned(*members: Member, name: str = SONG, **changes: Any) -> PlannedSong:
    values: dict[str, Any] = {
        "original": name, "part": "wet", "split": "train", "split_reason": "a test", "mixture": "none",
    }  # fmt: skip
    return PlannedSong(name=name, members=members, **{**values, **changes})


def run(source: Path, root: Path, *members: PlannedSong, kind: str = "folders", **options: Any) -> Imported:
    """Import songs that are planned by hand."""
    source.mkdir(exist_ok=True)
    return write(Plan("A dataset", "CC0-1.0", True, members), kind, source, root, workers=1, **options)


# ---- the kinds


def test_musdb18_hq(tmp_path: Path) -> None:
    source, root = tmp_path / "musdb18hq", tmp_path / "data"
    made = sources.musdb18_hq(source)
    result = fxnorm("import", "musdb18-hq", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "MUSDB18-HQ: 2 in wet/train, 1 in wet/val, 2 in wet/test; 5 written" in result.output
    assert "left out: train/Broken - Song: has no bass.wav" in result.output
    assert "1 of the 14 songs for validation are there" in result.output
    assert "no commercial use" in result.output
    assert f"next: fxnorm check {root}/wet\n" in result.output
    found = songs(root)
    assert set(found) == {
        "wet/train/A Classic Education - NightOwl",
        "wet/train/Leaf - Wicked",
        "wet/val/Animal_rockshow",
        "wet/test/Al James - Schoolboy Facination",
        "wet/test/Guns N' Róses & Co., 99 - Ça va?",
    }
    for key, song in found.items():
        for group, expected in made[song["name"]].items():
            np.testing.assert_array_equal(samples(root / key / f"{group}.wav"), expected)
    assert "14 songs" in found["wet/val/Animal_rockshow"]["split_reason"]
    assert found["wet/train/Leaf - Wicked"]["remarks"] == ["erratum: a guitar is in drums at 2:20 and 3:02"]
    assert [song.name for song in Layout.read(root / "wet").of("val")] == ["Animal_rockshow"]


def test_musdb18(tmp_path: Path) -> None:
    source, root = tmp_path / "musdb18", tmp_path / "data"
    made = sources.musdb18(source)
    result = fxnorm("import", "musdb18", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "ends at 16 kHz" in result.output
    for key, song in songs(root).items():
        for group, expected in made[song["name"]].items():
            found = samples(root / key / f"{group}.wav")
            assert found.shape == expected.shape
            others = {name: np.corrcoef(found.ravel(), one.ravel())[0, 1] for name, one in made[song["name"]].items()}
            assert max(others, key=lambda name: others[name]) == group
            assert others[group] > 0.8  # white noise; what AAC leaves of it, at no delay
        assert {group: members[0]["stream"] for group, members in song["groups"].items() if group != MIXTURE} == {
            "drums": 1, "bass": 2, "other": 3, "vocals": 4,
        }  # fmt: skip
    assert "wet/train/A Classic Education - NightOwl" in songs(root)


def test_dsd100(tmp_path: Path) -> None:
    source, root = tmp_path / "DSD100", tmp_path / "data"
    made = sources.dsd100(source)
    result = fxnorm("import", "dsd100", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "left out: Dev/052 - A - B: has no mixture.wav" in result.output
    found = songs(root)
    assert {key: song["original"] for key, song in found.items()} == {
        "wet/train/ANiMAL - Clinic A": "Dev/051 - ANiMAL - Clinic A",
        "wet/test/Leaf - Wicked": "Test/001 - Leaf - Wicked",
    }
    for key, song in found.items():
        for group, expected in made[song["original"].partition("/")[2]].items():
            np.testing.assert_array_equal(samples(root / key / f"{group}.wav"), expected)


def test_slakh(tmp_path: Path) -> None:
    source, root = tmp_path / "slakh2100_flac_redux", tmp_path / "data"
    tracks = ("train/Track00001", "validation/Track01501", "test/Track01876", "omitted/Track00002")
    made = sources.slakh(source, tracks)
    (source / "train/Track00003").mkdir()
    result = fxnorm("import", "slakh", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "hold no mixing decision" in result.output
    assert "left out: train/Track00003: has no metadata.yaml" in result.output
    assert "CC-BY-4.0 (commercial use allowed)" in result.output
    found = songs(root)
    assert list(found) == ["wet/test/Track01876", "wet/train/Track00001", "wet/val/Track01501"]
    folder = root / "wet/train/Track00001"
    assert written_stems(folder) == ["bass.wav", "drums.wav", "mixture.wav", "other.wav"]
    for name, expected in {
        "bass": made["S01"],
        "drums": made["S02"],
        "other": made["S00"] + made["S03"],
        "mixture": sum(made.values()),
    }.items():
        np.testing.assert_array_equal(samples(folder / f"{name}.wav"), np.repeat(expected, 2, axis=0))
    song = found["wet/train/Track00001"]
    assert [(member["name"], member["label"], member["gain"]) for member in song["groups"]["other"]] == [
        ("S00", "Distortion Guitar", 1.0),
        ("S03", "Bright Acoustic Piano", 1.0),
    ]
    assert song["left_out"] == [{"name": "S04", "reason": "has no audio"}]


def test_babyslakh_is_resampled_and_obeys_the_users_tables(tmp_path: Path) -> None:
    source, root = tmp_path / "babyslakh_16k", tmp_path / "data"
    made = sources.slakh(source, ["Track00001", "Track00020"], "wav", 16_000)
    mapping, split = tmp_path / "mapping.yaml", tmp_path / "split.yaml"
    mapping.write_text("labels: {Piano: skip}\nsongs: {Track00020: {distortion  guitar: drums}}\n")
    split.write_text("test: [Track00020]\n")
    result = fxnorm("import", "slakh", source, root, "--mapping", mapping, "--split", split, "--workers", 1)
    assert result.exit_code == 0, result.output
    expected = soxr.resample(made["S01"][0], 16_000, SAMPLE_RATE, quality="HQ")
    bass = samples(root / "wet/train/Track00001/bass.wav")
    np.testing.assert_allclose(bass, [expected, expected], atol=1e-6)
    found = songs(root)
    assert found["wet/test/Track00020"]["split_reason"] == "the user's file of splits"
    assert [member["name"] for member in found["wet/test/Track00020"]["groups"]["drums"]] == ["S00", "S02"]
    # without the piano the published mix is no sum of the stems
    assert {song["mixture"] for song in found.values()} == {"sum"}
    drums, mixture = (samples(root / f"wet/test/Track00020/{name}.wav") for name in ("drums", "mixture"))
    np.testing.assert_allclose(mixture, drums + bass, atol=1e-6)


@pytest.mark.parametrize("split", ["", "valid"])
def test_folders_of_stems(tmp_path: Path, split: str) -> None:
    source, root = tmp_path / "converted", tmp_path / "data"
    made = sources.stems(0)
    place = source / split
    for stem in ("Vocals", "bass", "drums", "other"):
        sources.write(place / stem / "Déjà vu.wav", made[stem.lower()])
    sources.write(place / "bass/Only bass.flac", made["bass"])
    sources.write(place / "bass/Only bass.wav", made["bass"])
    result = fxnorm("import", "folders", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    expected = "val" if split else "train"
    found = songs(root)
    assert list(found) == [f"wet/{expected}/Déjà vu", f"wet/{expected}/Only bass"]
    for group in (*STEMS, MIXTURE):
        np.testing.assert_array_equal(samples(root / f"wet/{expected}/Déjà vu/{group}.wav"), made[group])
    only = found[f"wet/{expected}/Only bass"]
    assert only["remarks"] == ["has no mixture: the sum of its stems is taken for it"]
    assert [item["reason"] for item in only["left_out"]] == ["Only bass.wav is there too"]
    (dataset,) = json.loads((root / "import.json").read_text())["datasets"]
    assert (dataset["name"], dataset["licence"], dataset["commercial"]) == ("converted", "unknown", None)


def test_folders_of_songs_with_a_mapping(tmp_path: Path) -> None:
    source, root, mapping = tmp_path / "sessions", tmp_path / "data", tmp_path / "mapping.yaml"
    one = [recording(number) for number in range(6)]
    names = ("tracks/01 lead_vox.wav", "tracks/02 bv VOX.wav", "tracks/03_gtr.wav", "drums.wav", "mix.wav", "notes.wav")
    for name, part in zip(names, one, strict=True):
        sources.write(source / "Song A" / name, part)
    sources.write(source / "Song B/03_gtr.wav", one[0])
    (source / "Song B/Mixdown 3.mp3.txt").write_text("no audio")
    sources.write(source / "Song C/unknown.wav", one[0])
    (source / "papers").mkdir()
    mapping.write_text("labels: {'*_vox': vocals, 03 gtr: other, mix: mixture}\nsongs: {song b: {03_gtr: bass}}\n")
    result = fxnorm("import", "folders", source, root, "--mapping", mapping, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "left out: Song C: no mapping has a group for any of its files, such as unknown.wav" in result.output
    folder = root / "wet/train/Song A"
    assert written_stems(folder) == ["drums.wav", "mixture.wav", "other.wav", "vocals.wav"]
    np.testing.assert_array_equal(samples(folder / "vocals.wav"), one[0] + one[1])
    np.testing.assert_array_equal(samples(folder / "mixture.wav"), one[4])
    assert songs(root)["wet/train/Song A"]["left_out"] == [
        {"name": "notes.wav", "reason": "no mapping has a group for it"}
    ]
    assert written_stems(root / "wet/train/Song B") == ["bass.wav", "mixture.wav"]


# ---- samples


def test_a_file_that_is_there_twice_is_not_added_to_itself(tmp_path: Path) -> None:
    source, root = tmp_path / "sessions", tmp_path / "data"
    part = recording(1)
    for name in ("vocals.wav", "Vocals.flac", "old/vocals.wav"):
        sources.write(source / "A" / name, part)
    result = fxnorm("import", "folders", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(samples(root / "wet/train/A/vocals.wav"), part)
    song = songs(root)["wet/train/A"]
    why = "vocals.wav is there too, and no mapping says which is meant"
    assert {item["name"]: item["reason"] for item in song["left_out"]} == {"Vocals.flac": why, "old/vocals.wav": why}
    assert "without Vocals.flac, old/vocals.wav" in song["remarks"]


def test_audio_beside_the_folders_that_are_read_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("train/vocals/A.wav", "train/bass/A.wav", "train/guitar/A.wav", "train/A.wav", "more/B/bass.wav"):
        sources.write(source / name, recording(1, 0.1))
    made = kinds.plan("folders", source, Options())
    assert [song.original for song in made.songs] == ["train/A"]
    assert {item.name: item.reason for item in made.left_out} == {
        "train/guitar": "lies beside the folders of stems and is none of them",
        "train/A.wav": "lies in no song's folder",
        "more": "lies beside the folders of splits and is none of them",
    }


def test_members_are_weighted_padded_and_added_up_beyond_full_scale(tmp_path: Path) -> None:
    one, two, three = recording(1), recording(2, 1.2), recording(3, 0.5, 1)
    paths = [sources.write(tmp_path / f"{name}.wav", part) for name, part in (("1", one), ("2", two), ("3", three))]
    root = tmp_path / "data"
    song = planned(
        Member(paths[0], "1", "other", gain=8.0),
        Member(paths[1], "2", "other", gain=0.25),
        Member(paths[2], "3", "bass"),
        mixture="sum",
    )
    run(tmp_path / "source", root, song)
    other = audio.pad_to(8 * one, two.shape[1]) + np.float32(0.25) * two
    bass = audio.pad_to(np.repeat(three, 2, axis=0), two.shape[1])
    assert np.abs(other).max() > 1
    for name, expected in {"other": other, "bass": bass, "mixture": bass + other}.items():
        np.testing.assert_array_equal(samples(root / f"wet/train/{SONG}/{name}.wav"), expected)
        assert soundfile.info(root / f"wet/train/{SONG}/{name}.wav").subtype == "FLOAT"


def test_halves_of_a_stereo_pair_belong_left_and_right(tmp_path: Path) -> None:
    left, right = recording(1, channels=1), recording(2, channels=1)
    paths = [sources.write(tmp_path / f"OH_{name}.wav", part) for name, part in (("L", left), ("R", right))]
    stereo = sources.write(tmp_path / "kit.wav", recording(3))
    root = tmp_path / "data"
    song = planned(
        Member(paths[0], "OH_L", "drums", side="left"),
        Member(paths[1], "OH_R", "drums", side="right"),
        Member(stereo, "kit_L", "other", side="left"),
    )
    run(tmp_path / "source", root, song)
    np.testing.assert_array_equal(samples(root / f"wet/train/{SONG}/drums.wav"), np.concatenate([left, right]))
    np.testing.assert_array_equal(samples(root / f"wet/train/{SONG}/other.wav"), recording(3))
    assert songs(root)[f"wet/train/{SONG}"]["findings"] == ["kit_L: has two channels already, both are used"]


def broadcast_wav(path: Path, part: np.ndarray, begins: int, rate: int) -> Path:
    """A Broadcast WAV that begins so many samples after midnight."""
    sources.write(path, part, rate)
    content = path.read_bytes()
    position = content.index(b"data")
    chunk = b"bext" + struct.pack("<I", 602) + bytes(338) + struct.pack("<Q", begins) + bytes(256)
    content = content[:position] + chunk + content[position:]
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    return path


@pytest.mark.parametrize(("later", "placed"), [(0.25, True), (30.0, False), (0.0, False)])
def test_time_references_place_recordings_that_lie_beside_each_other(
    tmp_path: Path, later: float, placed: bool
) -> None:
    first, second = recording(1), recording(2, rate=48_000)
    noon = 12 * 3600
    paths = [
        broadcast_wav(tmp_path / "1.wav", first, noon * SAMPLE_RATE, SAMPLE_RATE),
        broadcast_wav(tmp_path / "2.wav", second, round((noon + later) * 48_000), 48_000),
    ]
    root = tmp_path / "data"
    run(tmp_path / "source", root, planned(Member(paths[0], "1", "drums"), Member(paths[1], "2", "bass")))
    start = round(later * SAMPLE_RATE) if placed else 0
    found = samples(root / f"wet/train/{SONG}/bass.wav")
    assert found.shape[1] == start + SAMPLE_RATE
    assert not found[:, :start].any()
    expected = soxr.resample(second.T, 48_000, SAMPLE_RATE, quality="HQ").T
    np.testing.assert_allclose(found[:, start:], expected, atol=1e-6)
    record = songs(root)[f"wet/train/{SONG}"]
    assert record["groups"]["bass"][0].get("start", 0) == start
    said = "begin by the time references" if placed else "begin all at once"
    assert [line for line in record["findings"] if line.startswith(said)] == (record["findings"] if later else [])
    # without one of them no other counts
    sources.write(paths[1], second, 48_000)
    run(tmp_path / "source", root, planned(Member(paths[0], "1", "drums"), Member(paths[1], "2", "bass")))
    assert samples(root / f"wet/train/{SONG}/bass.wav").shape[1] == SAMPLE_RATE
    assert songs(root)[f"wet/train/{SONG}"]["findings"] == []
    # and where others differ, that is said
    third = broadcast_wav(tmp_path / "3.wav", first, (noon + 1) * SAMPLE_RATE, SAMPLE_RATE)
    members = [Member(path, path.name, "drums") for path in (*paths, third)]
    run(tmp_path / "source", root, planned(*members))
    assert [line[:18] for line in songs(root)[f"wet/train/{SONG}"]["findings"]] == ["begin all at once:"]


def test_a_recording_in_an_archive_is_read_like_one_in_a_folder(tmp_path: Path) -> None:
    part = recording(1)
    content = sources.write(tmp_path / "01_Kick.wav", part).read_bytes()
    packed = sources.archive(tmp_path / "source/song.zip", {"song/01_Kick.WAV": content, "__MACOSX/._a.wav": b"\0"})
    assert [entry.name for entry in archives.entries(packed)] == ["song/01_Kick.WAV"]
    member = Member(packed, "01_Kick.WAV", "drums", entry="song/01_Kick.WAV")
    root = tmp_path / "data"
    for count in (1, 0):
        result = run(tmp_path / "source", root, planned(member, part="dry", split="test"))
        assert len(result.written) == count
        np.testing.assert_array_equal(samples(root / f"dry/test/{SONG}/drums.wav"), part)
    (found,) = songs(root)[f"dry/test/{SONG}"]["groups"]["drums"]
    assert (found["file"], found["entry"]) == ("song.zip", "song/01_Kick.WAV")
    assert written_stems(root / f"dry/test/{SONG}") == ["drums.wav"]


def test_errors_name_what_the_user_knows(tmp_path: Path) -> None:
    content = sources.write(tmp_path / "a.wav", recording(1)).read_bytes()
    packed = sources.archive(tmp_path / "a.zip", {"song/a.wav": content[:5_000]})
    with pytest.raises(AudioError, match=rf"^{packed}: song/a.wav: truncated: "):
        run(tmp_path / "source", tmp_path / "data", planned(Member(packed, "a", "bass", entry="song/a.wav")))
    loud = Member(tmp_path / "a.wav", "a", "bass", gain=1e5)
    with pytest.raises(AudioError, match=rf"^{SONG}/bass.wav: a peak of \+88 dBFS, expected at most \+60 dBFS$"):
        run(tmp_path / "source", tmp_path / "data", planned(loud))


# ---- names


NAMES = {
    "Guns N' Roses & Co., 99 - ¿Qué? Ünïcödé": "Guns N' Roses & Co., 99 - ¿Qué? Ünïcödé",
    "AC/DC - Back\0 in": "AC_DC - Back_ in",
    ".hidden": "_.hidden",
    "..": "_..",
    "lost+found": "_lost+found",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_songs_name_is_kept_but_for_what_no_folder_can_have(tmp_path: Path, name: str) -> None:
    path = sources.write(tmp_path / "a.wav", recording(1))
    root = tmp_path / "data"
    run(tmp_path / "source", root, planned(Member(path, "a", "bass"), name=name))
    assert [song.folder.name for song in Layout.read(root / "wet").of("train")] == [NAMES[name]]
    assert songs(root)[f"wet/train/{NAMES[name]}"]["name"] == name


def test_names_in_another_encoding_than_utf_8(tmp_path: Path) -> None:
    source, root, mapping = tmp_path / "sessions", tmp_path / "data", tmp_path / "mapping.yaml"
    sources.write(source / "A/bass.wav", recording(1))
    latin = os.fsdecode(b"caf\xe9")
    shutil.copy(source / "A/bass.wav", source / "A" / f"{latin}.wav")
    result = fxnorm("import", "folders", source, root, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert songs(root)["wet/train/A"]["left_out"] == [
        {"name": "caf\\udce9.wav", "reason": "no mapping has a group for it"}
    ]
    mapping.write_text("labels: {'caf*': drums}\n")
    for count in (1, 0):
        result = fxnorm("import", "folders", source, root, "--mapping", mapping, "--workers", 1)
        assert f"; {count} written" in result.output
    shutil.copytree(source / "A", source / latin)
    said = "expected a song's folder with a name in UTF-8"
    assert said in the_line(fxnorm("import", "folders", source, root))
    result = fxnorm("import", "folders", source, root, "--mapping", mapping, "--on-error", "skip", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert said in result.output
    assert list(songs(root)) == ["wet/train/A"]


def test_long_names_are_cut_and_stay_different() -> None:
    names = [folder_name("é" * 200 + end) for end in "ab"]
    assert len(set(names)) == 2
    assert all(len(os.fsencode(name)) <= 255 for name in names)
    assert folder_name("a: b?. ", refuses_signs=True) == "a_ b_._"


def test_songs_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    parts = [recording(number) for number in range(3)]
    paths = [sources.write(tmp_path / f"{number}.wav", part) for number, part in enumerate(parts)]
    root = tmp_path / "data"
    names = ("Song", "SONG", "Other")
    plan = [
        planned(Member(path, path.name, "bass"), name=name, original=path.name)
        for name, path in zip(names, paths, strict=True)
    ]
    for _ in range(2):
        run(tmp_path / "source", root, *plan)
    found = songs(root)
    assert len({key.casefold() for key in found}) == 3
    for key, song in found.items():
        np.testing.assert_array_equal(samples(root / key / "bass.wav"), parts[int(song["original"][0])])
    assert "wet/train/Other" in found
    # of another dataset
    other = Plan("Another", "CC0-1.0", True, (planned(Member(paths[0], "0", "bass"), name="Other"),))
    for _ in range(2):
        assert list(write(other, "moisesdb", tmp_path / "source", root, workers=1).songs) == [
            "wet/train/Other (Another)"
        ]


# ---- once more


def test_a_second_run_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = tmp_path / "musdb18hq", tmp_path / "data"
    sources.musdb18_hq(source)
    assert fxnorm("import", "musdb18-hq", source, root, "--workers", 1).exit_code == 0
    before = everything(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*.wav")}
    result = fxnorm("import", "musdb18-hq", source, root, "--workers", 1)
    assert "0 written, the others were there" in result.output
    assert everything(root) == before
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.wav")} == times
    # the records of songs may be lost, as in a copy without hidden files
    for record in root.rglob(".import.json"):
        record.unlink()
    assert "0 written, the others were there" in fxnorm("import", "musdb18-hq", source, root, "--workers", 1).output
    assert everything(root) == before
    # from another place, which is named from here
    source.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    result = fxnorm("import", "musdb18-hq", "moved", "data", "--workers", 1)
    assert "0 written, the others were there" in result.output
    assert {song["source"] for song in songs(root).values()} == {os.path.realpath("moved")}
    files = [member["file"] for song in songs(root).values() for member in song["groups"]["bass"]]
    assert all((tmp_path / "moved" / file).is_file() for file in files)


def test_another_mapping_or_split_replaces_songs_and_leaves_no_second_copy(tmp_path: Path) -> None:
    source, root, split = tmp_path / "sessions", tmp_path / "data", tmp_path / "split.yaml"
    parts = {name: recording(number) for number, name in enumerate(("bass", "drums", "gtr"))}
    for song in ("A", "B", "C"):
        for name, part in parts.items():
            sources.write(source / song / f"{name}.wav", part)
    command = ("import", "folders", source, root, "--workers", 1)
    assert fxnorm(*command).exit_code == 0
    untouched = (root / "wet/train/C/drums.wav").stat().st_ino
    split.write_text("val: [A]\n")
    result = fxnorm(*command, "--split", split)
    assert "0 written, the others were there" in result.output
    assert "moved to its split: wet/val/A" in result.output
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("songs: {A: {gtr: other}, B: {'*': skip}}\n")
    split.write_text("test: [A]\n")
    result = fxnorm(*command, "--split", split, "--mapping", mapping)
    assert result.exit_code == 0, result.output
    assert "removed, no longer part of the import: wet/train/B" in result.output
    assert list(songs(root)) == ["wet/test/A", "wet/train/C"]
    assert sorted(path.name for path in root.glob("wet/*/*")) == ["A", "C"]
    np.testing.assert_array_equal(samples(root / "wet/test/A/other.wav"), parts["gtr"])
    assert (root / "wet/train/C/drums.wav").stat().st_ino == untouched
    # as if imported like this at once
    fresh = tmp_path / "fresh"
    fxnorm("import", "folders", source, fresh, "--workers", 1, "--split", split, "--mapping", mapping)
    assert everything(fresh) == everything(root)


def test_songs_that_the_source_has_lost_stay(tmp_path: Path) -> None:
    source, root = tmp_path / "sessions", tmp_path / "data"
    for song in ("A", "B"):
        sources.write(source / song / "bass.wav", recording(1))
    command = ("import", "folders", source, root, "--workers", 1)
    fxnorm(*command)
    shutil.rmtree(source / "A")
    assert "kept, though the source no longer has this song: wet/train/A" in fxnorm(*command).output
    assert list(songs(root)) == ["wet/train/A", "wet/train/B"]


@pytest.mark.parametrize("kind", ["moisesdb", "slakh"])
def test_songs_whose_metadata_are_gone_stay(tmp_path: Path, kind: str) -> None:
    source, root = tmp_path / "source", tmp_path / "data"
    if kind == "slakh":
        sources.slakh(source, ("train/Track00001", "train/Track00002"))
        metadata = source / "train/Track00002/metadata.yaml"
    else:
        multitracks.moisesdb(source, provider=False)
        metadata = source / multitracks.MOISES_INSTRUMENTAL / "data.json"
    command = ("import", kind, source, root, "--workers", 1)
    assert fxnorm(*command).exit_code == 0
    before = everything(root)
    metadata.unlink()
    result = fxnorm(*command)
    assert "kept, though the source no longer has this song: " in result.output
    assert everything(root).keys() == before.keys()


def test_files_of_the_user_are_never_replaced_nor_removed(tmp_path: Path) -> None:
    source, root = tmp_path / "sessions", tmp_path / "data"
    mine = sources.write(root / "wet/train/A/bass.wav", recording(9))
    sources.write(source / "A/bass.wav", recording(1))
    sources.write(source / "B/bass.wav", recording(1))
    command = ("import", "folders", source, root, "--workers", 1)
    before = mine.read_bytes()
    assert "is there already" in the_line(fxnorm(*command, "--on-error", "skip"))
    assert mine.read_bytes() == before
    shutil.rmtree(mine.parent)
    assert fxnorm(*command).exit_code == 0
    note = root / "wet/train/A/note.txt"
    note.write_text("mine")
    sources.write(source / "A/bass.wav", recording(2))
    assert f"{root}/wet/train/A: holds note.txt" in the_line(fxnorm(*command))
    note.unlink()
    sources.write(root / "wet/train/A/bass.wav", recording(3))
    assert f"{root}/wet/train/A/bass.wav: was changed since it was imported" in the_line(fxnorm(*command))
    np.testing.assert_array_equal(samples(root / "wet/train/A/bass.wav"), recording(3))


def test_songs_that_somebody_moved_to_val_are_found_there(tmp_path: Path) -> None:
    source, root = tmp_path / "musdb18hq", tmp_path / "data"
    sources.song(source / "train/A - B", 1)
    sources.song(source / "valid/C - D", 2)
    assert fxnorm("import", "musdb18-hq", source, root, "--workers", 1).exit_code == 0
    assert {key: song["split_reason"] for key, song in songs(root).items()} == {
        "wet/train/A - B": "the published split",
        "wet/val/C - D": "the folder valid",
    }


def test_the_provenance_of_many_songs_is_read_again(tmp_path: Path) -> None:
    long = provenance.DatasetRecord(
        kind="folders", name="A", source="/a", licence="CC0-1.0", commercial=True, remarks=("x" * 2**20,) * 17
    )
    song = {"part": "wet", "split": "train", "split_reason": "", "link": False, "mixture": "none", "groups": {}}
    names = {"kind": "folders", "dataset": "A", "source": "/a", "original": "B", "name": "B"}
    record = provenance.SongRecord.model_validate({**song, **names, "licence": "CC0-1.0", "commercial": True})
    provenance.write(tmp_path, [long], {"wet/train/B": record})
    found = provenance.read(tmp_path)
    assert found is not None
    assert found.songs == {"wet/train/B": record}
    assert [item.songs for item in found.datasets] == [1]


def test_another_source_of_the_same_name_does_not_replace_songs(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in (1, 2):
        sources.write(tmp_path / f"{number}/stems/A/bass.wav", recording(number))
    assert fxnorm("import", "folders", tmp_path / "1/stems", root, "--workers", 1).exit_code == 0
    before = everything(root)
    line = the_line(fxnorm("import", "folders", tmp_path / "2/stems", root, "--workers", 1))
    assert f"was imported from {tmp_path}/1/stems; bass.wav is another recording in {tmp_path}/2/stems" in line
    assert everything(root) == before


# ---- two datasets


def dataset(root: Path, names: dict[str, str], name: str) -> Plan:
    """A dataset with songs by their splits."""
    members = {
        song: Member(sources.write(root / song / "bass.wav", recording(index)), "bass", "bass")
        for index, song in enumerate(names)
    }
    return Plan(name, "CC0-1.0", True, tuple(planned(members[song], name=song, split=names[song]) for song in names))


@pytest.mark.parametrize("first", ["MUSDB18-HQ", "MedleyDB"])
def test_a_song_of_two_datasets_takes_the_split_of_musdb18(tmp_path: Path, first: str) -> None:
    root = tmp_path / "data"
    kinds_of = {"MUSDB18-HQ": "musdb18-hq", "MedleyDB": "medleydb"}
    plans = {
        "MUSDB18-HQ": dataset(tmp_path / "MUSDB18-HQ", {"A Classic Education - NightOwl": "test"}, "MUSDB18-HQ"),
        "MedleyDB": dataset(tmp_path / "MedleyDB", {"AClassicEducation_NightOwl": "train", "B_C": "val"}, "MedleyDB"),
    }
    expected = ["wet/test/A Classic Education - NightOwl", "wet/test/AClassicEducation_NightOwl", "wet/val/B_C"]
    order = sorted(plans, key=lambda name: name != first)
    for name in order:
        write(plans[name], kinds_of[name], tmp_path / name, root, workers=1)
    found = songs(root)
    assert list(found) == expected
    assert found[expected[1]]["split_reason"] == "as in MUSDB18-HQ, which has this song too"
    assert found[expected[1]]["follows"] == "MUSDB18-HQ"
    assert [item["name"] for item in json.loads((root / "import.json").read_text())["datasets"]] == [
        "MedleyDB",
        "MUSDB18-HQ",
    ]
    before = everything(root)
    for name in (*order, *reversed(order)):
        result = write(plans[name], kinds_of[name], tmp_path / name, root, workers=1)
        assert (result.written, result.moved, result.removed) == ((), (), ())
        assert everything(root) == before


def test_of_other_datasets_the_one_imported_first_decides(tmp_path: Path) -> None:
    root = tmp_path / "data"
    one = dataset(tmp_path / "one", {"A B": "val"}, "one")
    two = dataset(tmp_path / "two", {"A_b": "train"}, "two")
    write(one, "folders", tmp_path / "one", root, workers=1)
    write(two, "folders", tmp_path / "two", root, workers=1)
    assert list(songs(root)) == ["wet/val/A B", "wet/val/A_b"]
    # its songs follow where it goes
    one = dataset(tmp_path / "one", {"A B": "test"}, "one")
    assert write(one, "folders", tmp_path / "one", root, workers=1).moved == ("wet/test/A B", "wet/test/A_b")
    before = everything(root)
    write(two, "folders", tmp_path / "two", root, workers=1)
    assert everything(root) == before


def test_raw_songs_whose_finished_form_is_trained_on_are_named(tmp_path: Path) -> None:
    path = sources.write(tmp_path / "a.wav", recording(1))
    member = Member(path, "a", "bass")
    members = [
        planned(member, name=name, part=part, split=split, original=f"{part} {name}")
        for name, part, split in (
            ("A", "wet", "train"),
            ("a", "dry", "test"),
            ("B", "wet", "test"),
            ("B", "dry", "test"),
        )
    ]
    assert run(tmp_path / "source", tmp_path / "data", *members).trained_on == ("dry/test/a",)


# ---- links


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_link_lets_stems_be_the_sources_files_where_no_sample_changes(tmp_path: Path, suffix: str) -> None:
    source, root = tmp_path / "source", tmp_path / "data"
    parts = {
        "vocals": (recording(1), SAMPLE_RATE),
        "bass": (recording(2, channels=1), SAMPLE_RATE),
        "drums": (recording(3, rate=48_000), 48_000),
        "other": (recording(4, 0.5), SAMPLE_RATE),
        "mixture": (recording(5), SAMPLE_RATE),
    }
    for name, (part, rate) in parts.items():
        sources.write(source / f"A/{name}.{suffix}", part, rate)
    command = ("import", "folders", source, root, "--link", "--workers", 1)
    before = everything(source)
    for _ in range(2):
        assert fxnorm(*command).exit_code == 0
    folder = root / "wet/train/A"
    linked = {path.name for path in folder.iterdir() if path.stat().st_nlink > 1}
    assert linked == {f"{name}.{suffix}" for name in ("vocals", "bass", "mixture")}
    files = songs(root)["wet/train/A"]["files"]
    assert {name for name, file in files.items() if file["link"] == "hard"} == linked
    np.testing.assert_array_equal(samples(folder / "other.wav"), audio.pad_to(parts["other"][0], SAMPLE_RATE))
    assert everything(source) == before


def test_without_hard_links_the_links_are_symbolic(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system alone")
    source = other / f"fxnorm-{os.getpid()}"
    try:
        sources.write(source / "A/bass.wav", recording(1))
        command = ("import", "folders", source, tmp_path / "data", "--link", "--workers", 1)
        for _ in range(2):
            assert fxnorm(*command).exit_code == 0
        path = tmp_path / "data/wet/train/A/bass.wav"
        assert os.readlink(path) == os.path.realpath(source / "A/bass.wav")
        assert songs(tmp_path / "data")["wet/train/A"]["files"]["bass.wav"]["link"] == "symbolic"
        sources.write(source / "A/bass.wav", recording(2))
        assert "1 written" in fxnorm(*command).output
    finally:
        shutil.rmtree(source)


# ---- interruptions


def _import(source: Path, root: Path) -> None:
    write(kinds.plan("folders", source, Options()), "folders", source, root, workers=1)


def _import_and_be_killed(source: Path, root: Path, songs: int) -> None:
    """After so many songs, in the middle of another one."""
    written: list[Path] = []

    def write_json(path: Path, content: Any) -> None:
        if len(written) == songs:
            os.kill(os.getpid(), signal.SIGKILL)
        files.write_json(path, content)
        written.append(path)

    provenance.write_json = write_json
    _import(source, root)


def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    source, root = tmp_path / "sessions", tmp_path / "data"
    for number in range(12):
        sources.write(source / f"Song {number:03}/bass.wav", recording(number, 0.1))
    process = multiprocessing.get_context("fork").Process(target=_import_and_be_killed, args=(source, root, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries: none holds a lock here
        process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (root / "import.json").exists()
    finished = {path.parent: path.stat().st_ino for path in root.glob("wet/train/[!.]*/.import.json")}
    assert len(finished) == 5
    _import(source, root)
    assert {folder: (folder / ".import.json").stat().st_ino for folder in finished} == finished
    _import(source, tmp_path / "at once")
    assert everything(root) == everything(tmp_path / "at once")


@contextlib.contextmanager
def no_file_beyond(most: int) -> Iterator[None]:
    """A block in which no file can grow beyond some bytes: the system refuses in the middle, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("packed", [False, True])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path, packed: bool) -> None:
    root = tmp_path / "data"
    path = sources.write(tmp_path / "a.wav", recording(1))
    member = Member(path, "a", "bass")
    if packed:
        member = Member(sources.archive(tmp_path / "a.zip", {"a.wav": path.read_bytes()}), "a", "bass", entry="a.wav")
    small = sources.write(tmp_path / "b.wav", recording(2, 0.05))
    with no_file_beyond(100_000), pytest.raises(OutputError) as caught:
        run(
            tmp_path / "source",
            root,
            planned(Member(small, "b", "bass"), name="small"),
            planned(member),
            skip_errors=True,
        )
    where = f"{root}/wet/train/{SONG}" + ("" if packed else "/bass.wav")
    assert str(caught.value) == f"{where}: cannot be written (File too large)"
    assert [path.name for path in (root / "wet/train").iterdir()] == ["small"]
    assert not (root / "import.json").exists()


# ---- sources that cannot be used


def a_song(root: Path) -> Path:
    sources.write(root / "train/A/bass.wav", recording(1))
    return root


@pytest.mark.parametrize("kind", ["musdb18", "musdb18-hq", "dsd100", "slakh", "folders"])
@pytest.mark.parametrize("content", ["nothing", "empty", "file", "another"])
def test_a_source_that_is_none_of_the_kind_is_one_line(tmp_path: Path, kind: str, content: str) -> None:
    source, root = tmp_path / "source", tmp_path / "data"
    if content == "file":
        source.write_text("a file")
    elif content != "nothing":
        source.mkdir()
    if content == "another":
        sources.write(source / "pictures/sound.wav", recording(1, 0.1))
    result = fxnorm("import", kind, source, root)
    assert str(source) in the_line(result)
    assert not root.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stems: [", "not readable as YAML (line 1: "),
        ("- a\n- b\n", "input should be a valid dictionary"),
        ("audio_dir: stems\n", "stems: field required"),
        ("stems: {S00: {program_num: many}}\n", "stems.S00.program_num: input should be a valid integer"),
        ("stems: {S00: {}}\naudio_dir: ../../../other\n", "../../other/S00.flac leaves the source"),
        ("stems: {../../../Track00001/stems/S00: {}}\n", "leaves the source"),
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
            f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
            for before, name in zip("abcdefg", "bcdefgh", strict=True)
        ), "not readable as YAML (expected at most 1000000 values"),
        ("\xff", "not readable as YAML"),
    ],
)  # fmt: skip
def test_metadata_that_cannot_be_used_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    source, root = tmp_path / "babyslakh_16k", tmp_path / "data"
    sources.slakh(source, ["Track00001"], "wav", 16_000)
    path = source / "Track00002/metadata.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    line = the_line(fxnorm("import", "slakh", source, root))
    assert line.startswith(f"fxnorm: {path}: ")
    assert said in line
    assert not root.exists()
    result = fxnorm("import", "slakh", source, root, "--on-error", "skip", "--workers", 1)
    assert result.exit_code == 0
    assert f"failed: Track00002: {path}: " in result.output
    (found,) = json.loads((root / "import.json").read_text())["datasets"]
    assert [item["name"] for item in found["failed"]] == ["Track00002"]
    # a song that was imported before stays
    path.write_text((source / "Track00001/metadata.yaml").read_text())
    shutil.copytree(source / "Track00001/stems", source / "Track00002/stems")
    assert fxnorm("import", "slakh", source, root, "--workers", 1).exit_code == 0
    path.write_text(text, encoding="latin-1")
    assert fxnorm("import", "slakh", source, root, "--on-error", "skip", "--workers", 1).exit_code == 0
    assert list(songs(root)) == ["wet/train/Track00001", "wet/train/Track00002"]


def test_a_song_that_cannot_be_read_stops_the_import_or_is_left_out(tmp_path: Path) -> None:
    source, root = tmp_path / "musdb18hq", tmp_path / "data"
    sources.musdb18_hq(source)
    broken = source / "train/Leaf - Wicked/drums.wav"
    broken.write_bytes(broken.read_bytes()[:9_999])
    command = ("import", "musdb18-hq", source, root, "--workers", 1)
    assert the_line(fxnorm(*command)).startswith(f"fxnorm: {broken}: ")
    result = fxnorm(*command, "--on-error", "skip")
    assert result.exit_code == 0, result.output
    assert f"failed: train/Leaf - Wicked: {broken}: " in result.output
    assert len(songs(root)) == 4
    assert sorted(path.name for path in (root / "wet/train").iterdir()) == ["A Classic Education - NightOwl"]
    # where none is left there is nothing to go on with
    shutil.rmtree(source / "test")
    for path in source.rglob("*.wav"):
        path.write_bytes(b"RIFF")
    line = the_line(fxnorm("import", "musdb18-hq", source, tmp_path / "new", "--on-error", "skip", "--workers", 1))
    assert "no song could be imported; the first: " in line


def test_links_that_leave_the_source_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    sources.song(source / "test/A - B", 1)
    outside = sources.song(tmp_path / "outside", 2)
    assert outside
    (source / "train").mkdir()
    (source / "train/C - D").symlink_to(tmp_path / "outside")
    line = the_line(fxnorm("import", "musdb18-hq", source, tmp_path / "data"))
    assert f"{source}/train/C - D: leads to {tmp_path}/outside, which leaves the source {source}" in line
    (source / "train/C - D").unlink()
    (source / "train/E - F").symlink_to("../test/A - B")  # stays within
    (tmp_path / "link").symlink_to(source)
    result = fxnorm("import", "musdb18-hq", tmp_path / "link", tmp_path / "data", "--workers", 1)
    assert result.exit_code == 0, result.output


def test_names_in_metadata_stay_within_the_source(tmp_path: Path) -> None:
    source = Source.open(a_song(tmp_path / "source"))
    named_in = tmp_path / "source/train/A/metadata.yaml"
    folder = named_in.parent
    assert source.file_in(folder, "bass.wav", named_in) == folder / "bass.wav"
    assert source.file_in(folder, "../A/bass.wav", named_in) is not None
    assert source.file_in(folder, "drums.wav", named_in) is None
    for name in ("../../../etc/passwd", "/etc/passwd", "../../../source2/a.wav"):
        with pytest.raises(DatasetError, match=rf"^{named_in}: \S+ leaves the source {tmp_path}/source$"):
            source.file_in(folder, name, named_in)
    for name in ("", "a\0b"):
        with pytest.raises(DatasetError, match=rf"^{named_in}: expected the name of a file"):
            source.file_in(folder, name, named_in)


def escaping(path: Path, name: str) -> Path:
    return sources.archive(path, {name: b"x"})


def bomb(path: Path) -> Path:
    return changed(path, struct.pack("<I", 1_000), struct.pack("<I", 2**31))


def doubled(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        file.writestr("a.wav", b"1")
        file.writestr("a.wav", b"2")
    return path


def changed(path: Path, old: bytes, new: bytes) -> Path:
    """An archive of one small file whose headers say something else."""
    sources.archive(path, {"a.wav": b"x" * 1_000})
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def encrypted(path: Path) -> Path:
    return changed(path, b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")


def link(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("a.wav")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    return path


def no_archive(path: Path) -> Path:
    path.write_bytes(b"PK\3\4 and no more")
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: escaping(path, "../a.wav"), "../a.wav leaves the archive"),
        (lambda path: escaping(path, "/etc/a.wav"), "/etc/a.wav leaves the archive"),
        (lambda path: escaping(path, "a/..\\..\\b.wav"), "leaves the archive"),
        (lambda path: escaping(path, "C:/a.wav"), "C:/a.wav leaves the archive"),
        (bomb, "2147483648 bytes when unpacked, expected at most "),
        (doubled, "a.wav is there twice"),
        (encrypted, "a.wav is encrypted"),
        (link, "a.wav is a link"),
        (no_archive, "not readable as a zip archive"),
        (lambda path: path, "cannot be read (No such file or directory)"),
    ],
)
def test_archives_that_mean_no_good_are_one_line(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    path = make(tmp_path / "song.zip")
    with pytest.raises(DatasetError) as caught:
        archives.entries(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_archive_that_holds_more_than_it_announces_is_refused(tmp_path: Path) -> None:
    announced = struct.pack("<I", 1_000), struct.pack("<I", 10)
    path = changed(tmp_path / "song.zip", *announced)
    with pytest.raises(DatasetError, match=rf"^{path}: a.wav cannot be unpacked \("):
        archives.extract(path, "a.wav", tmp_path / "a.wav")
    assert (tmp_path / "a.wav").stat().st_size <= 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels: {kick: drum}\n", "labels: kick: expected one of vocals, bass, drums, other, mixture, skip, found "),
        ("songs: {A: {kick: 1}}\n", "songs: A: kick: expected one of vocals, "),
        ("labels: [kick]\n", "labels: expected keys with values, found ['kick']"),
        ("kick: drums\n", "kick: expected labels or songs"),
        ("drums\n", "expected keys with values, found 'drums'"),
        ("{", "not readable as YAML (line 1: "),
    ],
)  # fmt: skip
def test_a_mapping_that_cannot_be_used_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    source = a_song(tmp_path / "source")
    line = the_line(fxnorm("import", "folders", source, tmp_path / "data", "--mapping", path))
    assert line.startswith(f"fxnorm: {path}: {said}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("valid: [A]\n", "valid: expected a split, one of train, val, test"),
        ("val: A\n", "val: expected a list of songs, found 'A'"),
        ("val: [A B]\ntest: [a-b]\n", "a-b: in val and in test"),
        ("[A]\n", "expected keys with values, found ['A']"),
    ],
)
def test_a_file_of_splits_that_cannot_be_used_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "split.yaml"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        tables.read_splits(path)
    assert str(caught.value) == f"{path}: {said}"


def test_a_table_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    source = a_song(tmp_path / "source")
    line = the_line(fxnorm("import", "folders", source, tmp_path / "data", "--mapping", "official"))
    assert line == "fxnorm: --mapping official: no such file, and no built-in table of folders; expected a file"
    line = the_line(fxnorm("import", "moisesdb", source, tmp_path / "data", "--mapping", "offical"))
    assert line.endswith("no built-in table of moisesdb; expected a file or official")


def test_options_that_do_not_concern_a_kind_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "musdb18hq"
    sources.musdb18_hq(source)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("labels: {kick: drums}\n")
    command = ("import", "musdb18-hq", source, tmp_path / "data")
    for options in (("--mapping", mapping), ("--metadata", source), ("--exclude-bleed",), ("--mapping", "official")):
        line = the_line(fxnorm(*command, *options))
        assert line == f"fxnorm: {options[0]}: does not concern musdb18-hq, which has --split"


def test_songs_that_the_users_files_name_and_the_source_lacks_are_told(tmp_path: Path) -> None:
    source, root = a_song(tmp_path / "source"), tmp_path / "data"
    split, mapping = tmp_path / "split.yaml", tmp_path / "mapping.yaml"
    split.write_text("val: [a, Bee]\n")
    mapping.write_text("songs: {Sea: {x: skip}}\n")
    result = fxnorm("import", "folders", source, root, "--split", split, "--mapping", mapping, "--workers", 1)
    assert list(songs(root)) == ["wet/val/A"]
    assert "note: the file of splits names songs that are not imported: Bee\n" in result.output
    assert "note: the mapping names songs that are not imported: Sea\n" in result.output


def test_a_record_names_no_file_outside_of_its_song(tmp_path: Path) -> None:
    source, root, mapping = tmp_path / "sessions", tmp_path / "data", tmp_path / "mapping.yaml"
    for song in ("A", "B"):
        sources.write(source / song / "bass.wav", recording(1))
    assert fxnorm("import", "folders", source, root, "--workers", 1).exit_code == 0
    path, outside = root / "wet/train/A/.import.json", tmp_path / "mine.txt"
    outside.write_text("mine")
    record = json.loads(path.read_text())
    record["files"]["../../../../mine.txt"] = {"sha256": "0" * 64, "link": "hard"}
    path.write_text(json.dumps(record))
    mapping.write_text("songs: {A: {'*': skip}}\n")
    line = the_line(fxnorm("import", "folders", source, root, "--mapping", mapping))
    assert line.startswith(f"fxnorm: {path}: ")
    assert outside.read_text() == "mine"


def test_provenance_that_was_changed_by_hand_is_one_line(tmp_path: Path) -> None:
    source, root = a_song(tmp_path / "source"), tmp_path / "data"
    assert fxnorm("import", "folders", source, root, "--workers", 1).exit_code == 0
    assert provenance.read(root) is not None
    (root / "import.json").write_text('{"songs": []}')
    line = the_line(fxnorm("import", "folders", source, root, "--workers", 1))
    assert line == f"fxnorm: {root}/import.json: songs: input should be a valid dictionary, found []"


@pytest.mark.parametrize(
    ("member", "error"),
    [
        (lambda root: Member(root / "absent.wav", "absent", "bass"), AudioError),
        (lambda root: Member(sources.write(root / "a.wav", recording(1)), "a", "mixture"), DatasetError),
    ],
)
def test_a_song_without_its_recordings_or_stems_is_an_error(
    tmp_path: Path, member: Callable[[Path], Member], error: type[FxnormError]
) -> None:
    with pytest.raises(error):
        run(tmp_path / "source", tmp_path / "data", planned(member(tmp_path)))
    assert not list((tmp_path / "data").rglob("*.wav"))


def test_a_plan_without_songs_says_why(tmp_path: Path) -> None:
    plan = Plan("A dataset", "CC0-1.0", True, (), left_out=(LeftOut("A", "has no audio"),))
    with pytest.raises(DatasetError, match=r"holds no song that can be imported; left out: A \(has no audio\)$"):
        write(plan, "folders", tmp_path, tmp_path / "data")


def test_every_kind_has_its_module() -> None:
    for kind in ("musdb18", "musdb18-hq", "dsd100", "slakh", "folders"):
        with pytest.raises(DatasetError):
            kinds.plan(kind, Path("/nowhere"), Options())
