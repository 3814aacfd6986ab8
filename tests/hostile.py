"""Requests that nobody means well with, each with what the endpoint shall say to it."""

import base64
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.io.wavfile
import soundfile

from fxnorm.constants import SAMPLE_RATE
from fxnorm.io import audio
from tests.conftest import noise

JSON = {"Content-Type": "application/json"}
LARGE = 100_000_000


@dataclass(frozen=True)
class Request:
    """A POST to /invocations, and a part of the sentence, or the status, that answers it."""

    body: Any
    said: str = ""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


def _raw(body: Any, said: str, **headers: str) -> Callable[[], Request]:
    return lambda: Request(body() if callable(body) else body, said, headers=JSON | headers)


def _typed(kind: str | None) -> Callable[[], Request]:
    headers = {} if kind is None else {"Content-Type": kind}
    return lambda: Request(b'{"dataframe_records": [{"bass": ""}]}', "Content-Type", 415, headers)


def _content(content: Any, said: str) -> Callable[[], Request]:
    return lambda: Request(json.dumps(content).encode(), said, 400)


def _row(said: str, **row: Any) -> Callable[[], Request]:
    return _content({"dataframe_records": [row]}, said)


def _file(content: Callable[[], bytes], said: str) -> Callable[[], Request]:
    def build() -> Request:
        return _row(said, vocals=base64.b64encode(content()).decode())()

    return build


def _params(said: str, **params: Any) -> Callable[[], Request]:
    return _content({"dataframe_records": [{"bass": ""}], "params": params}, said)


def _wav(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> bytes:
    """A float WAV, of samples too that the library would not write."""
    buffer = io.BytesIO()
    scipy.io.wavfile.write(buffer, sample_rate, np.asarray(samples.T, dtype=np.float32))
    return buffer.getvalue()


def _other_format(name: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(0.5).T, SAMPLE_RATE, format=name)
    return buffer.getvalue()


def _wav_of_two_gigabytes() -> bytes:
    header = (
        b"RIFF" + struct.pack("<I", 2**31 - 1) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44100, 176400, 4, 16)
    )
    return header + b"data" + struct.pack("<I", 2**31 - 45) + bytes(1_000)


def _wav_with_channels(channels: int) -> bytes:
    samples = bytes(2 * 96 * 1_000)
    form = struct.pack("<IHHIIHH", 16, 1, channels, 44100, 88200 * channels, 2 * channels, 16)
    content = b"WAVEfmt " + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _rf64() -> bytes:
    sizes = struct.pack("<IQQQI", 28, 2**60, 2**60, 2**58, 0)
    form = struct.pack("<IHHIIHH", 16, 1, 2, 44100, 176400, 4, 16)
    return b"RF64\xff\xff\xff\xffWAVEds64" + sizes + b"fmt " + form + b"data\xff\xff\xff\xff" + bytes(1_000)


def _silent_flac(seconds: int, sample_rate: int) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate, 2, "PCM_24", format="FLAC") as file:
        for _ in range(seconds):
            file.write(np.zeros((sample_rate, 2), np.float32))
    return buffer.getvalue()


def _flac_announcing(frames: int) -> bytes:
    content = bytearray(audio.encode(np.zeros((2, SAMPLE_RATE)), SAMPLE_RATE, ".flac"))
    content[21] = (content[21] & 0xF0) | (frames >> 32)
    content[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(content)


def _zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("vocals.wav", bytes(LARGE))
    return buffer.getvalue()


def _enormous(output_format: str) -> Callable[[], Request]:
    """Samples that are finite, but whose squares are not."""

    def build() -> Request:
        row = {"bass": base64.b64encode(_wav(noise(1.0, 3e37))).decode()}
        content = {"dataframe_records": [row], "params": {"output_format": output_format}}
        return _content(content, "dBFS, expected at most +60 dBFS")()

    return build


def _noisy(value: float) -> bytes:
    samples = noise(0.5)
    samples[0, 100] = value
    return _wav(samples)


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1_000_000):
        yield bytes(1_000_000)


def _dribbled_json() -> bytes:
    return b'{"dataframe_records": [' + b"[]," * (LARGE // 3) + b"[]]}"


def _tracks(content: Callable[[], bytes], said: str, *names: str, **others: str) -> Callable[[], Request]:
    """Tracks with such names, all of one content."""

    def build() -> Request:
        file = base64.b64encode(content()).decode()
        return _row(said, tracks=dict.fromkeys(names, file), **others)()

    return build


HOSTILE: dict[str, Callable[[], Request]] = {
    # bodies
    "empty body": _raw(b"", "not JSON"),
    "words": _raw(b"these are words", "not JSON"),
    "half a body": _raw(b'{"dataframe_records": [{"bass": "', "not JSON"),
    "bytes that are not UTF-8": _raw(b'{"dataframe_records": [{"bass": "\xff\xfe"}]}', "not JSON"),
    "a list": _raw(b"[1]", "expected a JSON object"),
    "a number of a million digits": _raw(b"1" * 1_000_000, "not JSON"),
    "a number of a million digits for a stem": _raw(
        b'{"dataframe_records": [{"bass": ' + b"1" * 1_000_000 + b"}]}", "not JSON"
    ),
    "100,000 brackets deep": _raw(b"[" * 100_000, "rows"),
    "100 brackets deep": _raw(b'{"dataframe_records": ' + b"[" * 100 + b"]" * 100 + b"}", "list of objects"),
    "objects in objects": _raw(
        b'{"dataframe_records": [' + b'{"bass":' * 99 + b"1" + b"}" * 99 + b"]}", "expected the base64"
    ),
    "100 MB of lists": _raw(_dribbled_json, "rows"),
    "100 MB of numbers": _raw(lambda: b'{"inputs": [' + b"1," * (LARGE // 2) + b"1]}", "rows"),
    "100 MB of spaces": _raw(lambda: b" " * LARGE, "not JSON"),
    "100 MB of one string": _raw(
        lambda: b'{"dataframe_records": [{"vocals": "' + b"A" * LARGE + b'"}]}', "vocals: not readable"
    ),
    "more than the limit": lambda: Request(bytes(130_000_000), "larger than 120 MB", 413),
    "more than the limit, without saying so": lambda: Request(_chunks(130_000_000), "larger than 120 MB", 413),
    "a gzip bomb as Content-Encoding": _raw(
        lambda: gzip.compress(b" " * LARGE), "Content-Encoding", **{"Content-Encoding": "gzip"}
    ),
    "no Content-Type": _typed(None),
    "CSV": _typed("text/csv"),
    "Parquet": _typed("application/vnd.apache.parquet"),
    "a form": _typed("multipart/form-data; boundary=x"),
    "JSON in UTF-16": _typed("application/json; charset=utf-16"),
    # tables
    "10,000 columns": _row("rows", **{f"c{number}": "" for number in range(10_000)}),
    "10,000 rows": _content({"dataframe_records": [{"bass": ""}] * 10_000}, "at most 8 rows"),
    "no rows": _content({"dataframe_records": []}, "at least one row"),
    "a row without columns": _row("at least one row"),
    "an unknown column": _row("piano: unknown columns", piano=""),
    "a column with a line break and a tag": _row("unknown columns", **{"<b>\n": ""}),
    "rows with other columns": _content({"dataframe_records": [{"bass": ""}, {"drums": ""}]}, "row 2: other columns"),
    "null for a stem": _row("bass: expected the base64", bass=None),
    "a number for a stem": _row("bass: expected the base64", bass=1),
    "a list for a stem": _row("bass: expected the base64", bass=["QQ=="]),
    "an object for a stem": _row("bass: expected the base64", bass={"QQ==": 1}),
    "both orientations": _content({"dataframe_records": [], "dataframe_split": {}}, "dataframe_split: expected"),
    "ragged rows": _content(
        {"dataframe_split": {"columns": ["bass", "drums"], "data": [[""]]}}, "a value for every column"
    ),
    "a column twice": _content({"dataframe_split": {"columns": ["bass", "bass"], "data": [["", ""]]}}, "there twice"),
    "TensorFlow's format": _content({"instances": [{"bass": ""}]}, "expected a JSON object with dataframe_records"),
    # params
    "params as a list": _content({"dataframe_records": [{"bass": ""}], "params": [1]}, "params: expected"),
    "an unknown param": _params("speed: unknown", speed=2),
    "a param that is half a surrogate pair": _raw(
        b'{"dataframe_records": [{"bass": ""}], "params": {"\\ud800": 1}}', r"\ud800: unknown"
    ),
    "a param with a line break": _params(r"speed\nsecond line: unknown", **{"speed\nsecond line": 1}),
    "a param of ten thousand letters": _params("aaaa…: unknown", **{"a" * 10_000: 1}),
    "half a surrogate pair for output_format": _raw(
        b'{"dataframe_records": [{"bass": ""}], "params": {"output_format": "\\ud800"}}', "output_format: "
    ),
    "a text for dry": _params("dry: ", dry="yes"),
    "a path for output_format": _params("output_format: ", output_format="../../etc/passwd"),
    "a negative seed": _params("seed: ", seed=-1),
    "a seed beyond 64 bits": _params("seed: ", seed=2**64),
    "no number for target_loudness": _params("target_loudness: ", target_loudness=float("nan")),
    "20 dB over full scale": _params("target_loudness: ", target_loudness=20),
    "a true peak over full scale": _params("true_peak: ", true_peak=0.5),
    "a true peak that is not a number": _params("true_peak: ", true_peak=float("nan")),
    "a text for true_peak": _params("true_peak: ", true_peak="-1"),
    "a number for as_is": _params("as_is: ", as_is=1),
    "the network's level and another": _params("as_is: ", as_is=True, target_loudness=-14.0),
    "a number for bits": _params("bits: ", bits=16),
    "no bits that there are": _params("bits: ", bits="64"),
    "float FLAC": _params("bits: flac has 16 or 24", bits="32f", output_format="flac"),
    "bits of MP3": _params("bits: mp3 has no choice", bits="16", output_format="mp3"),
    "no sample rate that there is": _params("sample_rate: ", sample_rate=44_101),
    "a sample rate of zero": _params("sample_rate: ", sample_rate=0),
    "an enormous sample rate": _params("sample_rate: ", sample_rate=2**70),
    "a sample rate that MP3 lacks": _params("sample_rate: mp3 has", sample_rate=96_000, output_format="mp3"),
    # files
    "broken base64": _row("no base64", bass="%%% this is no base64 %%%"),
    "base64 that ends early": _row("no base64", bass="QUJDR"),
    "half a surrogate pair": _raw(b'{"dataframe_records": [{"bass": "\\ud800AAA"}]}', "no base64"),
    "words as a file": _file(lambda: b"these are words", "vocals: not readable as WAV, FLAC or MP3"),
    "a WAV that announces 2 GB": _file(_wav_of_two_gigabytes, "bytes of samples announced"),
    "an RF64 that announces an exabyte": _file(_rf64, "vocals: "),
    "a WAV of 96 channels": _file(lambda: _wav_with_channels(96), "found 96"),
    "a WAV without channels": _file(lambda: _wav_with_channels(0), "vocals: not readable"),
    "a WAV cut off": _file(lambda: _wav(noise(0.5))[:-1_000], "truncated"),
    "a WAV of a hundred thousand chunks": _file(
        lambda: b"RIFF\xff\xff\xff\x7fWAVE" + 100_000 * (b"junk" + bytes(4)), "no samples after"
    ),
    "a WAV without samples": _file(lambda: _wav(np.zeros((2, 0))), "vocals: "),
    "a WAV at 1 Hz": _file(lambda: _wav(noise(0.1), 1), "expected a sample rate"),
    "a WAV at 2 GHz": _file(lambda: _wav(noise(0.1), 2_000_000_000 // 8), "expected a sample rate"),
    "a sample that is not a number": _file(lambda: _noisy(np.nan), "NaN"),
    "an infinite sample": _file(lambda: _noisy(np.inf), "infinite"),
    "finite but enormous samples, mixed to WAV": _enormous("wav"),
    "finite but enormous samples, mixed to FLAC": _enormous("flac"),
    "finite but enormous samples, mixed to MP3": _enormous("mp3"),
    "silence alone": _file(lambda: _wav(np.zeros((2, 4_410))), "silent"),
    "a FLAC of 700 s of silence": _file(lambda: _silent_flac(700, SAMPLE_RATE), "at most 600 s"),
    "a FLAC of 599 s of silence at 192 kHz": _file(lambda: _silent_flac(599, 192_000), "silent"),
    "a FLAC that announces 68 billion samples": _file(lambda: _flac_announcing(2**36 - 1), "at most 600 s"),
    "a FLAC that announces more than it holds": _file(lambda: _flac_announcing(2 * SAMPLE_RATE), "vocals: "),
    "a FLAC of unknown length": _file(lambda: _flac_announcing(0), "silent"),
    "an Ogg file": _file(lambda: _other_format("OGG"), "not readable as WAV, FLAC or MP3"),
    "an AIFF file": _file(lambda: _other_format("AIFF"), "not readable as WAV, FLAC or MP3"),
    "an MP3 tag of 256 MB": _file(lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1_000), "vocals: "),
    "a zip bomb": _file(_zip_bomb, "vocals: not readable"),
    "a gzip bomb": _file(lambda: gzip.compress(bytes(LARGE)), "vocals: not readable"),
    # addresses
    "a local file": _row("expected a URI such as s3://", bass_uri="file:///etc/passwd"),
    "a local path": _row("expected a URI such as s3://", bass_uri="/etc/passwd"),
    "a web page": _row("expected a URI such as s3://", bass_uri="http://127.0.0.1/bass.wav"),
    "a cloud's own address": _row("expected a URI such as s3://", bass_uri="http://169.254.169.254/latest/meta-data"),
    "another bucket": _row("not below a prefix", bass_uri="s3://other/stems/bass.wav"),
    "another folder": _row("not below a prefix", bass_uri="s3://fxnorm/secret/bass.wav"),
    "a folder whose name begins alike": _row("not below a prefix", bass_uri="s3://fxnorm/stems-of-others/bass.wav"),
    "a way out of the folder": _row("segments", bass_uri="s3://fxnorm/stems/../secret/bass.wav"),
    "an empty segment": _row("segments", bass_uri="s3://fxnorm/stems//secret/bass.wav"),
    "a line break in a key": _row("segments", bass_uri="s3://fxnorm/stems/a\nb"),
    "half a surrogate pair for an address": _raw(
        b'{"dataframe_records": [{"bass_uri": "\\ud800"}]}', r"\ud800: expected a URI"
    ),
    "half a surrogate pair in a key": _raw(
        b'{"dataframe_records": [{"bass_uri": "s3://fxnorm/stems/\\ud800"}]}', r"\ud800: expected a key"
    ),
    "a key of 1,025 bytes": _row("at most 1024 bytes", bass_uri="s3://fxnorm/stems/" + "ä" * 509 + "a"),
    "a key of 1,024 bytes that is not there": _row("cannot be read", bass_uri="s3://fxnorm/stems/" + "a" * 1_018),
    "a key of a million bytes": _row("at most 1024 bytes", bass_uri="s3://fxnorm/stems/" + "a" * 1_000_000),
    "the folder itself": _row("segments", bass_uri="s3://fxnorm/stems/"),
    "an object that is not there": _row("cannot be read", bass_uri="s3://fxnorm/stems/drums.wav"),
    "an object of words": _row("not readable", bass_uri="s3://fxnorm/stems/words.wav"),
    "a file and an address": _row(
        "found both", bass=base64.b64encode(b"RIFF").decode(), bass_uri="s3://fxnorm/stems/bass.wav"
    ),
    "a reference of words": _row("reference: not readable", reference=base64.b64encode(b"words").decode()),
    "a reference that is too short": _row(
        "too short for a reference", reference=base64.b64encode(audio.encode(noise(0.1), SAMPLE_RATE, ".flac")).decode()
    ),
    "a reference from another folder": _row("not below a prefix", reference_uri="s3://fxnorm/secret/bass.wav"),
    "an address for a file": _row("no base64", bass="s3://fxnorm/secret/bass.wav"),
    # tracks
    "no tracks": _row("at least one stem", tracks={}),
    "too many tracks": _row("at most 128, found 129", tracks={f"{number}.wav": "QQ==" for number in range(129)}),
    "a hundred thousand tracks": _row("rows", tracks={f"{number}.wav": "QQ==" for number in range(100_000)}),
    "a list of tracks": _row("tracks: expected an object", tracks=["QQ=="]),
    "a text for tracks": _row("tracks: expected an object", tracks="QQ=="),
    "null for tracks": _row("tracks: expected an object", tracks=None),
    "a number for a track": _row("Kick.wav: expected the base64", tracks={"Kick.wav": 1}),
    "an object in an object of tracks": _row("Kick.wav: expected the base64", tracks={"Kick.wav": {"a": "QQ=="}}),
    "nothing for a track": _row("Kick.wav: expected the base64", tracks={"Kick.wav": ""}),
    "a track that is no base64": _row("Kick.wav: expected the base64", tracks={"Kick.wav": "%%%"}),
    "words for a track": _tracks(lambda: b"words", "Kick.wav: not readable", "Kick.wav"),
    "an Ogg file for a track": _tracks(
        lambda: _other_format("OGG"), "Kick.wav: not readable as WAV, FLAC or MP3", "Kick.wav"
    ),
    "a track of 700 s": _tracks(lambda: _silent_flac(700, SAMPLE_RATE), "at most 600 s", "Kick.wav"),
    "128 tracks of 599 s of silence": _tracks(
        lambda: _silent_flac(599, SAMPLE_RATE),
        "longer than 2000 s together",
        *(f"Kick{number}.wav" for number in range(128)),
    ),
    "silent tracks alone": _tracks(lambda: _wav(np.zeros((2, 4_410))), "silent", "Kick.wav", "Snare.wav"),
    "a 5.1 track": _tracks(lambda: _wav_with_channels(6), "found 6", "Kick.wav"),
    "an empty track": _tracks(lambda: b"\0", "Kick.wav: ", "Kick.wav"),
    "a track twice": _raw(
        b'{"dataframe_records": [{"tracks": {"Kick.wav": "QQ==", "Kick.wav": "QQ=="}}]}', "Kick.wav: is there twice"
    ),
    "a column twice in an object": _raw(b'{"dataframe_records": [{"bass": "", "bass": ""}]}', "bass: is there twice"),
    "a track with a path": _row("without folders", tracks={"../../etc/passwd": "QQ=="}),
    "a track with a path of Windows": _row("without folders", tracks={"..\\kick.wav": "QQ=="}),
    "a track with a line break": _row(r"Kick\n.wav: expected the name", tracks={"Kick\n.wav": "QQ=="}),
    "a track without a name": _row("expected the name", tracks={"": "QQ=="}),
    "a track named by half a surrogate pair": _raw(
        b'{"dataframe_records": [{"tracks": {"\\ud800": "QQ=="}}]}', r"\ud800: expected the name"
    ),
    "a track with a name of 10 kB": _row("at most 255 bytes", tracks={"a" * 10_000: "QQ=="}),
    "tracks and stems": _tracks(lambda: _wav(noise(0.5)), "either tracks or stems", "Kick.wav", bass="QQ=="),
    "tracks and the address of a stem": _tracks(
        lambda: _wav(noise(0.5)), "either tracks or stems", "Kick.wav", bass_uri="s3://fxnorm/stems/bass.wav"
    ),
    "a track outside the prefix": _row("not below a prefix", tracks={"Kick.wav": "s3://fxnorm/secret/bass.wav"}),
    "a track at a way out of the folder": _row("segments", tracks={"Kick.wav": "s3://fxnorm/stems/../secret/bass.wav"}),
    "two tracks for one side": _row(
        "one side of a stereo pair",
        tracks={
            f"{name}.wav": base64.b64encode(_wav(noise(0.5, seed=seed, channels=1))).decode()
            for seed, name in enumerate(("OH_L", "OHL", "OH_R"))
        },
    ),
    "a table that is no JSON": _row("table: is not JSON", tracks={"Kick.wav": "QQ=="}, table="tracks: []"),
    "a table 10,000 brackets deep": _raw(
        b'{"dataframe_records": [{"tracks": {}, "table": "' + b"[" * 10_000 + b'"}]}', "rows"
    ),
    "a table with an unknown key": _row(
        "speed: unknown key",
        tracks={"Kick.wav": "QQ=="},
        table='{"tracks": [{"file": "Kick.wav", "group": "drums", "speed": 2}]}',
    ),
    "a table of other tracks": _row(
        "Snare.wav: not among the tracks",
        tracks={"Kick.wav": "QQ=="},
        table='{"tracks": [{"file": "Kick.wav", "group": "drums"}, {"file": "Snare.wav", "group": "drums"}]}',
    ),
    "a table with a path": _row(
        "leaves the folder",
        tracks={"Kick.wav": "QQ=="},
        table='{"tracks": [{"file": "../../etc/passwd", "group": "drums"}]}',
    ),
    "a table that turns a track up by 1,000 dB": _row(
        "gain_db",
        tracks={"Kick.wav": "QQ=="},
        table='{"tracks": [{"file": "Kick.wav", "group": "drums", "gain_db": 1000}]}',
    ),
    "a table without tracks": _row("tracks: ", tracks={"Kick.wav": "QQ=="}, table='{"tracks": []}'),
    "a table alone": _row("Kick.wav: not among", table='{"tracks": [{"file": "Kick.wav", "group": "drums"}]}'),
}
