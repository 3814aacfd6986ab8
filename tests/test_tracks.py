"""The table of a session's tracks: what is proposed, what is heard, and what an edited one may say."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from scipy import signal

from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import DatasetError, OutputError
from fxnorm.io import audio
from fxnorm.sessions import heard, table
from fxnorm.sessions.proposal import propose
from fxnorm.sessions.recordings import in_file
from fxnorm.sessions.session import Folder, open_session, proposed
from fxnorm.sessions.table import Table, Track
from fxnorm.statistics import DatasetStatistics, measure_stem
from tests.conftest import noise

NAMES = ("01_Kick.wav", "02_OH_L.wav", "03_OH_R.wav", "04_Bass.wav", "05_Gtr.wav", "06_LeadVox.wav", "07_Zz.wav")


def session(folder: Path, *names: str, channels: int = 1) -> Path:
    """A folder of tracks of half a second, all different."""
    for seed, name in enumerate(names):
        audio.write(folder / name, noise(0.5, 0.2, seed=seed, channels=channels))
    return folder


def rows(folder: Path, statistics: DatasetStatistics | None = None) -> dict[str, Track]:
    return {track.file: track for track in proposed(Folder.open(folder), statistics).table.tracks}


def written(folder: Path, content: Any) -> Path:
    path = folder / "tracks.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


# ---- what is proposed


def test_every_file_of_a_session_is_in_its_table_guesses_first(tmp_path: Path) -> None:
    folder = session(tmp_path / "song", *NAMES, "08_Click.wav", "09_LeadVox_Alt.wav")
    main.main(["tracks", str(folder), "--output", str(folder / "tracks.yaml")], standalone_mode=False)
    content = yaml.safe_load((folder / "tracks.yaml").read_text())
    found = {row["file"]: row for row in content["tracks"]}
    assert set(found) == {*NAMES, "08_Click.wav", "09_LeadVox_Alt.wav"}
    assert [row["by"] for row in content["tracks"]][:2] == ["guess", "guess"]
    assert [row["file"] for row in content["tracks"] if not row["use"]] == ["08_Click.wav", "09_LeadVox_Alt.wav"]
    assert found["09_LeadVox_Alt.wav"]["why"] == "another version of 06_LeadVox.wav"
    assert (found["02_OH_L.wav"]["pair"], found["02_OH_L.wav"]["side"]) == ("03_OH_R.wav", "left")
    assert (found["07_Zz.wav"]["group"], found["07_Zz.wav"]["by"]) == ("other", "guess")
    assert (content["mixture"], content["balance"]) == (None, "loudness")


def test_the_same_session_gives_the_same_bytes_and_is_read_back(tmp_path: Path) -> None:
    folder = session(tmp_path / "song", *NAMES)
    texts = [table.text(proposed(Folder.open(folder)).table) for _ in range(2)]
    assert texts[0] == texts[1]
    path = written(folder, texts[0])
    assert table.text(table.read(path)) == texts[0]
    assert open_session(path).table == open_session(folder).table


def test_folders_of_tracks_mixes_and_stems_are_told_apart(tmp_path: Path) -> None:
    session(tmp_path / "tracks", "Kick.wav", "Drums/Audio 1.wav")
    session(tmp_path / "stems", "Drums.wav")
    session(tmp_path / "mixes", "Song.wav")
    (tmp_path / "notes.txt").write_text("by ear")
    folder = Folder.open(tmp_path)
    proposal = proposed(folder)
    assert proposal.table.mixture == "mixes/Song.wav"
    found = {track.file: track for track in proposal.table.tracks}
    assert [file for file, track in found.items() if track.use] == ["tracks/Drums/Audio 1.wav", "tracks/Kick.wav"]
    assert found["tracks/Drums/Audio 1.wav"].group == "drums"
    assert found["stems/Drums.wav"].why == "lies in a folder of stems, beside their tracks"
    (warning,) = folder.warnings()
    assert "notes.txt" in warning


def test_a_table_is_overwritten_unless_it_was_edited(tmp_path: Path) -> None:
    folder = session(tmp_path / "song", "Kick.wav", "Bass.wav")
    path = folder / "tracks.yaml"
    command = ["tracks", str(folder), "--output", str(path)]
    main.main(command, standalone_mode=False)
    first = path.read_bytes()
    main.main(command, standalone_mode=False)
    path.write_bytes(first.replace(b"group: bass", b"group: drums"))
    with pytest.raises(OutputError, match="was edited, or is no table of tracks; --force overwrites it"):
        table.refuse_edited(path)
    with pytest.raises(SystemExit) as ended:
        main.main(command, prog_name="fxnorm")
    assert ended.value.code == 1
    main.main([*command, "--force"], standalone_mode=False)
    assert path.read_bytes() == first


def test_a_table_elsewhere_names_the_folder_of_its_session(tmp_path: Path) -> None:
    folder = session(tmp_path / "a/song", "Kick.wav")
    path = tmp_path / "b.yaml"
    main.main(["tracks", str(folder), "--output", str(path)], standalone_mode=False)
    assert table.read(path).folder == "a/song"
    assert open_session(path).recordings["Kick.wav"].read().shape == (1, SAMPLE_RATE // 2)


def test_no_table_takes_the_place_of_a_track(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = session(tmp_path / "song", "Kick.wav")
    with pytest.raises(SystemExit):
        main.main(["tracks", str(folder), "--output", str(folder / "Kick.wav"), "--force"], prog_name="fxnorm")
    assert "is an input of this command" in capfd.readouterr().err


# ---- what is heard


def test_silence_is_set_aside(tmp_path: Path) -> None:
    folder = session(tmp_path, "Kick.wav")
    audio.write(folder / "Snare.wav", 0.001 * noise(0.5))
    assert rows(folder)["Snare.wav"].why == "silent: no sample passes -50 dBFS"
    assert not rows(folder)["Snare.wav"].use


def test_a_copy_at_another_level_format_and_rate_is_set_aside(tmp_path: Path) -> None:
    folder = session(tmp_path, "Gtr 2.wav", channels=2)
    samples = of_group("other", 1.0)
    audio.write(folder / "Gtr.wav", samples)
    audio.write(folder / "Keys.flac", -0.3 * samples)
    soundfile.write(folder / "Synth.wav", audio.resample(samples, SAMPLE_RATE, 96_000).T, 96_000, subtype="PCM_16")
    found = rows(folder)
    assert {name for name, track in found.items() if not track.use} == {"Keys.flac", "Synth.wav"}
    assert found["Keys.flac"].why == "the same recording as Gtr.wav"


def test_a_copy_is_no_second_file_for_a_side(tmp_path: Path) -> None:
    folder = session(tmp_path, "OH_L.wav", "OH_R.wav")
    audio.write(folder / "OH_L.flac", audio.read(folder / "OH_L.wav")[0])
    proposal = proposed(Folder.open(folder))
    assert not proposal.problems
    pairs = {track.file: track.pair for track in proposal.table.used}
    assert pairs == {"OH_L.flac": "OH_R.wav", "OH_R.wav": "OH_L.flac"}


def test_microphones_of_one_source_are_no_copies(tmp_path: Path) -> None:
    source = of_group("bass", 1.0)
    audio.write(tmp_path / "BassDI.wav", source)
    audio.write(tmp_path / "BassAmp.wav", np.tanh(4 * np.roll(source, 40)))  # 30 cm before the loudspeaker
    assert all(track.use for track in rows(tmp_path).values())


@pytest.mark.parametrize(("factor", "said"), [(1.0, "the same recording on both sides"), (-1.0, "cancel each other")])
def test_what_is_wrong_with_a_pair_is_remarked_on(tmp_path: Path, factor: float, said: str) -> None:
    session(tmp_path, "OH_L.wav")
    audio.write(tmp_path / "OH_R.wav", factor * audio.read(tmp_path / "OH_L.wav")[0])
    found = rows(tmp_path)
    assert all(track.use and said in track.why for track in found.values())
    assert found["OH_L.wav"].pair == "OH_R.wav"


def test_correlations_of_sketches_are_those_of_the_samples() -> None:
    first, second = noise(2.0, seed=1), noise(2.0, seed=2)
    tracks = [first, second, 0.8 * first + 0.3 * second, -first]
    sketches = [heard.listen(track, {}) for track in tracks]
    exact = np.corrcoef([track.mean(axis=0) for track in tracks])
    for number, one in enumerate(sketches):
        for other_number, other in enumerate(sketches):
            assert heard.correlation(one, other) == pytest.approx(exact[number, other_number], abs=0.1)
    assert heard.correlation(sketches[0], sketches[3]) == pytest.approx(-1)


def of_group(group: str, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Noise with the spectrum of a group: low for bass, high for drums, between for others."""
    kind, edges = {
        "bass": ("lowpass", (150.0,)),
        "drums": ("highpass", (6_000.0,)),
        "vocals": ("bandpass", (1_500.0, 3_000.0)),
        "other": ("bandpass", (300.0, 700.0)),
    }[group]
    white = 0.2 * np.random.default_rng(seed).standard_normal((1, round(seconds * SAMPLE_RATE)))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * np.arange(white.shape[1]) / SAMPLE_RATE)
    sections = signal.butter(2, edges if len(edges) > 1 else edges[0], kind, fs=SAMPLE_RATE, output="sos")
    return np.asarray(signal.sosfilt(sections, white * swell), np.float32)


@pytest.fixture(scope="module")
def statistics() -> DatasetStatistics:
    found = DatasetStatistics()
    for group in STEMS:
        found.add(group, measure_stem(of_group(group), SAMPLE_RATE, group))
    return found


def test_the_ear_decides_where_no_word_does(tmp_path: Path, statistics: DatasetStatistics) -> None:
    audio.write(tmp_path / "Audio 1.wav", of_group("bass", seed=1))
    audio.write(tmp_path / "Audio 2.wav", of_group("drums", seed=2))
    found = rows(tmp_path, statistics)
    assert [(track.group, track.by) for track in found.values()] == [("bass", "heard"), ("drums", "heard")]
    assert [track.by for track in rows(tmp_path).values()] == ["guess", "guess"]


def test_a_word_decides_before_the_ear_which_is_quoted(tmp_path: Path, statistics: DatasetStatistics) -> None:
    audio.write(tmp_path / "Vox.wav", of_group("bass", seed=1))
    (track,) = rows(tmp_path, statistics).values()
    assert (track.group, track.by, track.use) == ("vocals", "word", True)
    assert track.why == "sounds like bass rather than vocals"


# ---- what is wrong with a folder


def broken(folder: Path, name: str) -> None:
    if name == "empty":
        (folder / "Snare.wav").write_bytes(b"")
    elif name == "surround":
        soundfile.write(folder / "Snare.wav", np.zeros((100, 6)), SAMPLE_RATE)
    else:
        audio.write(folder / "OHL.wav", noise(0.5, seed=8, channels=1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "Snare.wav: the file is empty"),
        ("surround", "Snare.wav: expected 1 or 2 channels, found 6"),
        ("side", "OHL.wav, OH_L.wav, OH_R.wav: more files for one side of a stereo pair than for the other"),
    ],
)
def test_what_is_left_to_decide_is_told_and_can_be_decided_in_the_table(
    tmp_path: Path, name: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = session(tmp_path / "song", "Kick.wav", "OH_L.wav", "OH_R.wav")
    broken(folder, name)
    with pytest.raises(DatasetError) as refused:
        open_session(folder)
    assert said in str(refused.value)
    path = folder / "tracks.yaml"
    with pytest.raises(SystemExit) as ended:
        main.main(["tracks", str(folder), "--output", str(path)], prog_name="fxnorm")
    assert ended.value.code == 1
    assert said in capfd.readouterr().err
    content = yaml.safe_load(path.read_text())
    for row in content["tracks"]:
        row["use"] = row["file"] in ("Kick.wav", "OH_L.wav", "OH_R.wav")
        row["pair"] = {"OH_L.wav": "OH_R.wav"}.get(row["file"])
    used = open_session(written(folder, content)).table.used
    assert {track.file: track.side for track in used} == {"Kick.wav": None, "OH_L.wav": "left", "OH_R.wav": "right"}


def test_a_folder_with_nothing_usable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected audio files, found nothing"):
        open_session(tmp_path)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DatasetError, match=r"expected audio files, found notes\.txt"):
        open_session(tmp_path)
    session(tmp_path, "Click.wav")
    with pytest.raises(DatasetError, match=r"nothing usable: Click\.wav: a click track"):
        open_session(tmp_path)
    with pytest.raises(DatasetError, match="expected a folder of tracks, or a table of them, found nothing"):
        open_session(tmp_path / "none")


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = session(tmp_path / "song", "Kick.wav")
    session(tmp_path, "Snare.wav")
    (folder / "Snare.wav").symlink_to(tmp_path / "Snare.wav")
    with pytest.raises(DatasetError, match=r"Snare\.wav is a link that leaves the folder"):
        open_session(folder)


def test_a_session_of_too_many_tracks_is_refused(tmp_path: Path) -> None:
    recording = in_file(session(tmp_path, "Kick.wav") / "Kick.wav")
    with pytest.raises(DatasetError, match="expected 1 to 1000 tracks, found 1001"):
        propose({f"{number}.wav": recording for number in range(1_001)})


# ---- what an edited table may say

KICK = {"file": "Kick.wav", "group": "drums"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"tracks": [KICK | {"pan": 1}]}, "Kick.wav: pan: unknown key"),
        ({"tracks": [KICK], "gain": 1}, "gain: unknown key"),
        ({"tracks": [KICK | {"group": "guitars"}]}, "Kick.wav: group: input should be 'vocals', 'bass', 'drums' or"),
        ({"tracks": [{"file": "Kick.wav"}]}, "Kick.wav: group: field required"),
        ({"tracks": [{"group": "drums"}]}, "track 1: file: field required"),
        ({"tracks": [KICK | {"use": "maybe"}]}, "Kick.wav: use: input should be a valid boolean"),
        ({"tracks": [KICK | {"gain_db": "loud"}]}, "Kick.wav: gain_db: input should be a valid number"),
        ({"tracks": [KICK | {"gain_db": 61}]}, "Kick.wav: gain_db: input should be less than or equal to 60"),
        ("tracks:\n- {file: Kick.wav, group: drums, gain_db: .nan}", "Kick.wav: gain_db: input should be"),
        ({"balance": "equal", "tracks": [KICK]}, "balance: input should be 'loudness' or 'as_is'"),
        ({"tracks": []}, "tracks: "),
        ({"tracks": [KICK, KICK]}, "Kick.wav: file: is named twice"),
        ({"tracks": [{"file": "../Kick.wav", "group": "drums"}]}, "../Kick.wav: leaves the folder"),
        ({"tracks": [{"file": "/Kick.wav", "group": "drums"}]}, "/Kick.wav: leaves the folder"),
        ({"tracks": [KICK], "mixture": "../mix.wav"}, "../mix.wav: leaves the folder"),
        ({"tracks": [KICK], "mixture": "mix.wav"}, "mix.wav: no such file"),
        ({"tracks": [KICK], "folder": "nowhere"}, "folder: expected the session's, found no folder nowhere"),
        ({"tracks": [{"file": "Snare.wav", "group": "drums"}]}, "Snare.wav: no such file"),
        ({"tracks": [KICK | {"pair": "Snare.wav"}]}, "Kick.wav: pair: Snare.wav is not in the table"),
        ({"tracks": [KICK | {"pair": "Kick.wav"}]}, "Kick.wav: pair: is the file itself"),
        ({"tracks": [KICK | {"use": False, "why": "no"}]}, "nothing usable: Kick.wav: no"),
        ("tracks: [", "not readable as YAML (line"),
        ("- 1", "input should be"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]", "expected at most"),
        ("tracks: !!python/object/apply:os.system ['true']", "not readable as YAML"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_file_and_key(tmp_path: Path, content: Any, said: str) -> None:
    session(tmp_path, "Kick.wav")
    path = written(tmp_path, content)
    with pytest.raises(DatasetError) as refused:
        open_session(path)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert said in line


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ({"A L.wav": "B L.wav"}, "A L.wav: side: expected one left and one right, of it and B L.wav"),
        ({"C.wav": "D.wav"}, "C.wav: side: expected one left and one right, of it and D.wav"),
        ({"A L.wav": "C.wav", "D.wav": "C.wav"}, "D.wav: pair: C.wav is half of another pair already"),
        ({"A L.wav": "Vox.wav"}, "A L.wav: pair: Vox.wav is of another group"),
    ],
)
def test_a_side_of_a_pair_has_one_file(pairs: dict[str, str], said: str) -> None:
    content = [
        {"file": name, "group": "vocals" if name == "Vox.wav" else "other", "pair": pairs.get(name)}
        for name in ("A L.wav", "B L.wav", "C.wav", "D.wav", "Vox.wav")
    ]
    with pytest.raises(DatasetError, match=f"tracks.yaml: {said}"):
        table.parse({"tracks": content}, "tracks.yaml")


def test_each_error_of_a_table_has_a_line() -> None:
    wrong = [KICK | {"pan": 1, "group": "x"}, {"file": "Snare.wav", "group": "drums", "use": 3}]
    with pytest.raises(DatasetError) as refused:
        table.parse({"tracks": wrong}, "tracks.yaml")
    assert len(str(refused.value).splitlines()) == 3


def test_what_is_left_out_of_a_table_follows_from_the_names() -> None:
    content = [{"file": "1 OH_L.wav", "group": "drums", "pair": "2 OH b.wav"}, {"file": "2 OH b.wav", "group": "drums"}]
    left, right = table.parse({"tracks": content}, "tracks.yaml").tracks
    assert (left.side, right.side, right.pair) == ("left", "right", "1 OH_L.wav")
    assert (left.by, left.use, left.gain_db, left.source) == ("hand", True, 0.0, "oh")


def test_a_file_that_the_table_does_not_name_is_told(tmp_path: Path) -> None:
    session(tmp_path, "Kick.wav", "Snare.wav")
    (warning,) = open_session(written(tmp_path, {"tracks": [KICK]})).warnings
    assert warning.endswith("does not name, so it is not mixed: Snare.wav")


def test_a_table_keeps_awkward_names(tmp_path: Path) -> None:
    names = ["yes", "01", "null", "a: b #c", "'quoted' \"name\"", "Djembé {L}", "- dash", "日本"]
    folder = session(tmp_path / "song", "Kick.wav")
    for name in names:
        shutil.copy(folder / "Kick.wav", folder / f"{name}.wav")
    made = Table(tracks=[Track(file=f"{name}.wav", group="other", source=name, why=name) for name in names])
    path = folder / "tracks.yaml"
    table.write(made, path)
    assert table.read(path).tracks == made.tracks
