"""The Mixer, `fxnorm mix` and the pyfunc: one implementation behind three entry points, equal answers to bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from click.testing import CliRunner, Result

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness
from fxnorm.errors import AudioError, FxnormError, ModelError, StoreError
from fxnorm.evaluation.songs import mix_all
from fxnorm.io import audio, object_store
from fxnorm.mixing import limiter
from tests import servers
from tests.conftest import noise

MakeSong = Callable[..., Path]


@pytest.fixture(scope="module")
def mixer(mixer_folder: Path) -> Mixer:
    return Mixer.load(mixer_folder)


def stems(seconds: float = 2.0, channels: int = 2) -> dict[str, np.ndarray]:
    return {stem: noise(seconds, 0.2, seed=number, channels=channels) for number, stem in enumerate(STEMS)}


def test_a_mix_is_stereo_as_long_as_the_longest_stem_not_clipped_not_silent(mixer: Mixer) -> None:
    given = stems() | {"bass": noise(1.0, channels=1)}
    mix = mixer.mix(given, SAMPLE_RATE)
    assert mix.shape == (2, 2 * SAMPLE_RATE)
    assert mix.dtype == np.float32
    assert 0.01 < np.abs(mix).max() < 1.0


def test_saving_and_loading_changes_nothing(mixer: Mixer, tmp_path: Path) -> None:
    mixer.save(tmp_path / "copy")
    copy = Mixer.load(tmp_path / "copy")
    assert np.array_equal(mixer.mix(stems(), SAMPLE_RATE), copy.mix(stems(), SAMPLE_RATE))
    names = {path.name for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.suffix != ".wav"}
    assert names == {"mixer.json", "weights.safetensors", "statistics.npz", "normalization.json"}


def test_the_same_stems_give_the_same_mix_and_a_seed_changes_the_reverberation(mixer: Mixer) -> None:
    first, second = (mixer.mix(stems(), SAMPLE_RATE) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, mixer.mix(stems(), SAMPLE_RATE, seed=1))
    assert not np.array_equal(first, mixer.mix(stems(), SAMPLE_RATE, dry=True))


def test_a_missing_stem_is_the_same_as_a_silent_one(mixer: Mixer) -> None:
    three = {name: samples for name, samples in stems().items() if name != "drums"}
    silent = {**three, "drums": np.zeros((2, 100), dtype=np.float32)}
    assert np.array_equal(mixer.mix(three, SAMPLE_RATE), mixer.mix(silent, SAMPLE_RATE))


@pytest.mark.parametrize("sample_rate", [8_000, 48_000, 192_000])
def test_other_sample_rates_come_back_at_their_own(mixer: Mixer, sample_rate: int) -> None:
    given = {name: audio.resample(samples, SAMPLE_RATE, sample_rate) for name, samples in stems(1.0).items()}
    mix = mixer.mix(given, sample_rate)
    assert mix.shape == (2, max(samples.shape[1] for samples in given.values()))
    assert np.abs(mix).max() > 0.01


@pytest.mark.parametrize("sample_rate", [SAMPLE_RATE, 48_000])
def test_a_mix_comes_at_the_loudness_that_is_asked_for(mixer: Mixer, sample_rate: int) -> None:
    given = {name: audio.resample(samples, SAMPLE_RATE, sample_rate) for name, samples in stems().items()}
    quiet, loud = (mixer.mix(given, sample_rate, target_loudness=target) for target in (-30.0, -12.0))
    found = [loudness.measure(audio.resample(mix, sample_rate, SAMPLE_RATE), SAMPLE_RATE) for mix in (quiet, loud)]
    assert found == pytest.approx([-30.0, -12.0], abs=0.02 if sample_rate == SAMPLE_RATE else 0.5), "band limits differ"
    assert limiter.true_peak(loud) <= -1.0
    if sample_rate == SAMPLE_RATE:
        np.testing.assert_allclose(quiet, loudness.match(mixer.mix(given, sample_rate), SAMPLE_RATE, -30.0), atol=1e-6)


@pytest.mark.parametrize(
    "given, said",
    [
        ({}, "at least one stem"),
        ({"guitar": noise(0.1)}, "guitar: unknown stem; expected vocals, bass, drums, other"),
        ({"bass": np.zeros((2, 1000), dtype=np.float32)}, "bass: all stems are silent"),
        ({"bass": np.full((2, 1000), np.nan, dtype=np.float32)}, "bass: holds NaN"),
        ({"bass": noise(0.1, 3e37)}, r"bass: a peak of \+7.* dBFS, expected at most \+60 dBFS"),
        ({"bass": np.zeros((2, 0), dtype=np.float32)}, "bass: holds no samples"),
        ({"bass": np.zeros((3, 10), dtype=np.float32)}, "bass: expected 1 or 2 channels, found 3"),
        ({"bass": np.zeros(10, dtype=np.float32)}, "bass: expected an array"),
    ],
)
def test_stems_no_mix_can_be_made_of_are_refused(mixer: Mixer, given: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(AudioError, match=said):
        mixer.mix(given, SAMPLE_RATE)


def test_a_network_whose_mix_is_not_finite_is_said(mixer: Mixer, tmp_path: Path) -> None:
    mixer.save(tmp_path / "m")
    broken = Mixer.load(tmp_path / "m")
    with torch.no_grad():
        next(broken.network.parameters()).fill_(np.nan)
    with pytest.raises(ModelError, match="mix holds NaN or infinite samples"):
        broken.mix(stems(1.0), SAMPLE_RATE)


@pytest.mark.parametrize("gone", ["mixer.json", "weights.safetensors", "statistics.npz", "normalization.json"])
def test_an_incomplete_mixer_is_named(mixer: Mixer, tmp_path: Path, gone: str) -> None:
    mixer.save(tmp_path / "m")
    (tmp_path / "m" / gone).unlink()
    with pytest.raises(ModelError, match=gone):
        Mixer.load(tmp_path / "m")


def test_weights_of_another_network_are_refused(mixer: Mixer, tmp_path: Path) -> None:
    mixer.save(tmp_path / "m")
    file = tmp_path / "m/mixer.json"
    description = json.loads(file.read_text())
    description["network"]["skip"] += 1
    file.write_text(json.dumps(description))
    with pytest.raises(ModelError, match=r"weights\.safetensors: does not fit"):
        Mixer.load(tmp_path / "m")


def test_the_library_is_imported_without_pytorch_until_it_is_needed() -> None:
    code = "import sys, fxnorm, fxnorm.cli; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("song", ["A Song", "Who Are You?", "../Bj\u00f6rk #1"])
def test_with_its_song_s_name_a_mix_is_that_of_the_evaluation(
    mixer: Mixer, mixer_folder: Path, song: str, dry: bool
) -> None:
    """The kind: what is reported is not to be had, because the report draws and measures in another way."""
    given = {"vocals": noise(1.0, 0.2, channels=1), "bass": noise(0.8, 0.2, seed=1)}
    reported = mix_all(song, given, {"crafx2": mixer_folder}, dry, None)["crafx2"]
    assert np.array_equal(mixer.mix(given, SAMPLE_RATE, dry, song=song), reported)
    assert not np.array_equal(mixer.mix(given, SAMPLE_RATE, dry), reported)


def test_the_command_and_the_endpoint_take_a_song_s_name(mixer: Mixer, mixer_folder: Path, tmp_path: Path) -> None:
    vocals = noise(1.0, 0.2)
    audio.write(tmp_path / "vocals.wav", vocals)
    options = ["--vocals", str(tmp_path / "vocals.wav"), "--song", "A Song"]
    assert mix_command(mixer_folder, tmp_path / "mix.wav", *options).exit_code == 0
    expected = mixer.mix({"vocals": vocals}, SAMPLE_RATE, song="A Song")
    np.testing.assert_allclose(audio.read(tmp_path / "mix.wav")[0], expected, atol=2**-15)
    row = {"vocals": (tmp_path / "vocals.wav").read_bytes()}
    result = load_pyfunc(mixer_folder).predict(None, pd.DataFrame([row]), {"song": "A Song", "output_format": "wav"})
    np.testing.assert_allclose(audio.decode(result["mix"][0], "mix")[0], expected, atol=2**-15)


def mix_command(mixer_folder: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["mix", str(mixer_folder), "--output", str(output), *options])


def test_the_command_mixes_files_of_different_lengths_rates_and_channels(mixer_folder: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "vocals.flac", noise(2.0, channels=1), 48_000)
    audio.write(tmp_path / "bass.mp3", noise(1.5))
    audio.write(tmp_path / "drums.wav", noise(0.5), 8_000)
    options = [
        text
        for name in ("vocals.flac", "bass.mp3", "drums.wav")
        for text in (f"--{name.split('.')[0]}", str(tmp_path / name))
    ]
    result = mix_command(mixer_folder, tmp_path / "mix.wav", *options)
    assert result.exit_code == 0, result.output
    mix, sample_rate = audio.read(tmp_path / "mix.wav")
    assert (mix.shape[0], sample_rate) == (2, SAMPLE_RATE)
    longest = 0.5 * SAMPLE_RATE / 8_000  # seconds: noise() counts in 44.1 kHz samples, the file plays them at 8 kHz
    assert abs(mix.shape[1] / SAMPLE_RATE - longest) < 1e-3


@pytest.mark.parametrize("dry", [True, False])
def test_a_picture_of_the_mix_can_be_drawn(mixer_folder: Path, tmp_path: Path, dry: bool) -> None:
    audio.write(tmp_path / "vocals.wav", noise(4.0))
    options = ["--vocals", str(tmp_path / "vocals.wav"), "--plot", str(tmp_path / "plots/mix.svg")]
    result = mix_command(mixer_folder, tmp_path / "mix.wav", *options, *["--dry"] * dry)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "plots/mix.svg").read_text()
    assert ("vocals, pre-reverb (0.1 s)" in text) == dry, "the decay with which the rooms were synthesized"
    assert "vocals, reverberation (0.3 s)" in text
    assert "Short-term loudness" in text


def test_a_picture_of_another_kind_is_refused_before_anything_is_mixed(mixer_folder: Path, tmp_path: Path) -> None:
    result = mix_command(mixer_folder, tmp_path / "mix.wav", "--plot", str(tmp_path / "mix.txt"))
    assert result.exit_code == 1
    assert "mix.txt: expected a file name that ends in .png or .svg" in result.output


def spoil_text(path: Path) -> None:
    path.write_text("words " * 100)


def spoil_truncated(path: Path) -> None:
    soundfile.write(path, noise(1).T, SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_empty(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 2)), SAMPLE_RATE)


def spoil_nan(path: Path) -> None:
    soundfile.write(path, np.full((100, 2), np.nan), SAMPLE_RATE, subtype="FLOAT")


def spoil_enormous(path: Path) -> None:
    soundfile.write(path, noise(0.5, 3e37).T, SAMPLE_RATE, subtype="FLOAT")


def spoil_channels(path: Path) -> None:
    soundfile.write(path, noise(0.5, channels=6).T, SAMPLE_RATE)


def spoil_silent(path: Path) -> None:
    soundfile.write(path, np.zeros((1000, 2)), SAMPLE_RATE)


def spoil_gone(path: Path) -> None:
    path.unlink(missing_ok=True)


BAD_FILES = {
    "text": (spoil_text, "not readable"),
    "truncated": (spoil_truncated, "truncated"),
    "no samples": (spoil_empty, "no samples"),
    "not a number": (spoil_nan, "NaN"),
    "enormous": (spoil_enormous, "dBFS, expected at most +60 dBFS"),
    "six channels": (spoil_channels, "expected 1 or 2 channels, found 6"),
    "silent": (spoil_silent, "silent"),
    "gone": (spoil_gone, "no such file"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gets_one_line_status_1_and_no_output(mixer_folder: Path, tmp_path: Path, kind: str) -> None:
    spoil, said = BAD_FILES[kind]
    spoil(tmp_path / "bass.wav")
    result = mix_command(mixer_folder, tmp_path / "out/mix.mp3", "--bass", str(tmp_path / "bass.wav"))
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if "fxnorm:" in line]
    assert "bass" in line
    assert said in line
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_that_is_no_mixer_gets_one_line(tmp_path: Path, folder: str) -> None:
    audio.write(tmp_path / "bass.wav", noise(0.1))
    result = mix_command(tmp_path / folder, tmp_path / "mix.wav", "--bass", str(tmp_path / "bass.wav"))
    assert result.exit_code == 1
    assert "expected a Mixer directory" in result.output


@pytest.mark.parametrize("credentials", [{}, {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}])
def test_a_store_that_does_not_answer_is_not_the_requests_fault_nor_its_business(
    mixer_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, credentials: dict[str, str]
) -> None:
    from fxnorm.serving.pyfunc import AnsweredError

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    store = f"127.0.0.1:{servers.free_port()}"
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps the credentials of tests before
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store}")
    monkeypatch.setenv("FXNORM_S3_PREFIXES", "s3://fxnorm/stems")
    with pytest.raises(AnsweredError) as caught:
        load_pyfunc(mixer_folder).predict(None, pd.DataFrame([{"bass_uri": "s3://fxnorm/stems/bass.wav"}]))
    assert caught.value.get_http_status_code() == 503
    assert caught.value.reason == "the object store does not answer; try again later"
    assert (store if credentials else "Unable to locate credentials") in caplog.text


def test_of_an_object_that_may_not_be_read_the_request_is_told() -> None:
    from botocore.exceptions import ClientError

    def raised(status: int, code: str) -> type[Exception]:
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        with pytest.raises(FxnormError) as caught, object_store._as_user_error("a", "read"):
            raise ClientError(response, "GetObject")
        return caught.type

    assert (raised(404, "NoSuchKey"), raised(403, "AccessDenied")) == (FxnormError, FxnormError)
    assert {raised(403, "InvalidAccessKeyId"), raised(400, "ExpiredToken"), raised(503, "SlowDown")} == {StoreError}


def load_pyfunc(mixer_folder: Path):  # type: ignore[no-untyped-def]
    from fxnorm.serving.pyfunc import StemMixer

    model = StemMixer()
    model.load_context(SimpleNamespace(artifacts={"mixer": str(mixer_folder)}))  # type: ignore[arg-type]
    return model


def test_the_pyfunc_gives_the_samples_that_the_mixer_gives(mixer: Mixer, mixer_folder: Path) -> None:
    given = {name: samples for name, samples in stems().items() if name != "other"}
    row = {name: audio.encode(samples, SAMPLE_RATE, ".wav") for name, samples in given.items()}
    result = load_pyfunc(mixer_folder).predict(None, pd.DataFrame([row]))
    served, sample_rate = audio.decode(result["mix"][0], "mix")
    assert sample_rate == result["sample_rate"][0] == SAMPLE_RATE
    assert np.abs(served - mixer.mix(given, SAMPLE_RATE)).max() <= 2.0**-15, "16 bit of the same mix"


def test_the_pyfunc_answers_a_model_that_is_damaged_as_the_servers_fault(mixer_folder: Path) -> None:
    from fxnorm.serving.pyfunc import AnsweredError

    model = load_pyfunc(mixer_folder)
    with torch.no_grad():
        next(model.served.mixer.network.parameters()).fill_(np.nan)
    with pytest.raises(AnsweredError, match="the served model is damaged") as caught:
        model.predict(None, pd.DataFrame([{"bass": audio.encode(noise(0.5), SAMPLE_RATE, ".wav")}]))
    assert caught.value.get_http_status_code() == 500


@pytest.mark.parametrize("kind", [kind for kind in BAD_FILES if kind != "gone"])
def test_the_pyfunc_refuses_bad_files_as_bad_requests(mixer_folder: Path, tmp_path: Path, kind: str) -> None:
    from mlflow.exceptions import MlflowException

    spoil, said = BAD_FILES[kind]
    spoil(tmp_path / "bass.wav")
    row = {"bass": (tmp_path / "bass.wav").read_bytes(), "drums": None}
    with pytest.raises(MlflowException) as caught:
        load_pyfunc(mixer_folder).predict(None, pd.DataFrame([row]))
    assert caught.value.get_http_status_code() == 400
    assert said in json.loads(caught.value.serialize_as_json())["message"]
