"""Several mixes of one session: which there are, that they are what they are said to be, and how they compare."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fxnorm import EffectNormalizer, Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import OutputError, SettingsError
from fxnorm.io import audio
from fxnorm.losses import stereo_losses
from fxnorm.mixing.alternatives import MOST, Way, mix_alternatives, planned, ways
from fxnorm.mixing.options import MixOptions
from tests.conftest import noise

SECONDS = 1.0


@pytest.fixture(scope="module")
def mixer(mixer_folder: Path) -> Mixer:
    return Mixer.load(mixer_folder)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("session")
    for number, stem in enumerate(STEMS):
        audio.write(folder / f"{stem}.wav", noise(SECONDS, 0.3, number))
    return {stem: folder / f"{stem}.wav" for stem in STEMS}


def with_effects(mixer: Mixer, *effects: str) -> Mixer:
    settings = mixer.recipe.settings.model_copy(update={"effects": effects})
    return replace(mixer, recipe=replace(mixer.recipe, settings=settings))


def names(mixer: Mixer, stems: Sequence[str], **options: Any) -> list[str]:
    return [way.name for way in ways(mixer, stems, MixOptions.of(options))]


def run(mixer_folder: Path, session: dict[str, Path], output: Path, *arguments: str) -> Result:
    song = [argument for stem, file in session.items() for argument in (f"--{stem}", str(file))]
    return CliRunner().invoke(main, ["mix", str(mixer_folder), *song, "--output", str(output), *arguments])


def test_there_are_as_many_ways_as_make_a_difference(mixer: Mixer) -> None:
    assert names(mixer, STEMS, dry=True)[:6] == [
        "default", "no-room", "room-2", "own-panning", "own-dynamics", "room-3",
    ]  # fmt: skip
    assert names(mixer, STEMS)[:4] == ["default", "room-2", "own-panning", "own-dynamics"]
    assert names(mixer, ("bass", "drums"), dry=True) == ["default", "own-panning", "own-dynamics"], "nothing is drawn"
    dull = with_effects(mixer, "equalization", "compression", "loudness")
    assert names(dull, STEMS) == ["default", "own-dynamics"]
    assert names(mixer, ("bass",), keep="panning") == ["default"]
    rooms = [way for way in ways(mixer, STEMS, MixOptions()) if way.name.startswith("room")]
    assert len(rooms) == MOST - 1
    assert len({way.options.seed for way in rooms}) == len(rooms)


def test_more_than_there_are_is_one_line(mixer: Mixer) -> None:
    with pytest.raises(SettingsError) as refused:
        planned(mixer, ("bass",), MixOptions(), 4)
    assert str(refused.value) == (
        "alternatives: expected at most 3, found 4: this Mixer and these stems have default, own-panning, own-dynamics"
    )
    for count in (1, MOST + 1):
        with pytest.raises(SettingsError, match=f"alternatives: expected 2 to {MOST}, found {count}"):
            planned(mixer, STEMS, MixOptions(), count)


def test_each_mix_is_the_one_that_its_arguments_give(
    mixer_folder: Path, session: dict[str, Path], tmp_path: Path
) -> None:
    """The first is the one without alternatives, to the last byte."""
    output, level = tmp_path / "mix.wav", ("--target-loudness", "-20")
    report = tmp_path / "report.json"
    options = ("--dry", *level, "--alternatives", "5", "--report", str(report))
    done = run(mixer_folder, session, output, *options)
    assert done.exit_code == 0, done.output
    comparison = json.loads((tmp_path / "mix-alternatives.json").read_text())
    found = {mix["name"]: mix for mix in comparison["alternatives"]}
    assert [mix["file"] for mix in found.values()] == [
        "mix.wav", "mix-2-no-room.wav", "mix-3-room-2.wav", "mix-4-own-panning.wav", "mix-5-own-dynamics.wav",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(mix["file"] for mix in found.values()), "mix-alternatives.json", "report.json"]
    )
    for name, mix in found.items():
        if name == "no-room":  # as another room, but for the option's name
            assert mix["arguments"] == "--wet"
            continue
        again = run(mixer_folder, session, tmp_path / "again.wav", "--dry", *level, *mix["arguments"].split())
        assert again.exit_code == 0, again.output
        assert (tmp_path / "again.wav").read_bytes() == (tmp_path / mix["file"]).read_bytes(), name
    assert [mix["name"] for mix in json.loads(report.read_text())["alternatives"]] == list(found)
    first, other = (audio.read(tmp_path / found[name]["file"])[0] for name in ("default", "own-panning"))
    expected = stereo_losses({"other": other}, first)["other"]["b"]
    assert found["own-panning"]["stereo_loss"] == pytest.approx(expected, rel=0.02, abs=1e-3)
    difference = 10 * np.log10(np.square(other - first).sum() / np.square(first).sum())
    assert found["own-panning"]["difference_db"] == pytest.approx(difference, abs=0.02)
    assert all(abs(mix["character"]["loudness_lufs"] + 20) < 0.1 for mix in found.values())
    assert re.search(r"^ 4  own-panning +-20\.0", done.output, re.MULTILINE)
    assert "mix-2-no-room.wav: vocals and other without the short reverberation" in done.output


def test_mixes_that_are_the_same_are_not_handed_out_as_two(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mixer = with_effects(mixer, "compression", "loudness")
    samples = {"bass": noise(SECONDS, 0.2)}

    def twice(*_: object) -> tuple[list[Way], list[Way]]:
        first, *others = ways(mixer, ["bass"], MixOptions())
        return [first, replace(first, name="again")], others

    monkeypatch.setattr("fxnorm.mixing.alternatives.planned", twice)
    made = mix_alternatives(mixer, samples, MixOptions.for_file(tmp_path / "mix.wav"), tmp_path / "mix.wav", 2)
    assert made.comparison.left_out[0] == "again: the same as default"
    assert not (tmp_path / "mix-2-again.wav").exists()
    assert len(made.comparison.alternatives) + len(made.comparison.left_out) == 3


def test_what_mixes_share_is_normalized_once(mixer: Mixer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []
    normalize = EffectNormalizer.normalize

    def counted(self: EffectNormalizer, samples: np.ndarray, rate: int, stem: str, **options: Any) -> np.ndarray:
        done.append(stem)
        return normalize(self, samples, rate, stem, **options)

    monkeypatch.setattr(EffectNormalizer, "normalize", counted)
    samples = {stem: noise(SECONDS, 0.3, number) for number, stem in enumerate(STEMS)}
    options = MixOptions.for_file(tmp_path / "mix.wav", dry=True)
    mix_alternatives(mixer, samples, options, tmp_path / "mix.wav", 3)
    assert done == [*STEMS, "vocals", "other", "vocals", "other"]


def test_files_of_others_are_not_overwritten(
    mixer_folder: Path, session: dict[str, Path], mixer: Mixer, tmp_path: Path
) -> None:
    song = {"bass": session["bass"]}
    output = tmp_path / "mix.wav"
    (tmp_path / "mix-2-own-panning.wav").write_text("mine")
    refused = run(mixer_folder, song, output, "--alternatives", "2")
    assert refused.exit_code == 1
    assert "mix-2-own-panning.wav: is there already; remove it, or name another output" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["mix-2-own-panning.wav"]
    (tmp_path / "mix-2-own-panning.wav").unlink()
    for _ in range(2):  # its own are replaced
        done = run(mixer_folder, song, output, "--alternatives", "2", "--stems-out", str(tmp_path / "parts"))
        assert done.exit_code == 0, done.output
    assert (tmp_path / "parts" / "bass.wav").is_file()
    (tmp_path / "mix-alternatives.json").write_text("{}")
    with pytest.raises(OutputError, match=r"mix-alternatives\.json: is no comparison of alternatives"):
        mix_alternatives(mixer, {"bass": noise(SECONDS)}, MixOptions.for_file(output), output, 2)
    result = CliRunner().invoke(
        main, ["mix", "--endpoint", "http://127.0.0.1:9", "--output", str(output), "--alternatives", "2"]
    )
    assert "--alternatives: an endpoint mixes in one way at a time; see --seed, --keep and --wet" in result.output


def test_tracks_are_summed_once_and_all_mixes_brought_to_a_reference(
    mixer_folder: Path, session: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = tmp_path / "session"
    tracks.mkdir()
    for stem, name in (("bass", "01_BassDI.wav"), ("drums", "02_Kick.wav")):
        (tracks / name).write_bytes(session[stem].read_bytes())
    audio.write(tmp_path / "song.wav", noise(3.5, 0.1, seed=9))
    from fxnorm.sessions import stems

    summed: list[object] = []
    sum_groups = stems.sum_groups

    def counted(*given: Any) -> stems.SessionStems:
        summed.append(given)
        return sum_groups(*given)

    monkeypatch.setattr(stems, "sum_groups", counted)
    arguments = ["--tracks", str(tracks), "--alternatives", "2", "--reference", str(tmp_path / "song.wav")]
    result = CliRunner().invoke(main, ["mix", str(mixer_folder), "--output", str(tmp_path / "mix.flac"), *arguments])
    assert result.exit_code == 0, result.output
    assert len(summed) == 1
    content = json.loads((tmp_path / "mix-alternatives.json").read_text())["alternatives"]
    assert [mix["name"] for mix in content] == ["default", "own-panning"]
    levels = [mix["character"]["loudness_lufs"] for mix in content]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)
    samples, rate = audio.read(tmp_path / content[1]["file"], None)
    assert (rate, samples.shape[0]) == (SAMPLE_RATE, 2)
