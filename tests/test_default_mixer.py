"""The Mixer that comes with the package: small, and sensible for music that is not in four stems.

How much better it is than a sum is measured on many songs, and told in docs/default-mixer.md.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fxnorm import Mixer
from fxnorm.cli.endpoint import serve_command
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness, width
from fxnorm.errors import ModelError
from fxnorm.io import audio
from fxnorm.mixing import shipped
from fxnorm.mixing.mixer import mixer_digest
from tests.commands import fxnorm

SONG = Path(__file__).parent / "data" / "effects" / "song"
MOST_BYTES = 6_000_000
OCTAVES_HZ = (62.5, 125.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0)


@pytest.fixture(scope="module")
def mixer() -> Mixer:
    return Mixer.load("default")


@pytest.fixture(scope="module")
def stems() -> dict[str, np.ndarray]:
    return {stem: audio.read(SONG / f"{stem}.flac")[0] for stem in STEMS}


def octave_levels(mix: np.ndarray) -> np.ndarray:
    """Of both channels together, in dB, less their mean."""
    spectrum = (np.abs(np.fft.rfft(mix)) ** 2).sum(axis=0)
    frequencies = np.fft.rfftfreq(mix.shape[1], 1 / SAMPLE_RATE)
    levels = [
        10 * np.log10(spectrum[(frequencies >= centre / 2**0.5) & (frequencies < centre * 2**0.5)].sum())
        for centre in OCTAVES_HZ
    ]
    return np.array(levels) - np.mean(levels)


def test_it_is_small_and_holds_nothing_of_the_machine_that_made_it() -> None:
    files = [path for path in shipped.FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert not [path.name for path in files if path.name == "mlflow_run.json"]


@pytest.mark.parametrize(
    "given",
    [STEMS, ("vocals",), ("bass", "drums", "other"), ("other",), ("drums", "bass"), ("vocals", "other")],
    ids=" and ".join,
)
def test_music_that_is_not_in_four_stems_gets_a_mix_like_its_normalized_sum(
    mixer: Mixer, stems: Mapping[str, np.ndarray], given: tuple[str, ...]
) -> None:
    normalized = mixer.normalize({stem: stems[stem] for stem in given}, seed=0)
    mix = mixer.mix_normalized(normalized)
    total = normalized.reshape(len(STEMS), 2, -1).sum(axis=0)
    assert np.abs(mix).max() <= 1
    assert abs(loudness.measure(mix, SAMPLE_RATE) - loudness.measure(total, SAMPLE_RATE)) <= 12
    # a band without anything to hear may be turned down further
    heard = octave_levels(total) > -15
    assert np.abs(octave_levels(mix) - octave_levels(total))[heard].max() <= 9


@pytest.mark.parametrize("dry", [False, True])
def test_what_is_in_the_middle_stays_there(mixer: Mixer, stems: Mapping[str, np.ndarray], dry: bool) -> None:
    mono = {stem: samples.mean(axis=0, keepdims=True) for stem, samples in stems.items()}
    assert abs(width.right_to_left_db(mixer.mix(mono, SAMPLE_RATE, dry))) < 0.5
    # a stem that is louder on one side is brought to the middle, as its normalization does; what it sounds like stays
    other = np.concatenate([mono["other"], 0.5 * mono["other"]])
    assert abs(width.right_to_left_db(mixer.mix(mono | {"other": other}, SAMPLE_RATE, dry))) < 0.5
    mirrored = {stem: samples[::-1] for stem, samples in stems.items()}
    mixes = [mixer.mix(song, SAMPLE_RATE) for song in (stems, mirrored)]
    assert np.abs(mixes[0] - mixes[1][::-1]).max() < 1e-4


def test_the_command_takes_it_where_no_mixer_is_named(tmp_path: Path, stems: Mapping[str, np.ndarray]) -> None:
    output, named = tmp_path / "mix.wav", tmp_path / "named.wav"
    options = [part for stem in STEMS for part in (f"--{stem}", str(SONG / f"{stem}.flac"))]
    result = fxnorm("mix", *options, "--output", output)
    assert result.exit_code == 0, result.output
    assert fxnorm("mix", "default", *options, "--output", named).exit_code == 0
    assert output.read_bytes() == named.read_bytes()


def test_it_is_served_without_a_registry_from_a_model_that_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = serve_command("default", "127.0.0.1", 5001, 60, {})
    model = Path(command.arguments[command.arguments.index("--model-uri") + 1])
    assert model.parent == tmp_path / "fxnorm"
    assert "MLFLOW_TRACKING_URI" not in command.environment
    assert mixer_digest(model / "artifacts" / shipped.FOLDER.name) == mixer_digest(shipped.FOLDER)
    made = (model / "MLmodel").stat().st_mtime_ns
    assert serve_command("default", "127.0.0.1", 5001, 60, {}).arguments == command.arguments
    assert (model / "MLmodel").stat().st_mtime_ns == made
    assert [path.name for path in tmp_path.iterdir()] == ["fxnorm"], "no store is made"


def test_a_package_without_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match=r"default: expected .*mixer\.json, which comes with the package"):
        Mixer.load("default")
    assert shipped.directory_of(Path("default")) == Path("default")
