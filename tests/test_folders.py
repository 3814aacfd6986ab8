"""The kind: what a system, an editor or a download leaves in a folder is no file of ours, wherever we look.

One list says what; each place that looks into a folder is tried with a whole collection of such files.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from fxnorm.data import dataset
from fxnorm.effects.impulse_responses import ImpulseResponses, folders_in
from fxnorm.errors import DatasetError
from fxnorm.io import audio
from fxnorm.io.folders import entries, files_below, is_foreign, without_foreign
from fxnorm.io.object_store import Folder
from fxnorm.listening_test.build import find_mixes
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.normalization.recipe import Recipe
from fxnorm.stages.normalize import gather
from fxnorm.training.checkpoints import StoredCheckpoints
from tests.conftest import noise

pytestmark = pytest.mark.system

FILES = (
    "._a{0}", ".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", ".~lock.a{0}#", "a{0}~", "a{0}.part", ".a{0}.swp",
    "a{0}.tmp", "a{0}.crdownload", ".a.x8_k2bq1{0}", "~$a{0}", "#a{0}#", "Icon\r", ".nfs00000000a8", ".directory",
)  # fmt: skip
FOLDERS = (
    "__MACOSX", ".ipynb_checkpoints", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "#recycle",
    "@eadir", ".Trashes", ".cache", "__pycache__",
)  # fmt: skip


def litter(folder: Path, suffix: str = ".wav") -> None:
    """Leave a file of each kind, and in a folder of each kind a file whose name says that it is one of ours."""
    for name in FILES:
        (folder / name.format(suffix)).write_bytes(b"\0\5\x16\7 not ours")
    for name in FOLDERS:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"a{suffix}").write_bytes(b"not ours")


@pytest.mark.parametrize("name", [name.format(".wav") for name in FILES])
def test_a_file_that_something_left_is_foreign(name: str) -> None:
    assert is_foreign(name)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_something_left_is_foreign(name: str) -> None:
    assert is_foreign(name, folder=True)


@pytest.mark.parametrize(
    "name", ["Suite, second.part", "Intro~", "Room #9", "#1", "~ø~", "Who Are You?", "tmp", "Icons"]
)
def test_a_song_may_have_a_strange_name(name: str) -> None:
    assert not is_foreign(name, folder=True)


def test_folders_are_read_without_them(tmp_path: Path) -> None:
    (tmp_path / "b/c").mkdir(parents=True)
    for name in ("a.wav", "b/c/d.wav"):
        (tmp_path / name).touch()
    litter(tmp_path)
    litter(tmp_path / "b")
    assert entries(tmp_path) == [tmp_path / "a.wav", tmp_path / "b"]
    assert files_below(tmp_path) == [tmp_path / "a.wav", tmp_path / "b/c/d.wav"]
    with without_foreign(tmp_path) as ours:
        assert [path.relative_to(ours).as_posix() for path in files_below(ours)] == ["a.wav", "b/c/d.wav"]
        assert len([path for path in ours.rglob("*") if path.is_file()]) == 2


def test_impulse_responses_are_read_without_them(tmp_path: Path) -> None:
    for name in ("reverb/room.wav", "pre_reverb/room.wav"):
        audio.write(tmp_path / name, noise(0.1))
        litter((tmp_path / name).parent)
    litter(tmp_path)
    reverb, pre_reverb = folders_in(tmp_path)
    assert (reverb, pre_reverb) == (tmp_path / "reverb", tmp_path / "pre_reverb")
    assert ImpulseResponses.from_folder(tmp_path / "reverb").names == ("room",)


@pytest.mark.parametrize("names", [("a.wav", "a.flac"), ("A.wav", "a.wav"), ("b.WAV", "b.flac"), ("B.FLAC", "b.wav")])
def test_impulse_responses_of_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        audio.write(tmp_path / f"{number}{Path(name).suffix.lower()}", noise(0.1))
        (tmp_path / f"{number}{Path(name).suffix.lower()}").rename(tmp_path / name)
    with pytest.raises(DatasetError, match="one impulse response of each name") as caught:
        ImpulseResponses.from_folder(tmp_path)
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("left", [["room.aif"], ["rooms/hall.wav"], ["room.mp3", "Thumbs.db"]])
def test_impulse_responses_that_are_not_read_are_said(
    tmp_path: Path, left: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    audio.write(tmp_path / "hall.wav", noise(0.1))
    for name in left:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"something")
    assert len(ImpulseResponses.from_folder(tmp_path)) == 1
    assert left[0] in caplog.text
    assert "Thumbs" not in caplog.text


def test_datasets_and_what_is_normalized_are_read_without_them(tmp_path: Path, mixer_folder: Path) -> None:
    for part in ("one", "two"):
        audio.write(tmp_path / part / f"train/Song {part}/vocals.wav", noise(0.1))
        Recipe.load(mixer_folder).save(_new(tmp_path / part / "recipe"))
        for folder in (tmp_path / part, tmp_path / part / "train", tmp_path / part / f"train/Song {part}"):
            litter(folder)
            litter(folder, "s.wav")
    before = dataset.digest(dataset.songs(tmp_path / "one"))
    layout = dataset.Layout.read(tmp_path / "one")
    assert (layout.unused, layout.problems) == ([], {})
    litter(tmp_path / "one/train/Song one", ".flac")
    assert dataset.digest(dataset.songs(tmp_path / "one")) == before
    gather([tmp_path / "one", tmp_path / "two"], tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole/train").iterdir()) == ["Song one", "Song two"]


def test_a_mixer_stays_the_same_mixer_with_them(tmp_path: Path, mixer_folder: Path) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
    before = (mixer_digest(mixer), Recipe.load(mixer).digest(mixer))
    for folder in (mixer, mixer / "impulse_responses", mixer / "impulse_responses/reverb"):
        litter(folder)
    assert (mixer_digest(mixer), Recipe.load(mixer).digest(mixer)) == before


def test_mixes_of_a_listening_test_are_found_without_them(tmp_path: Path) -> None:
    for name in ("x.flac", "y.FLAC"):
        audio.write(tmp_path / "Song" / name.lower(), noise(0.1))
        (tmp_path / "Song" / name.lower()).rename(tmp_path / "Song" / name)
    litter(tmp_path, ".flac")
    litter(tmp_path / "Song", ".flac")
    (song,) = find_mixes(tmp_path)
    assert list(song.mixes) == ["x", "y"]


def test_checkpoints_are_sent_to_a_store_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(Folder, "upload", lambda self, path, name: sent.append(name))
    (tmp_path / "step-000000001.pt").touch()
    for name in FILES:
        (tmp_path / name.format(".pt")).touch()
    StoredCheckpoints(tmp_path, store=Folder("s3://bucket/key")).publish()
    assert sent == ["step-000000001.pt"]


def test_dvc_leaves_out_what_systems_leave(tmp_path: Path) -> None:
    for command in (("git", "init", "-q"), ("dvc", "init", "-q")):
        subprocess.run(command, cwd=tmp_path, check=True)
    shutil.copy(Path(__file__).parents[1] / ".dvcignore", tmp_path)
    names = ["._a.wav", ".DS_Store", "Thumbs.db", "desktop.ini", ".~lock.a#", ".a.wav.swp", "@eaDir/a.wav"]
    names += ["__MACOSX/a", "lost+found/a", "#recycle/a", "$RECYCLE.BIN/a", ".ipynb_checkpoints/a", "song/a.wav"]
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"content")
    subprocess.run(("dvc", "add", "-q", "data"), cwd=tmp_path, check=True)
    assert "nfiles: 1\n" in (tmp_path / "data.dvc").read_text()


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
