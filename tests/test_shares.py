"""Shares of tracks in what their sum gets: through each effect, the normalization, the network and the command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import rpp

from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import compression, equalization, loudness, panning, reverberation
from fxnorm.effects.controls import Control
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.effects.levels import amplitude
from fxnorm.errors import OutputError
from fxnorm.io import audio
from fxnorm.mixing import parts, shares
from fxnorm.normalization.normalizer import ORDER, EffectNormalizer
from fxnorm.statistics import DatasetStatistics
from tests import mixers
from tests.conftest import noise

ROOMS = ImpulseResponses.synthesized(0.1, count=1)
STATISTICS = DatasetStatistics.load(Path(__file__).parent / "data" / "effects" / "musdb18_statistics.npz")
ROUNDING_DB = -100.0

Effect = Callable[[np.ndarray, list[Control] | None], np.ndarray]


def compress(audio: np.ndarray, controls: list[Control] | None) -> np.ndarray:
    hard = np.array([-25.0, 1.0])  # a target that takes a search
    return compression.match(audio, SAMPLE_RATE, hard, compression.PUBLISHED_SETTINGS["drums"], controls=controls)


def pan(audio: np.ndarray, controls: list[Control] | None) -> np.ndarray:
    settings = panning.PanningSettings(6_000.0, refinements=1, scale=1.0)
    return panning.match(audio, SAMPLE_RATE, STATISTICS.target("panning", "drums"), settings, controls=controls)


EFFECTS: dict[str, Effect] = {
    "reverberation": lambda audio, controls: reverberation.apply(
        audio, SAMPLE_RATE, ROOMS.choose(np.random.default_rng(0)), controls=controls
    ),
    "equalization": lambda audio, controls: equalization.match(
        audio, SAMPLE_RATE, STATISTICS.target("equalization", "drums"), controls=controls
    ),
    "compression": compress,
    "panning": pan,
    "loudness": lambda audio, controls: loudness.match(audio, SAMPLE_RATE, -18.0, controls=controls),
}


MONO = ("panning", 1)
"""An effect that needs two channels."""


def tracks(right: float = 1.0, channels: int = 2) -> list[np.ndarray]:
    """Three that sound at other times, on both sides."""
    sides = np.array([[1.0], [right]], np.float32)[:channels]
    found = [sides * noise(1.2, 0.3, seed, channels=channels) for seed in range(3)]
    found[0][:, : SAMPLE_RATE // 2] = 0
    found[1][:, SAMPLE_RATE:] = 0
    if channels == 2:
        found[2][1] = 0
    return found


def sum_of(signals: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.sum(signals, axis=0, dtype=np.float64).astype(np.float32))


def error_db(found: np.ndarray, expected: np.ndarray) -> float:
    energies = [float(np.square(signal, dtype=np.float64).sum()) for signal in (found - expected, expected)]
    return float(10 * np.log10((energies[0] + 1e-30) / (energies[1] + 1e-30)))


@pytest.mark.parametrize(
    ("effect", "channels"), [(name, channels) for name in EFFECTS for channels in (1, 2) if (name, channels) != MONO]
)
def test_what_a_sum_gets_its_tracks_get_too(effect: str, channels: int) -> None:
    signals, controls = tracks(channels=channels), list[Control]()
    total = sum_of(signals)
    expected = EFFECTS[effect](total.copy(), controls)
    assert np.array_equal(EFFECTS[effect](total.copy(), None), expected), "controls change nothing"
    assert error_db(expected, total) > -20, "it has something to do"
    (control,) = controls
    for signal in signals:
        control(signal)
    assert error_db(sum_of(signals), expected) < ROUNDING_DB


@pytest.mark.parametrize("effect", EFFECTS)
def test_tracks_of_a_silent_sum_are_left_alone(effect: str) -> None:
    silence, controls = np.zeros((2, 30_000), np.float32), list[Control]()
    EFFECTS[effect](silence.copy(), controls)
    controls[0](silence)
    assert not silence.any()


@pytest.mark.parametrize(
    ("right", "stem"), [(1.0, "vocals"), (1e-4, "drums"), (0.0, "vocals")], ids=["stereo", "residue", "one side"]
)
def test_shares_add_up_behind_the_whole_normalization(right: float, stem: str) -> None:
    normalizer = EffectNormalizer(STATISTICS, ORDER, impulse_responses=ROOMS, pre_impulse_responses=ROOMS)
    signals = tracks(right)
    total = sum_of(signals)
    plain = normalizer.normalize(total, SAMPLE_RATE, stem, dry=True)
    expected = normalizer.normalize(total, SAMPLE_RATE, stem, dry=True, along=iter(signals))
    assert np.array_equal(plain, expected)
    for channel in np.flatnonzero(expected.any(axis=1)):
        assert error_db(sum_of(signals)[channel], expected[channel]) < ROUNDING_DB


def test_tracks_of_a_stem_without_programme_stay_as_they_are() -> None:
    signals = [np.full((2, 20_000), 1e-4, np.float32), noise(0.5, 1e-3)[:, :20_000]]
    before = [signal.copy() for signal in signals]
    EffectNormalizer(STATISTICS).normalize(sum_of(signals), SAMPLE_RATE, "bass", along=signals)
    assert all(map(np.array_equal, before, signals))


# ---- the command

PLACES = {
    "Drums/Kick In.wav": "drums/Kick In",
    "Drums/OH_L.wav": "drums/OH_L",
    "Drums/OH_R.wav": "drums/OH_R",
    "BassDI.wav": "bass/BassDI",
    "Gtr.wav": "other/Gtr-wav-",
    "More/Gtr.wav": "other/More-Gtr-wav-",  # a name twice
    "LeadVox.wav": "vocals/LeadVox",
    "BV=1?.wav": "vocals/BV-1-",
}


@pytest.fixture(scope="module")
def made(mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``mix.wav`` and ``parts`` of a session in which microphones differ in length, level and side."""
    folder = tmp_path_factory.mktemp("made")
    for seed, file in enumerate(PLACES):
        samples = noise(1.0 - 0.05 * seed, 0.05 + 0.05 * seed, seed, channels=1 + (seed == 4))
        audio.write(folder / "session" / file, samples)
    mixers.changed(mixer_folder, folder / "mixer", 1)
    result = mixed(folder, "--target-loudness", "-14", "--true-peak", "-6", "--session", "reaper")
    assert result.exit_code == 0, result.output
    return folder


def mixed(folder: Path, *options: str, tracks_out: bool = True) -> Any:
    out = ["--stems-out", str(folder / "parts"), *(["--tracks-out"] if tracks_out else [])]
    arguments = [str(folder / "mixer"), "--tracks", str(folder / "session"), "--output", str(folder / "mix.wav"), *out]
    return click.testing.CliRunner().invoke(main, ["mix", *arguments, *options], prog_name="fxnorm")


def remixed(folder: Path, *arguments: str) -> Any:
    target = ["--output", str(folder / "again.wav")]
    return click.testing.CliRunner().invoke(main, ["remix", str(folder / "parts"), *target, *arguments])


def read(path: Path) -> np.ndarray:
    return audio.read(path, None)[0]


def files_of(folder: Path) -> dict[str, Path]:
    tracks = json.loads((folder / "parts" / "mix.json").read_text())["tracks"]
    return {name: folder / "parts" / track["file"] for name, track in tracks.items()}


def assert_shares_add_up(folder: Path) -> None:
    found = files_of(folder)
    assert set(found) == set(PLACES)
    for stem in STEMS:
        expected = read(folder / "parts" / f"{stem}.wav")
        own = [read(path) for path in found.values() if path.parent.name == stem]
        assert error_db(sum_of(own), expected) < -100, stem


def test_the_shares_of_a_group_add_up_to_its_part(made: Path) -> None:
    assert_shares_add_up(made)
    for name, path in files_of(made).items():
        place = path.relative_to(made / "parts" / "tracks").as_posix()
        assert place.startswith(PLACES[name]) and place.endswith(".wav")
    mix = read(made / "mix.wav")
    assert error_db(sum_of([read(made / f"parts/{stem}.wav") for stem in STEMS]), mix) < -110


def test_shares_change_neither_mix_nor_parts_and_others_are_replaced(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    assert mixed(folder, "--target-loudness", "-14", "--true-peak", "-6", tracks_out=False).exit_code == 0
    assert not (folder / "parts" / "tracks").exists()
    for name in ("mix.wav", *(f"parts/{stem}.wav" for stem in STEMS)):
        assert (folder / name).read_bytes() == (made / name).read_bytes()
    assert "LeadVox.wav: its share is not here" in remixed(folder, "--gain", "LeadVox.wav=1").output


def test_shares_add_up_behind_a_reference_and_at_another_rate(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    audio.write(tmp_path / "song.wav", noise(3.5, 0.5, 9))
    result = mixed(folder, "--reference", str(tmp_path / "song.wav"), "--sample-rate", "48000", "--keep", "panning")
    assert result.exit_code == 0, result.output
    assert_shares_add_up(folder)


def test_a_track_is_turned_up_muted_and_heard_alone(made: Path) -> None:
    mix, share = read(made / "mix.wav"), {name: read(path) for name, path in files_of(made).items()}

    def again(*arguments: str) -> np.ndarray:
        result = remixed(made, "--true-peak", "0", *arguments)
        assert result.exit_code == 0, result.output
        return read(made / "again.wav")

    kick, vox, guitar = share["Drums/Kick In.wav"], share["BV=1?.wav"], share["More/Gtr.wav"]
    assert error_db(again(), mix) < -110
    assert error_db(again("--gain", "Kick In.wav=0"), mix) < -110
    expected = mix + (float(amplitude(-6)) - 1) * kick - vox
    assert error_db(again("--gain", "Drums/Kick In.wav=-6", "--mute", "BV=1?"), expected) < -100
    assert error_db(again("--gain", "BV=1?.wav=-3"), mix + (float(amplitude(-3)) - 1) * vox) < -100
    both = float(amplitude(-8)) * guitar
    assert error_db(again("--solo", "More/Gtr.wav", "--gain", "More/Gtr.wav=-3", "--gain", "other=-5"), both) < -100
    of_bass = read(made / "parts" / "bass.wav")
    assert error_db(again("--solo", "bass", "--solo", "Kick In"), of_bass + kick) < -100
    assert error_db(again("--mute", "BassDI"), mix - of_bass) < -100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gain", "kick=1"], "kick: unknown stem or track; this mix has Drums/Kick In.wav\n"),
        (["--mute", "Drums/OHL.wav"], "Drums/OHL.wav: unknown stem or track; this mix has Drums/OH_"),
        (["--mute", "zzz"], "zzz: unknown stem or track; this mix has vocals, bass, drums, other, "),
        (["--mute", "Gtr"], "Gtr: is the name of Gtr.wav, More/Gtr.wav; expected one of these"),
        (["--gain", "OH_L=1", "--gain", "OH_L.wav=1"], "Drums/OH_L.wav: expected one gain, found two"),
        (["--mute", "OH_L", "--solo", "OH_L.wav"], "Drums/OH_L.wav: expected either muted or solo, found both"),
        (["--solo", "OH_L", "--mute", "drums"], "vocals, bass, drums, other: all muted; expected one that is heard"),
    ],
)
def test_a_change_that_cannot_be_is_one_line(made: Path, arguments: list[str], said: str) -> None:
    result = remixed(made, *arguments)
    assert result.exit_code == 1
    assert result.output.startswith(f"fxnorm: {said}")
    assert result.output.count("\n") == 1


def test_a_reaper_project_has_the_tracks_in_folders(made: Path) -> None:
    project = rpp.loads((made / "parts" / "session.rpp").read_text(encoding="utf-8"))
    depth, groups = 0, dict[str, list[str]]()
    for track in project.findall("TRACK"):
        bus = track.find("ISBUS")
        if depth == 0:
            assert bus[1:] == ["1", "1"] and track.find("ITEM") is None
            groups[track.find("NAME")[1]] = []
        else:
            groups[list(groups)[-1]].append(track.find("ITEM").find("SOURCE").find("FILE")[1])
        depth += int(bus[2]) if bus else 0
    assert depth == 0
    found = [path.relative_to(made / "parts").as_posix() for path in files_of(made).values()]
    assert list(groups) == list(STEMS)
    assert sorted(name for files in groups.values() for name in files) == sorted(found)


def test_a_file_beside_the_shares_keeps_the_folder(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    (folder / "parts/tracks/drums/mine.wav").touch()
    result = mixed(folder)
    assert "parts: holds tracks/drums/mine.wav, which is no part of the parts of a mix" in result.output


@pytest.mark.parametrize("file", ["../Gtr.wav", "tracks/drums/../Gtr.wav", "tracks/drums/.wav", "tracks/bass/Gtr.wav"])
def test_a_share_in_another_place_is_refused(file: str, made: Path, tmp_path: Path) -> None:
    content = json.loads((made / "parts" / "mix.json").read_text())
    content["tracks"]["Drums/OH_L.wav"]["file"] = file
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mix.json").write_text(json.dumps(content))
    result = remixed(tmp_path)
    assert f"file: expected tracks/STEM/NAME.wav, found {file}" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("missing", ["--tracks", "--stems-out"])
def test_tracks_out_needs_tracks_and_a_folder(missing: str, tmp_path: Path) -> None:
    given = {"--tracks": tmp_path, "--stems-out": tmp_path / "parts", "--output": tmp_path / "mix.wav"}
    arguments = [text for name, path in given.items() if name != missing for text in (name, str(path))]
    result = click.testing.CliRunner().invoke(main, ["mix", "mixer", "--tracks-out", *arguments])
    assert result.exit_code == 2
    assert "--tracks-out: expected --tracks and --stems-out as well" in result.output


def test_a_disk_without_room_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"parts: the shares of 3 tracks need 24000000\.00 GB of the disk while .* found"
    ):
        shares.room(dict.fromkeys("abc", "bass"), 5 * 10**14, tmp_path / "parts")
    signals = shares.room({"a": "bass", "b": "drums"}, 1_000, tmp_path / "new" / "parts")
    assert signals.audio.shape == (2, 2, 1_000) and not signals.audio.any()
    assert list(tmp_path.iterdir()) == []


def test_each_track_has_a_file_of_its_own() -> None:
    tracks = [
        "Kick.wav",
        "a/Kick.wav",
        "kick.flac",
        "Kick.wav.flac",
        "b/Kick.wav",
        "..wav",
        "a\\b.wav",
        "x" * 120 + ".wav",
    ]
    found = parts.share_files({**dict.fromkeys(tracks, "drums"), "c/Kick.wav": "bass"})
    assert len({name.casefold() for name in found.values()}) == len(tracks) + 1
    assert found["c/Kick.wav"] == "tracks/bass/Kick.wav"
    for file, name in found.items():
        stem = "bass" if file == "c/Kick.wav" else "drums"
        assert parts.TrackShare(stem=stem, gain_db=0, file=name).file is not None
        assert parts.is_share_file(name, stem, STEMS)
