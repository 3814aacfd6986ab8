"""Formats beyond WAV, FLAC and MP3: the same samples at the same place, whole or refused.

The references are the samples that were encoded: equal for lossless formats; for lossy ones the delay at which the
cross-correlation is highest is 0, the length is the source's, and the correlation is high.
"""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from scipy.signal import correlate, lfilter

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
from fxnorm.io import audio
from tests import encoded


def music(samples: int = 50_000, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Noise with the spectrum of music, in steps of 16 bits: what encoders of any kind keep well."""
    white = np.random.default_rng(seed).standard_normal((channels, samples))
    sound = lfilter([0.02], [1, -0.9], white)
    return (np.round(sound * 2**15) / 2**15).astype(np.float32)


def delay(found: np.ndarray, source: np.ndarray) -> int:
    """Samples by which one sound is later than another."""
    correlation = correlate(found[0].astype(np.float64), source[0].astype(np.float64), method="fft")
    return int(np.argmax(correlation)) - (source.shape[1] - 1)


def correlation(found: np.ndarray, source: np.ndarray) -> float:
    samples = min(found.shape[1], source.shape[1])
    return float(np.corrcoef(found[:, :samples].ravel(), source[:, :samples].ravel())[0, 1])


@pytest.mark.parametrize("samples", [44_032, 50_000])
def test_all_streams_of_a_stem_file_come_in_whole_and_at_their_place(tmp_path: Path, samples: int) -> None:
    sources = [music(samples, seed=seed) for seed in range(5)]
    path = encoded.stem_mp4(tmp_path / "Artist - Title.stem.mp4", sources)
    assert audio.streams(path) == 5
    for number, source in enumerate(sources):
        found, sample_rate = audio.read(path, stream=number)
        assert (found.shape, sample_rate) == (source.shape, SAMPLE_RATE)
        assert delay(found, source) == 0
        assert correlation(found, source) > 0.95
        assert audio.length(path, number) == (samples, SAMPLE_RATE)
    for number in (5, -1):
        with pytest.raises(AudioError, match=rf"^{path}: has no audio stream {number}, but 5, counted from 0$"):
            audio.read(path, stream=number)


def with_chunk(content: bytes, name: bytes, chunk: bytes) -> bytes:
    """A WAV file with a chunk before its samples."""
    position = content.index(b"data")
    inserted = name + struct.pack("<I", len(chunk)) + chunk
    head = bytearray(content[:position] + inserted)
    if head[:4] == b"RIFF":
        head[4:8] = struct.pack("<I", len(content) + len(inserted) - 8)
    return bytes(head) + content[position:]


@pytest.mark.parametrize("container", ["WAV", "RF64", "BW64"])
@pytest.mark.parametrize("samples_since_midnight", [0, 48_000 * 3_600, 2**32 + 5])
def test_a_broadcast_wav_says_where_it_begins(tmp_path: Path, container: str, samples_since_midnight: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, music(1_000).T, 48_000, subtype="PCM_24", format=container.replace("BW", "RF"))
    plain = path.read_bytes().replace(b"RF64", container.encode(), 1)
    path.write_bytes(plain)
    assert audio.time_reference(path) is None
    description = bytes(338) + struct.pack("<Q", samples_since_midnight) + bytes(256)
    path.write_bytes(with_chunk(plain, b"bext", description))
    assert audio.time_reference(path) == samples_since_midnight
    assert audio.read(path, None)[0].shape == (2, 1_000)


LOSSLESS = {
    ".aiff": ("soundfile", "AIFF", "PCM_24"),
    ".AIF": ("soundfile", "AIFF", "FLOAT"),
    ".aifc": ("soundfile", "AIFF", "DOUBLE"),
    ".caf": ("soundfile", "CAF", "PCM_24"),
    ".alac.caf": ("soundfile", "CAF", "ALAC_16"),
    ".au": ("soundfile", "AU", "PCM_24"),
    ".w64": ("soundfile", "W64", "PCM_24"),
    ".WAV": ("soundfile", "RF64", "PCM_24"),
    ".m4a": ("ffmpeg", "ipod", "alac", "s16p"),
    ".M4A": ("ffmpeg", "ipod", "alac", "s32p"),
    ".wv": ("ffmpeg", "wv", "wavpack", "fltp"),
    ".16.wv": ("ffmpeg", "wv", "wavpack", "s16p"),
    ".oga": ("ffmpeg", "oga", "flac", "s16"),
    ".mka": ("ffmpeg", "matroska", "flac", "s32"),
}
LOSSY = {
    ".ogg": ("soundfile", "OGG", "VORBIS", 44_100),
    ".opus": ("soundfile", "OGG", "OPUS", 48_000),
    ".mp3": ("soundfile", "MP3", "MPEG_LAYER_III", 44_100),
    ".MP4": ("ffmpeg", "mp4", "aac", 44_100),
    ".m4a": ("ffmpeg", "ipod", "aac", 48_000),
    ".webm": ("ffmpeg", "webm", "libopus", 48_000),
    ".mka": ("ffmpeg", "matroska", "libmp3lame", 44_100),
}


def write(path: Path, way: str, container: str, codec: str, samples: np.ndarray, rate: int, form: str | None) -> None:
    if way == "soundfile":
        soundfile.write(path, samples.T, rate, format=container, subtype=codec)
    else:
        encoded.write(path, container, codec, [samples], rate, form)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_lossless_format_gives_the_samples_of_a_wav(tmp_path: Path, suffix: str, channels: int) -> None:
    way, container, codec, *form = LOSSLESS[suffix]
    source = music(12_345, channels)
    soundfile.write(tmp_path / "a.wav", source.T, 48_000, subtype="PCM_24")
    path = tmp_path / f"a{suffix}"
    write(path, way, container, codec, source, 48_000, form[0] if form else None)
    for rate in (None, SAMPLE_RATE):
        expected, expected_rate = audio.read(tmp_path / "a.wav", rate)
        found, found_rate = audio.read(path, rate)
        assert found_rate == expected_rate
        assert np.array_equal(found, expected)
    assert audio.length(path) == (12_345, 48_000)
    assert audio.duration_seconds(path) == 12_345 / 48_000
    assert audio.streams(path) == 1


@pytest.mark.parametrize("suffix", LOSSY)
def test_a_lossy_format_gives_what_was_encoded_at_its_place(tmp_path: Path, suffix: str) -> None:
    way, container, codec, rate = LOSSY[suffix]
    source, path = music(), tmp_path / f"a{suffix}"
    write(path, way, container, codec, source, rate, None)
    found, found_rate = audio.read(path, None)
    assert (found.shape, found_rate) == (source.shape, rate)
    assert delay(found, source) == 0
    assert correlation(found, source) > 0.95
    assert audio.length(path) == (source.shape[1], rate)


def test_wma_begins_where_microsofts_encoder_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # FFmpeg's encoder puts one frame before the first sample; its decoder leaves out two, as Microsoft's encoder puts
    source, frame = music(), 2_048
    path = encoded.write(tmp_path / "a.wma", "asf", "wmav2", [source])
    found, _ = audio.read(path)
    assert delay(found, source) == -frame
    assert correlation(found, source[:, frame:]) > 0.95
    assert audio.length(path) == (found.shape[1], SAMPLE_RATE)
    assert abs(found.shape[1] + frame - source.shape[1]) <= frame
    (record,) = caplog.records
    assert "leaves out the first frame" in record.getMessage()


def test_raw_aac_and_a_matroska_of_aac_are_whole_though_they_do_not_say_where_the_sound_ends(tmp_path: Path) -> None:
    source = music()
    for suffix, container, expected in ((".aac", "adts", 1_024), (".mka", "matroska", 0)):
        path = encoded.write(tmp_path / f"a{suffix}", container, "aac", [source])
        found, _ = audio.read(path)
        assert delay(found, source) == expected, "raw AAC does not say what its encoder put before the first sample"
        assert 0 <= found.shape[1] - expected - source.shape[1] < 1_024
        assert audio.length(path) == (found.shape[1], SAMPLE_RATE)


@pytest.mark.parametrize("suffix, container", [(".m4a", "ipod"), (".mka", "matroska")])
def test_a_stream_that_begins_later_has_silence_before_it(tmp_path: Path, suffix: str, container: str) -> None:
    source, start = music(), 22_050
    path = encoded.write(tmp_path / f"a{suffix}", container, "aac", [source], start=start)
    found, _ = audio.read(path)
    assert abs(delay(found, source) - start) <= SAMPLE_RATE // 1_000, "these containers count in milliseconds"
    assert not found[:, : start - 2_000].any()
    assert audio.length(path) == (found.shape[1], SAMPLE_RATE)
    encoded.write(path, container, "aac", [source], start=7_200 * SAMPLE_RATE)
    with pytest.raises(AudioError, match=f"^{path}: begins at 7200 s, expected at most 600 s"):
        audio.read(path)  # of some kilobytes; two hours of silence would take gigabytes


def test_a_cover_is_no_audio_stream(tmp_path: Path) -> None:
    source, path, silent = music(), tmp_path / "a.mp4", tmp_path / "silent.mp4"
    picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
    with (
        av.open(str(encoded.stem_mp4(tmp_path / "b.mp4", [source, -source]))) as sound,
        av.open(str(path), "w") as file,
    ):
        video = file.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
        copies = {stream.index: file.add_stream_from_template(stream) for stream in sound.streams.audio}
        file.mux(video.encode(picture))
        file.mux(video.encode(None))
        for packet in sound.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                file.mux(packet)
    with av.open(str(silent), "w") as file:
        video = file.add_stream("mjpeg", rate=1, width=64, height=64, pix_fmt="yuvj420p")
        file.mux(video.encode(picture))
        file.mux(video.encode(None))
    assert audio.streams(silent) == 0
    with pytest.raises(AudioError, match=rf"^{silent}: holds no audio$"):
        audio.read(silent)
    assert audio.streams(path) == 2
    assert correlation(audio.read(path, stream=0)[0], source) > 0.95
    assert correlation(audio.read(path, stream=1)[0], -source) > 0.95


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A file of each container that PyAV reads."""
    folder, source = tmp_path_factory.mktemp("whole"), music()
    ways = {
        "MP4": ("mp4", "aac", {}),
        "MP4 for the web": ("mp4", "aac", {"movflags": "faststart"}),
        "MP4 in fragments": ("mp4", "aac", {"movflags": "frag_keyframe+delay_moov"}),
        "ALAC": ("ipod", "alac", {}),
        "Matroska": ("matroska", "libopus", {}),
        "ASF": ("asf", "wmav2", {}),
        "AAC": ("adts", "aac", {}),
        "WavPack": ("wv", "wavpack", {}),
        "FLAC in Ogg": ("oga", "flac", {}),
    }
    made = {}
    for name, (container, codec, options) in ways.items():
        rate = 48_000 if codec == "libopus" else SAMPLE_RATE
        form = "s16p" if codec in ("alac", "wavpack") else None
        made[name] = encoded.write(folder / "a", container, codec, [source], rate, form, options=options).read_bytes()
    return made


KINDS = (
    "MP4", "MP4 for the web", "MP4 in fragments", "ALAC", "Matroska", "ASF", "AAC", "WavPack", "FLAC in Ogg",
)  # fmt: skip


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_no_shorter_song(tmp_path: Path, whole: dict[str, bytes], kind: str, share: float) -> None:
    path, content = tmp_path / "a.wav", whole[kind]
    path.write_bytes(content[: int(share * len(content))])
    for read in (audio.read, audio.length):
        with pytest.raises(AudioError, match=rf"^{path}: (.*truncated|holds no samples)") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["MP4", "Matroska", "AAC", "WavPack", "FLAC in Ogg"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, whole: dict[str, bytes], kind: str) -> None:
    path, content = tmp_path / "a.m4a", bytearray(whole[kind])
    middle = len(content) // 2
    content[middle : middle + 2_000] = np.random.default_rng(0).bytes(2_000)
    path.write_bytes(bytes(content))
    with pytest.raises(AudioError, match=rf"^{path}: .*(damaged|truncated)") as caught:
        audio.read(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_audio_or_have_too_many_channels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    for content, said in ((b"", "empty"), (b"these are words, not samples\n" * 20, "not readable as audio")):
        path.write_bytes(content)
        for read in (audio.read, audio.length):
            with pytest.raises(AudioError, match=rf"^{path}: .*{said}"):
                read(path)
    encoded.write(path, "ipod", "aac", [np.concatenate([music(5_000)] * 3)])
    with pytest.raises(AudioError, match=rf"^{path}: expected 1 or 2 channels, found 6$"):
        audio.read(path)


def test_monkeys_audio_that_is_cut_off_is_known_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.ape"
    parts = struct.pack("<7I", 52, 24, 8, 44, 10_000, 0, 0)
    path.write_bytes(b"MAC " + struct.pack("<HH", 3990, 0) + parts + bytes(3_000))
    with pytest.raises(AudioError, match=rf"^{path}: truncated: 10128 bytes announced, 3036 found$"):
        audio.read(path)


def test_an_untrusted_file_reaches_no_other_decoder(whole: dict[str, bytes]) -> None:
    limits = audio.DecodingLimits(seconds=60, bytes=10**8)
    for content in whole.values():
        with pytest.raises(AudioError, match=r"^vocals: not readable as WAV, FLAC or MP3"):
            audio.decode(content, "vocals", limits=limits)
        assert audio.decode(content, "vocals")[0].shape[0] == 2


def test_the_suffix_does_not_say_what_a_file_is(tmp_path: Path, whole: dict[str, bytes]) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(whole["ALAC"])
    assert np.array_equal(audio.read(path)[0], music())
    buffer = io.BytesIO()
    soundfile.write(buffer, music().T, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    (tmp_path / "a.m4a").write_bytes(buffer.getvalue())
    assert np.array_equal(audio.read(tmp_path / "a.m4a")[0], music())
