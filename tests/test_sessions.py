"""Sessions summed to stems, and mixed by the command."""

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
import soundfile
import yaml

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.recordings import Take
from fxnorm.errors import AudioError
from fxnorm.io import audio
from fxnorm.sessions import stems as summing
from fxnorm.sessions.recordings import Recording, in_file
from fxnorm.sessions.session import open_session
from fxnorm.sessions.stems import SOURCE_LUFS, STEM_LUFS, sum_groups
from fxnorm.sessions.table import Table, Track, parse
from tests.conftest import noise
from tests.test_import import broadcast_wav

METER = pyloudnorm.Meter(SAMPLE_RATE, filter_class="K-weighting")


def held(samples: np.ndarray) -> Recording:
    return Recording(samples.copy, lambda: Take(None, lambda: (samples.shape[1], SAMPLE_RATE)))


def summed(tracks: dict[str, np.ndarray], *rows: Track, balance: str = "loudness") -> dict[str, np.ndarray]:
    table = parse({"balance": balance, "tracks": [row.model_dump(exclude_none=True) for row in rows]}, "table")
    return sum_groups(table, {name: held(samples) for name, samples in tracks.items()}).stems


def mono(seed: int, level: float = 0.2) -> np.ndarray:
    return noise(1.0, level, seed=seed, channels=1)


def at(samples: np.ndarray, lufs: float) -> np.ndarray:
    """At a loudness, by another implementation's measure."""
    stereo = audio.to_stereo(samples).astype(np.float64)
    return np.asarray(stereo * 10 ** ((lufs - METER.integrated_loudness(stereo.T)) / 20))


def test_the_sources_of_a_group_have_one_loudness_and_so_has_their_sum() -> None:
    tracks = {"Gtr1.wav": mono(1, 0.5), "Gtr2.wav": mono(2, 0.02), "Piano.wav": noise(1.0, 0.1, seed=3)}
    found = summed(tracks, *(Track(file=name, group="other") for name in tracks))
    assert set(found) == {"other"}
    expected = at(sum((at(samples, SOURCE_LUFS) for samples in tracks.values()), np.zeros((2, 1))), STEM_LUFS)
    np.testing.assert_allclose(found["other"], expected, atol=2e-4)


@pytest.mark.parametrize("balance", ["loudness", "as_is"])
def test_a_stem_is_the_sum_of_its_tracks_with_the_gains_that_are_told(balance: str) -> None:
    tracks = {"KickIn.wav": mono(1, 0.4), "KickOut.wav": mono(2, 0.1), "Snare.wav": noise(1.0, 0.05, seed=3)}
    rows = [{"file": name, "group": "drums", "gain_db": gain} for name, gain in zip(tracks, (3, -4, 1), strict=True)]
    table = parse({"balance": balance, "tracks": rows}, "table")
    found = sum_groups(table, {name: held(samples) for name, samples in tracks.items()})
    assert set(found.gains_db) == set(tracks)
    total = sum(
        (audio.to_stereo(samples) * 10 ** (found.gains_db[name] / 20) for name, samples in tracks.items()),
        np.zeros((2, 1)),
    )
    error = np.sqrt(np.square(found.stems["drums"] - total).mean() / np.square(total).mean())
    assert 20 * np.log10(error) < -120


def test_microphones_of_a_source_are_added_up_before() -> None:
    tracks = {"KickIn.wav": mono(1, 0.4), "KickOut.wav": mono(2, 0.1), "Snare.wav": mono(3)}
    found = summed(tracks, *(Track(file=name, group="drums") for name in tracks))["drums"]
    kick = tracks["KickIn.wav"] + tracks["KickOut.wav"]
    expected = at(at(kick, SOURCE_LUFS) + at(tracks["Snare.wav"], SOURCE_LUFS), STEM_LUFS)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_gain_comes_on_top_of_the_balance() -> None:
    tracks = {"KickIn.wav": mono(1, 0.4), "KickOut.wav": mono(2, 0.1), "Snare.wav": mono(3)}
    rows = [Track(file=name, group="drums", gain_db=gain) for name, gain in zip(tracks, (0.0, -6.0, 3.0), strict=True)]
    found = summed(tracks, *rows)["drums"]
    kick = tracks["KickIn.wav"] + tracks["KickOut.wav"]
    gain = at(kick, SOURCE_LUFS)[0, 1_000] / kick[0, 1_000]
    turned = gain * (tracks["KickIn.wav"] + 10 ** (-6 / 20) * tracks["KickOut.wav"])
    expected = at(turned + 10 ** (3 / 20) * at(tracks["Snare.wav"], SOURCE_LUFS), STEM_LUFS)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_as_is_leaves_the_levels_of_the_files() -> None:
    tracks = {"Gtr1.wav": mono(1, 0.5), "Gtr2.wav": noise(1.0, 0.02, seed=2)}
    rows = [Track(file=name, group="other", gain_db=gain) for name, gain in zip(tracks, (-20.0, 0.0), strict=True)]
    found = summed(tracks, *rows, balance="as_is")["other"]
    np.testing.assert_allclose(found, 0.1 * tracks["Gtr1.wav"] + tracks["Gtr2.wav"], atol=1e-6)


def test_the_halves_of_a_pair_are_left_and_right() -> None:
    tracks = {"OH_L.wav": mono(1), "OH_R.wav": mono(2)}
    left, right = (Track(file=name, group="drums") for name in tracks)
    pair = summed(tracks, left.model_copy(update={"pair": "OH_R.wav"}), right, balance="as_is")["drums"]
    np.testing.assert_array_equal(pair, np.concatenate(list(tracks.values())))
    unused = right.model_copy(update={"use": False})
    alone = summed(tracks, left.model_copy(update={"pair": "OH_R.wav"}), unused, balance="as_is")["drums"]
    np.testing.assert_array_equal(alone, audio.to_stereo(tracks["OH_L.wav"]))


def test_a_half_of_a_pair_with_two_channels_is_told() -> None:
    tracks = {"OH_L.wav": noise(1.0), "OH_R.wav": mono(2)}
    content = [{"file": "OH_L.wav", "group": "drums", "pair": "OH_R.wav"}, {"file": "OH_R.wav", "group": "drums"}]
    found = sum_groups(parse({"tracks": content}, "table"), {name: held(track) for name, track in tracks.items()})
    assert found.findings == ("OH_L.wav: has two channels already, both are used",)


def test_noise_is_not_turned_up_to_a_loudness() -> None:
    hiss = 0.004 * np.random.default_rng(0).standard_normal((1, SAMPLE_RATE)).astype(np.float32)
    tracks = {"Gtr1.wav": mono(1), "Gtr2.wav": hiss}
    found = summed(tracks, *(Track(file=name, group="other") for name in tracks))["other"]
    expected = at(at(tracks["Gtr1.wav"], SOURCE_LUFS) + hiss, STEM_LUFS)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_tracks_of_another_rate_and_length_are_brought_together(tmp_path: Path) -> None:
    track = noise(1.5, 0.2)
    soundfile.write(tmp_path / "Gtr.wav", audio.resample(track, SAMPLE_RATE, 96_000).T, 96_000, subtype="FLOAT")
    audio.write(tmp_path / "Keys.wav", mono(1))
    table = parse(
        {"balance": "as_is", "tracks": [{"file": name, "group": "other"} for name in ("Gtr.wav", "Keys.wav")]}, ""
    )
    found = sum_groups(table, {name: in_file(tmp_path / name) for name in ("Gtr.wav", "Keys.wav")}).stems["other"]
    expected = audio.read(tmp_path / "Gtr.wav")[0]
    expected[:, :SAMPLE_RATE] += mono(1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_time_references_place_the_tracks(tmp_path: Path) -> None:
    noon = 12 * 3_600
    broadcast_wav(tmp_path / "Kick.wav", mono(1), noon * SAMPLE_RATE, SAMPLE_RATE)
    broadcast_wav(tmp_path / "Bass.wav", mono(2), round((noon + 0.25) * SAMPLE_RATE), SAMPLE_RATE)
    session = open_session(tmp_path)
    found = sum_groups(session.table, session.recordings)
    start = SAMPLE_RATE // 4
    assert found.stems["bass"].shape[1] == start + SAMPLE_RATE
    assert not found.stems["bass"][:, :start].any()
    assert found.stems["drums"].shape[1] == SAMPLE_RATE
    assert found.findings == ("the tracks begin by the time references of their files",)


def test_one_track_is_in_memory_at_a_time() -> None:
    alive: list[weakref.ref[np.ndarray]] = []

    def read() -> np.ndarray:
        assert not any(reference() is not None for reference in alive[:-1])
        samples = mono(len(alive))
        alive.append(weakref.ref(samples))
        return samples

    recording = Recording(read, lambda: Take(None, lambda: (SAMPLE_RATE, SAMPLE_RATE)))
    names = [f"{kind}{number}.wav" for kind in ("Kick", "Vox", "Gtr") for number in range(4)]
    groups = {"Kick": "drums", "Vox": "vocals", "Gtr": "other"}
    table = parse({"tracks": [{"file": name, "group": groups[name[:-5]]} for name in names]}, "table")
    done: list[tuple[int, int]] = []
    sum_groups(table, dict.fromkeys(names, recording), lambda *progress: done.append(progress))
    assert done == [(number, len(names)) for number in range(1, len(names) + 1)]


def test_a_song_beyond_a_limit_and_a_sum_beyond_all_levels_are_refused() -> None:
    table = Table(tracks=[Track(file="a.wav", group="other")])
    with pytest.raises(AudioError, match=r"a\.wav: ends after 1 s, where no song may"):
        sum_groups(table, {"a.wav": held(mono(1))}, most_samples=SAMPLE_RATE - 1)
    loud = [Track(file=name, group="other", gain_db=60.0) for name in ("a.wav", "b.wav")]
    with pytest.raises(AudioError, match=r"other: the sum of its tracks passes \+60 dBFS; lower their gain_db"):
        summed({name.file: 10 * mono(1) for name in loud}, *loud, balance="as_is")


# ---- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session of nine tracks of a second."""
    names = ("Kick", "OH_L", "OH_R", "BassDI", "Gtr1", "LeadVox", "BV1", "Audio 1", "Click")
    for seed, name in enumerate(names, 1):
        audio.write(tmp_path / f"session/{seed:02d}_{name}.wav", mono(seed))
    return tmp_path / "session"


def mixed(mixer: Path, tracks: Path, output: Path, *options: str) -> np.ndarray:
    arguments = [str(mixer), "--tracks", str(tracks), "--output", str(output), "--as-is", *options]
    main.main(["mix", *arguments], standalone_mode=False)
    return audio.read(output)[0]


def test_the_command_mixes_the_stems_of_a_session_as_dry_ones(
    folder: Path, mixer_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    mix = mixed(mixer_folder, folder, tmp_path / "mix.wav", "--report", str(report))
    told = capfd.readouterr().err
    assert "set aside: 09_Click.wav (a click track)" in told
    assert "8 tracks (2 vocals, 1 bass, 3 drums, 2 other;" in told
    opened = Mixer.load(mixer_folder)
    session = open_session(folder, opened.recipe.statistics)
    stems = sum_groups(session.table, session.recordings).stems
    np.testing.assert_array_equal(mix, opened.mix(stems, SAMPLE_RATE, dry=True))
    groups = json.loads(report.read_text())["groups"]
    assert groups["01_Kick.wav"] == {"group": "drums", "by": "word", "source": "kick", "use": True, "why": ""}
    assert not groups["09_Click.wav"]["use"]
    wet = mixed(mixer_folder, folder, tmp_path / "wet.wav", "--wet")
    np.testing.assert_array_equal(wet, opened.mix(stems, SAMPLE_RATE, dry=False))


def test_parts_of_a_session_are_those_of_its_groups(folder: Path, mixer_folder: Path, tmp_path: Path) -> None:
    mix = mixed(mixer_folder, folder, tmp_path / "mix.wav", "--stems-out", str(tmp_path / "parts"))
    parts = [audio.read(tmp_path / f"parts/{stem}.wav")[0] for stem in STEMS]
    np.testing.assert_allclose(np.sum(parts, axis=0), mix, atol=1e-5)
    description = json.loads((tmp_path / "parts/mix.json").read_text())
    assert description["sources"] == dict.fromkeys(STEMS, str(folder))
    assert description["options"]["dry"] is True
    assert description["tracks"]["01_Kick.wav"]["stem"] == "drums"
    assert "09_Click.wav" not in description["tracks"], "which is not mixed"


def test_the_command_takes_an_edited_table(folder: Path, mixer_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "tracks.yaml"
    main.main(["tracks", str(folder), "--output", str(path), "--mixer", str(mixer_folder)], standalone_mode=False)
    content = yaml.safe_load(path.read_text())
    content["balance"] = "as_is"
    for row in content["tracks"]:
        row["use"] = row["file"] == "04_BassDI.wav"
    path.write_text(yaml.safe_dump(content))
    mix = mixed(mixer_folder, path, tmp_path / "mix.wav")
    stems = {"bass": audio.to_stereo(audio.read(folder / "04_BassDI.wav")[0])}
    np.testing.assert_array_equal(mix, Mixer.load(mixer_folder).mix(stems, SAMPLE_RATE, dry=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vocals", "vocals.wav"], "expected either --tracks or stems"),
        (["--output", "session/01_Kick.wav"], "is an input of this command"),
        (["--tracks", "nowhere"], "nowhere: expected a folder of tracks, or a table of them, found nothing"),
    ],
)
def test_what_the_command_cannot_do_is_one_line_and_leaves_nothing(
    folder: Path,
    mixer_folder: Path,
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(SystemExit) as ended:
        main.main(
            ["mix", str(mixer_folder), "--tracks", "session", "--output", "mix.wav", *options], prog_name="fxnorm"
        )
    assert ended.value.code in (1, 2)
    assert said in capfd.readouterr().err
    assert not (folder.parent / "mix.wav").exists()
    np.testing.assert_array_equal(audio.read(folder / "01_Kick.wav")[0], mono(1))


def nothing_usable(folder: Path) -> None:
    (folder / "Kick.wav").unlink()
    (folder / "notes.txt").write_text("none")


def unknown_key(folder: Path) -> None:
    (folder / "tracks.yaml").write_text(yaml.safe_dump({"tracks": [{"file": "Kick.wav", "group": "drums", "pan": 1}]}))


def leaving_path(folder: Path) -> None:
    (folder / "tracks.yaml").write_text(yaml.safe_dump({"tracks": [{"file": "../Kick.wav", "group": "drums"}]}))


def leaving_link(folder: Path) -> None:
    audio.write(folder.parent / "Snare.wav", mono(2))
    (folder / "Snare.wav").symlink_to("../Snare.wav")


def two_for_one_side(folder: Path) -> None:
    for seed, name in enumerate(("OHL", "OH_L", "OH_R")):
        audio.write(folder / f"{name}.wav", mono(seed + 2))


def surround(folder: Path) -> None:
    soundfile.write(folder / "Snare.wav", np.full((4_410, 6), 0.1), SAMPLE_RATE)


BAD_SESSIONS: dict[Callable[[Path], Any], str] = {
    nothing_usable: "expected audio files, found notes.txt",
    two_for_one_side: "OHL.wav, OH_L.wav, OH_R.wav: more files for one side of a stereo pair than for the other",
    surround: "Snare.wav: expected 1 or 2 channels, found 6",
    lambda folder: (folder / "Snare.wav").touch(): "Snare.wav: the file is empty",
    unknown_key: "tracks.yaml: Kick.wav: pan: unknown key",
    leaving_path: "tracks.yaml: ../Kick.wav: leaves the folder",
    leaving_link: "Snare.wav is a link that leaves the folder",
}


@pytest.mark.parametrize("spoil", BAD_SESSIONS)
def test_a_bad_session_is_one_line_that_names_what_is_bad(
    spoil: Callable[[Path], Any], mixer_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    audio.write(tmp_path / "song/Kick.wav", mono(1))
    spoil(tmp_path / "song")
    output = [str(mixer_folder), "--output", str(tmp_path / "mix.wav"), "--stems-out", str(tmp_path / "parts")]
    with pytest.raises(SystemExit) as ended:
        main.main(["mix", "--tracks", str(tmp_path / "song"), *output], prog_name="fxnorm")
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("fxnorm: ")
    assert BAD_SESSIONS[spoil] in line
    assert not (tmp_path / "mix.wav").exists() and not (tmp_path / "parts").exists()


def test_the_loudness_that_is_documented_is_the_one_that_is_used() -> None:
    page = (Path(__file__).parents[1] / "docs/sessions.md").read_text(encoding="utf-8")
    for lufs in (summing.SOURCE_LUFS, summing.STEM_LUFS):
        assert f"\N{MINUS SIGN}{-lufs:g} LUFS" in page
