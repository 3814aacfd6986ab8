"""The kind: a ``.dvc`` file is taken to be as ``dvc add`` writes it for a folder, or to fit what lies there.

Whatever DVC or a user makes of it gives the hash that stands for the data, or one line, and never a lost result.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fxnorm.data import dataset, shards
from fxnorm.data.dvc_file import parse, version_of
from fxnorm.data.versions import data_version
from fxnorm.errors import DatasetError
from fxnorm.io import audio
from tests.conftest import noise

HASH = "0123456789abcdef0123456789abcdef.dir"
FILES = [{"relpath": f"{name}.wav", "md5": name * 32, "size": 3, "cloud": {"s3": {"etag": "e"}}} for name in "ba"]
LISTED = json.dumps([{"md5": name * 32, "relpath": f"{name}.wav"} for name in "ab"], sort_keys=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"outs": [{"md5": HASH, "size": 3, "nfiles": 1, "hash": "md5", "path": "data"}]}, HASH),
        ({"outs": [{"md5": HASH, "path": "data"}]}, HASH),  # DVC 2
        ({"outs": [{"md5": "other", "path": "more"}, {"md5": HASH, "path": "data"}]}, HASH),
        ({"wdir": ".", "outs": [{"md5": HASH, "path": "data/"}]}, HASH),
        ({"outs": [{"etag": '"abc-2"', "path": "data"}]}, '"abc-2"'),
        ({"outs": [{"checksum": "c0ffee", "path": "data"}]}, "c0ffee"),
        ({"outs": [{"hash": "sha256", "sha256": "5ha", "path": "data"}]}, "5ha"),
        ({"outs": [{"path": "data", "cloud": {"s3": {"etag": "abc", "version_id": "7"}}}]}, "abc"),
        ({"deps": [{"etag": "src", "path": "s3://a"}], "outs": [{"path": "data", "hash": "md5"}]}, "src"),
        ({"deps": [{"path": "d", "repo": {"url": "u", "rev_lock": "c0"}}], "outs": [{"path": "data"}]}, "c0"),
        (
            {"outs": [{"path": "data", "hash": "md5", "files": FILES}]},
            hashlib.md5(LISTED.encode()).hexdigest() + ".dir",
        ),
    ],
)
def test_the_hash_is_that_of_any_kind_of_dvc_file(content: dict[str, object], expected: str) -> None:
    assert parse(yaml.safe_dump(content).encode(), "data", "data.dvc").hash == expected


def test_versions_of_files_without_md5_stand_for_a_folder_too(tmp_path: Path) -> None:
    def digest(etag: str) -> str:
        files = [{"relpath": "a.wav", "etag": etag, "version_id": "1", "size": 3}]
        return parse(yaml.safe_dump({"outs": [{"path": "data", "files": files}]}).encode(), "data", "data.dvc").hash

    assert digest("one") == digest("one") != digest("two")


BROKEN = {
    "empty": b"",
    "words": b"these are words",
    "list": b"- a\n- b\n",
    "bytes": b"\xff\xfe\0",
    "tabs": b"outs:\n\t- md5: a\n",
    "no outs": b"md5: abc\n",
    "outs of nothing": b"outs:\n",
    "outs of words": b"outs: [data]\n",
    "no hash": b"outs:\n- path: data\n",
    "another folder": b"outs:\n- {md5: abc, path: songs}\n",
    "files of nothing": b"outs:\n- {path: data, files: [{relpath: a}]}\n",
    "conflict": b"outs:\n<<<<<<< HEAD\n- md5: a.dir\n=======\n- md5: b.dir\n>>>>>>> theirs\n  path: data\n",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_none_is_named_in_one_line_and_loses_nothing(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DatasetError, match=r"data\.dvc: expected") as caught:
        parse(content, "data", "data.dvc")
    assert "\n" not in str(caught.value)
    assert ("merge conflict" in str(caught.value)) == (b"<<<<" in content)
    audio.write(tmp_path / "data/A/bass.wav", noise(0.1))
    (tmp_path / "data.dvc").write_bytes(content)
    songs = dataset.songs(tmp_path / "data")
    assert data_version(tmp_path / "data", songs) == {"digest": dataset.digest(songs)}
    assert "data.dvc: expected" in caplog.text


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that DVC tracks, within its repository; not to be written to."""
    folder = tmp_path_factory.mktemp("tracked")
    for number, song in enumerate(("train/A", "train/B", "val/C")):
        audio.write(folder / "data/wet" / song / "bass.wav", noise(0.1, seed=number))
    for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "add", "-q", "data")):
        subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture
def here(tracked: Path, tmp_path: Path) -> Path:
    """The same, to be written to."""
    return shutil.copytree(tracked, tmp_path / "here")


def version(folder: Path, split: str = "train") -> str | None:
    return version_of(folder / "data", dataset.songs(folder / "data/wet", split))


def known_hash(folder: Path) -> str:
    return str(yaml.safe_load((folder / "data.dvc").read_text())["outs"][0]["md5"])


def other_sound(data: Path) -> None:
    audio.write(data / "wet/train/A/bass.wav", noise(0.1, seed=9))  # of the same length


def one_song_less(data: Path) -> None:
    shutil.rmtree(data / "wet/train/B")


def one_song_more(data: Path) -> None:
    shutil.copytree(data / "wet/train/B", data / "wet/train/D")


@pytest.mark.parametrize("cache", [True, False])
def test_the_hash_is_told_where_it_fits(here: Path, cache: bool) -> None:
    if not cache:
        shutil.rmtree(here / ".dvc")  # as tasks on a cluster have the data
    (here / "data/.DS_Store").touch()
    assert version(here) == version(here, "val") == known_hash(here)


@pytest.mark.parametrize("change", [other_sound, one_song_less, one_song_more])
def test_a_hash_of_other_data_than_was_read_is_not_told(
    here: Path, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(here / "data")
    assert version(here) is None
    assert f"{here / 'data.dvc'}: is of other data than lies there now" in caplog.text
    assert version(here, "val") == known_hash(here), "these songs are still as they were tracked"
    monkeypatch.setenv("DVC_STAGE", "normalize")
    monkeypatch.setenv("DVC_ROOT", str(here))
    assert version(here) == known_hash(here), "DVC has just brought its file up to date"
    monkeypatch.setenv("DVC_ROOT", str(here / "elsewhere"))
    assert version(here) is None


@pytest.mark.parametrize("change", [one_song_less, one_song_more])
def test_without_a_list_of_files_their_number_and_size_are_compared(here: Path, change: Callable[[Path], None]) -> None:
    shutil.rmtree(here / ".dvc")
    change(here / "data")
    assert version(here) is None


def test_a_folder_called_dvc_and_a_folder_nobody_tracks_have_no_version(here: Path) -> None:
    (here / "data.dvc").unlink()
    assert version(here) is None
    (here / "data.dvc").mkdir()
    assert version(here) is None


def test_shards_that_know_their_own_songs_alone_know_the_version_together(tmp_path: Path) -> None:
    digests = {"train": {name: f"{name} hash" for name in ("A", "B", "C")}, "val": {"D": "D hash"}}
    whole = shards.Whole(counts={"val": 1, "train": 3}, dvc="abc.dir")
    parts = [tmp_path / name for name in ("one", "two")]
    for part, train, val in zip(parts, (("C", "A"), ("B",)), ((), ("D",)), strict=True):
        part.mkdir()
        of_part = {
            "train": {name: digests["train"][name] for name in train},
            "val": {name: digests["val"][name] for name in val},
        }
        shards.note_part(part, whole, of_part)
    in_order = [("D", "D hash"), *sorted(digests["train"].items())]
    assert shards.version_of_all(parts) == {"digest": dataset.digest_of(in_order), "dvc": "abc.dir"}
    assert shards.version_of_all([tmp_path]) is None
    for some, said in ((parts[:1], "1 songs of val in all shards expected, found 0"), ([*parts, parts[0]], "another")):
        with pytest.raises(DatasetError, match=said):
            shards.version_of_all(some)
