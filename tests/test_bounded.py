"""Files that come from others are read within bounds, and refused in one line.

The kind: a small file that becomes large when it is read, because it is compressed (npz, checkpoints, FLAC), says so in
a header (arrays, sizes of a network), repeats itself (YAML's aliases, tensors that share their storage), or goes deep.
"""

import contextlib
import functools
import io
import json
import shutil
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fxnorm import Mixer, models
from fxnorm.effects import spectrum
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.errors import FxnormError, ModelError, SettingsError
from fxnorm.io import audio
from fxnorm.mixing import import_weights
from fxnorm.pipeline.cluster import Cluster
from fxnorm.settings import Settings
from fxnorm.stages import statistics as statistics_stage
from fxnorm.statistics import DatasetStatistics, import_reference_statistics
from fxnorm.training import checkpoints

DATA = Path(__file__).parent / "data"
MOST_BYTES = 60_000_000
CURVE = spectrum.BINS


@contextlib.contextmanager
def within_bounds() -> Iterator[None]:
    """Reading may take no more memory than some statistics do."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def refused(read: Callable[[], object], path: Path, kind: type[FxnormError] = ModelError) -> str:
    """The one line with which a file is refused."""
    with within_bounds(), pytest.raises(kind) as caught:
        read()
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 600
    assert str(path) in said
    return said


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    """An npy file that announces more than it holds."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + bytes(64)


@functools.cache
def zeros(name: str) -> bytes:
    """An archive of one array of 300 MB of zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(header((300 * 125_000,)))
        for _ in range(300):
            member.write(bytes(1_000_000))
    return buffer.getvalue()


def bomb(path: Path) -> None:
    path.write_bytes(zeros("equalization/vocals"))


def bomb_of_another_name(path: Path) -> None:
    path.write_bytes(zeros("notes"))


def many_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2_000):
            archive.writestr(f"{number}.npy", b"")


def twice(path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for level in (-20.0, -30.0):
            archive.writestr("loudness/bass.npy", npy(np.array(level)))


def encrypted(path: Path) -> None:
    holding({"loudness/bass": npy(np.array(-20.0))})(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def with_a_lie(path: Path) -> None:
    """The list of members says that an array is small."""
    bomb(path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (8 * CURVE).to_bytes(4, "little")
    path.write_bytes(content)


def holding(members: dict[str, bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)

    return write


ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "zeros": (bomb, "equalization/vocals: expected at most 32769 numbers"),
    "zeros under another name": (bomb_of_another_name, "unknown notes"),
    "many arrays": (many_arrays, "too many members"),
    "an array twice": (twice, "loudness/bass is there twice"),
    "an encrypted array": (encrypted, "loudness/bass is encrypted"),
    "a size that is a lie": (with_a_lie, "not readable"),
    "a header of more": (holding({"loudness/bass": header((10**12,))}), "loudness/bass: expected at most 1 numbers"),
    "a header of less than none": (holding({"loudness/bass": header((-1,))}), "loudness/bass"),
    "a curve of another length": (
        holding({"equalization/bass": npy(np.zeros(2 * CURVE))}),
        "equalization/bass: expected at most 32769 numbers",
    ),
    "numbers of many bytes": (holding({"loudness/bass": header((1,), "|V1000000000")}), "loudness/bass"),
    "text": (holding({"loudness/bass": npy(np.array("a" * 1000))}), "loudness/bass"),
    "an object": (holding({"loudness/bass": npy(np.array([{}], dtype=object))}), "not readable"),
    "a long name": (holding({"a\n" * 5_000: npy(np.array(1.0))}), "not readable"),
    "no array": (holding({"loudness/bass": b"text"}), "not readable"),
    "nothing": (Path.touch, "not readable"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_statistics_are_held_against_their_keys_before_they_are_inflated(name: str, tmp_path: Path) -> None:
    write, said = ARCHIVES[name]
    path = tmp_path / "statistics.npz"
    write(path)
    assert said in refused(lambda: DatasetStatistics.load(path), path)


@pytest.mark.parametrize("name", ["zeros", "zeros under another name", "a header of more", "an object", "nothing"])
def test_kept_features_of_a_song_are_too(name: str, tmp_path: Path) -> None:
    path = tmp_path / "song.npz"
    ARCHIVES[name][0](path)
    assert "not what a song measured" in refused(lambda: statistics_stage._read(path), path, FxnormError)


def test_statistics_that_numpy_writes_are_still_read(tmp_path: Path) -> None:
    arrays = {"equalization/bass": np.ones(CURVE, np.float32), "loudness/bass": np.array([-20.0])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "s.npz", **arrays)  # type: ignore[arg-type]
        assert float(DatasetStatistics.load(tmp_path / "s.npz").mean("loudness", "bass")) == -20.0


ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
TEXTS = {
    "aliases": ALIASES,
    "aliases in one line": "train: " + ALIASES.replace("\n", ", ").join(["{", "}"]),
    "merged aliases": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 25)),
    "a value within itself": "train: &a [*a]\n",
    "a deep list": "train: " + 5_000 * "[",
    "a month that is none": "train: {seed: 2024-13-13}\n",
    "a number of many digits": "train: {seed: " + 5_000 * "9" + "}\n",
    "a long value": "train: {seed: " + 50_000 * "x" + "}\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_settings_are_read_within_bounds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXTS[name])
    with pytest.raises(SettingsError) as caught:
        Settings.load(path)
    assert len(str(caught.value)) < 600
    refused(lambda: Cluster.load(path), path, SettingsError)
    if name != "a long value":
        refused(lambda: import_weights._read_config(path), path, SettingsError)


@pytest.mark.parametrize("value", ["2024-13-13", 3_000 * "[", 5_000 * "9", "&a [*a]"])
def test_a_value_on_the_command_line_is_too(value: str) -> None:
    with pytest.raises(SettingsError, match=r"--set train\.seed=.*: the value is not readable as YAML"):
        Settings.load(None, [f"train.seed={value}"])


def test_aliases_of_a_reasonable_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("statistics: &s {split: val}\nevaluate:\n  <<: *s\n")
    assert Settings.load(tmp_path / "params.yaml").evaluate.split == "val"


@pytest.mark.parametrize(
    "name, sizes",
    [
        ("crafx2", {}),
        ("crafx2", {"filters": 8, "bottleneck": 8, "hidden": 8, "skip": 8, "blocks": 1, "repeats": 1}),
        ("crafx2", {"filters": 16, "encoder_kernel": 16, "blocks": 1, "repeats": 1, "squeeze_ratio": 1}),
        ("wave_u_net", {}),
        ("wave_u_net", {"features": 8, "levels": 2, "kernel": 1, "stride": 2}),
    ],
)
def test_what_sizes_ask_for_is_known_without_building_the_network(name: str, sizes: dict[str, int]) -> None:
    network = models.build(name, **sizes)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters / 50 < network.sizes.least_parameters <= parameters


def described(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda description: description | changes


def sized(**sizes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda description: description | {"network": description["network"] | sizes}


MIXERS: dict[str, tuple[str, Callable[[dict[str, Any]], Any] | bytes, str]] = {
    "deep": ("mixer.json", 100_000 * b"[", "nested too deeply"),
    "no Unicode": ("mixer.json", b'{"format": "\xff"}', "not the description of a Mixer"),
    "a number of many digits": ("mixer.json", b'{"format": ' + 5_000 * b"9" + b"}", "not the description of a Mixer"),
    "large": ("mixer.json", b'{"format": "' + 17_000_000 * b" " + b'"}', "expected at most 16777216 bytes"),
    "a list": ("mixer.json", b"[]", "not the description of a Mixer"),
    "many filters": ("mixer.json", sized(filters=10**9), "filters: input should be less than or equal to"),
    "many features": ("mixer.json", sized(bottleneck=20_000, hidden=20_000), "does not fit"),
    "many blocks": ("mixer.json", sized(blocks=10**6), "blocks: input should be less than or equal to"),
    "no name": ("mixer.json", described(network={}), "network: expected a name and sizes"),
    "no network": ("mixer.json", described(network=[1]), "network: expected a name and sizes"),
    "endless": ("mixer.json", described(run_in_seconds=float("inf")), "run_in_seconds: expected 0 to 3600"),
    "a long run-in": ("mixer.json", described(run_in_seconds=1e12), "run_in_seconds: expected 0 to 3600"),
    "a run-in of words": ("mixer.json", described(run_in_seconds="long"), "run_in_seconds: expected 0 to 3600"),
    "deep settings": ("normalization.json", 100_000 * b"[", "nested too deeply"),
    "settings without Unicode": ("normalization.json", b"\xff", "not the settings of a normalization"),
    "no data": ("normalization.json", described(data=[1]), "not the settings of a normalization"),
    "a bomb": ("statistics.npz", b"", "not readable"),
}


@pytest.mark.parametrize("name", MIXERS)
def test_a_mixer_from_elsewhere_is_read_within_bounds(name: str, mixer_folder: Path, tmp_path: Path) -> None:
    file, change, said = MIXERS[name]
    folder = tmp_path / "mixer"
    shutil.copytree(mixer_folder, folder)
    path = folder / file
    if name == "a bomb":
        bomb(path)
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert said in refused(lambda: Mixer.load(folder), folder)


def test_impulse_responses_that_inflate_are_refused(tmp_path: Path) -> None:
    audio.write(tmp_path / "long.flac", np.zeros((1, 310 * 8_000), np.float32), 8_000)
    assert "long.flac" in refused(lambda: ImpulseResponses.from_folder(tmp_path), tmp_path, FxnormError)


def compressed(path: Path) -> None:
    torch.save({"state": {"weight": torch.zeros(1_000_000)}}, path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_compressed_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    compressed(path)
    said = "compressed, or with parts that overlap"
    assert said in refused(lambda: import_weights._read_checkpoint(path), path)
    assert said in refused(lambda: checkpoints._load(path), path)


def test_tensors_that_repeat_their_storage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert "its tensors repeat what is stored" in refused(lambda: import_weights._read_checkpoint(path), path)


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x04}r\x00\x00\x00\x01.",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x04" + 10**5 * b"(",
    ],
    ids=["a large memo", "a long string", "many marks"],
)
def test_pickles_of_arrays_that_claim_more_than_they_hold_are_bounded(code: bytes, tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    path.write_bytes(code)
    refused(lambda: import_reference_statistics(path), path)
