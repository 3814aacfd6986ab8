"""Songs of a git revision, brought from DVC's remote storage in an S3 store, as tasks on a cluster bring them."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from fxnorm.data.dataset import parse_shard, songs
from fxnorm.data.listing import ListedFile, Listing
from fxnorm.data.versions import data_version
from fxnorm.errors import DatasetError
from fxnorm.settings import Settings
from fxnorm.stages import fetch
from tests import servers
from tests.folders import contents
from tests.project import Project

pytestmark = pytest.mark.system

FILES = {"wet/train/A/bass.wav": b"one", "wet/train/B/bass.wav": b"two"}


def brought(*arguments: str) -> tuple[Listing, dict[str, bytes]]:
    """The listing of a revision, and what all its songs hold."""
    listing = fetch.list_songs(*arguments)
    with fetch.songs(listing, {"wet": []}) as data:
        return listing, contents(data)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, s3_environment: dict[str, str]) -> Project:
    """A repository with two versions of its data, the first tagged, and no cache of its own any more."""
    project = Project(tmp_path_factory.mktemp("published"))
    project.environment |= s3_environment
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "remote", "add", "-q", "--default", "store", "s3://fxnorm/fetched")
    for number, suffix in enumerate((b"", b" again")):
        for name, content in FILES.items():
            file = project.folder / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content + suffix)
        project.run("dvc", "add", "-q", "data")
        project.run("dvc", "push", "-q")
        project.commit(f"version {number}")
        project.run("git", "tag", f"v{number}")
    return project


@pytest.fixture
def address(published: Project, s3_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a clone without data lies, with the store's credentials in the environment."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(published.folder), str(clone)], check=True)
    return str(clone)


def test_a_revision_stands_for_its_commit_and_its_data(published: Project, address: str, tmp_path: Path) -> None:
    for revision, suffix in (("v0", b""), ("v1", b" again"), ("main", b" again")):
        commit = fetch.resolve(address, revision)
        assert commit == published.run("git", "rev-parse", f"{revision}^{{commit}}").strip()
        listing, found = brought(address, commit)
        assert found == {name: text + suffix for name, text in FILES.items()}
        assert listing.hash == yaml.safe_load(published.run("git", "show", f"{revision}:data.dvc"))["outs"][0]["md5"]
        listing.save(tmp_path / "listing")
        assert Listing.load(tmp_path / "listing") == listing


@pytest.mark.parametrize(
    "where, said",
    [
        ({"revision": "v9"}, "at v9: cannot be fetched"),
        ({"path": "songs"}, "no songs.dvc; 'dvc add songs' makes it"),
        ({"remote": "elsewhere"}, "elsewhere"),
        ({"repository": "no/such/repository"}, "no/such/repository at main: cannot be fetched"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(address: str, where: dict[str, str], said: str) -> None:
    arguments = {"repository": address, "revision": "main", "path": "data", "remote": ""} | where
    with pytest.raises(DatasetError) as caught:
        fetch.list_songs(**arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_the_remote_lacks_or_has_damaged_is_an_error_and_not_another_dataset(
    published: Project, s3_environment: dict[str, str], address: str, tmp_path: Path
) -> None:
    store = servers.s3_client(s3_environment)
    (key,) = [
        item["Key"]
        for item in store.list_objects_v2(Bucket="fxnorm", Prefix="fetched/")["Contents"]
        if store.get_object(Bucket="fxnorm", Key=item["Key"])["Body"].read() == b"one"
    ]
    try:
        store.delete_object(Bucket="fxnorm", Key=key)
        with pytest.raises(DatasetError, match="at v0: cannot be fetched"):
            brought(address, "v0")
        store.put_object(Bucket="fxnorm", Key=key, Body=b"another one")
        with pytest.raises(DatasetError, match=r"data/wet/train/A/bass.wav: its content is not what DVC tracks"):
            brought(address, "v0")
    finally:
        store.put_object(Bucket="fxnorm", Key=key, Body=b"one")


@pytest.fixture(scope="module")
def imported(published: Project, tmp_path_factory: pytest.TempPathFactory, s3_environment: dict[str, str]) -> Project:
    """A repository with folders that DVC tracks in other ways than by ``dvc add`` and a plain remote."""
    store = servers.s3_client(s3_environment)
    store.create_bucket(Bucket="versioned")
    store.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for name, content in FILES.items():
        store.put_object(Bucket="versioned", Key=f"source/{name}", Body=content)
    project = Project(tmp_path_factory.mktemp("imported"))
    project.environment |= s3_environment
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    project.run("dvc", "remote", "add", "-q", "--default", "store", "s3://fxnorm/imported")
    project.run("dvc", "remote", "add", "-q", "versions", "s3://versioned/store")
    project.run("dvc", "remote", "modify", "-q", "versions", "version_aware", "true")
    for name, content in FILES.items():
        file = project.folder / "versioned" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    project.run("dvc", "add", "-q", "versioned")
    project.run("dvc", "push", "-q", "--remote", "versions", "versioned")
    project.run("dvc", "add", "-q", "--to-remote", "--out", "sent", "versioned")
    project.run("dvc", "import-url", "-q", "--version-aware", "s3://versioned/source", "aware")
    project.commit("start")
    project.run("git", "checkout", "-q", "-b", "merged")
    (project.folder / "broken.dvc").write_text("outs:\n<<<<<<< HEAD\n")
    project.commit("a merge conflict")
    return project


@pytest.mark.parametrize(("path", "remote"), [("versioned", "versions"), ("sent", ""), ("aware", "")])
def test_a_folder_that_is_tracked_in_another_way_is_brought_too(
    imported: Project, address: str, tmp_path: Path, path: str, remote: str
) -> None:
    """The kind: a ``.dvc`` file is taken to be as ``dvc add`` writes it with a plain remote."""
    listing, found = brought(str(imported.folder), "main", path, remote)
    assert found == FILES
    assert listing.hash.endswith(".dir")


def test_a_merge_conflict_in_what_tracks_a_folder_is_named_in_one_line(
    imported: Project, address: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError) as caught:
        fetch.list_songs(str(imported.folder), "merged", "broken")
    assert "broken.dvc: expected a file that 'dvc add' writes, found another with a merge conflict" in str(caught.value)
    assert "\n" not in str(caught.value)


SONGS = {"train": 40, "val": 16, "test": 8}
SHARDS = 8
SETTINGS = Settings.of({})
KILLER = """
import os, sys, threading
from pathlib import Path
from fxnorm.data.listing import Listing
from fxnorm.stages import fetch
checked, check, bring, alone = [], fetch._Source._check, fetch._Source._bring_one, threading.Lock()
def one_after_the_other(self, place, name):
    with alone:  # so that four are whole when the fifth is here
        bring(self, place, name)
def die_at_the_fifth(self, file, found):
    checked.append(file)
    if len(checked) == 5:
        os._exit(9)
    check(self, file, found)
fetch._Source._check, fetch._Source._bring_one = die_at_the_fifth, one_after_the_other
with fetch.songs(Listing.load(Path(sys.argv[1])), {"wet": ["train"]}, (1, 8), cache=Path(sys.argv[2])):
    pass
"""


class Store:
    """A repository with 64 songs, and an S3 store of its own that has their files and counts how often each is read."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.project = Project(folder / "songs")
        self.project.folder.mkdir()
        self.project.environment |= environment
        self._log, self._seen = folder / "s3.log", 0
        self.names: dict[str, str] = {}
        for split, count in SONGS.items():
            for number in range(count):
                for stem in ("bass", "mixture"):
                    file = self.project.folder / f"data/wet/{split}/{number:02}/{stem}.wav"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(f"{split} {number} {stem}")
        (self.project.folder / "data/wet/notes.txt").write_text("nobody reads this")
        run = self.project.run
        run("git", "init", "-q", "-b", "main")
        run("dvc", "init", "-q")
        run("dvc", "remote", "add", "-q", "--default", "store", "s3://fxnorm/dvc")
        run("dvc", "add", "-q", "data")
        run("dvc", "push", "-q")
        self.project.commit("songs")
        run("git", "clone", "-q", ".", str(folder / "clone"))
        self.address = str(folder / "clone")
        self.reads()

    def reads(self) -> Counter[str]:
        """How often each object has been read since the last time, by the paths of the files that it is of."""
        keys = servers.objects_read(self._log, "/fxnorm/dvc/files/md5/", self._seen)
        self._seen = len(self._log.read_text().splitlines())
        return Counter({self.names.get(key, key): count for key, count in keys.items()})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("counted")
    with servers.s3(folder / "s3.log", "fxnorm") as environment:
        found = Store(folder, environment)
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        yield found
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def listing(store: Store) -> Listing:
    found = fetch.list_songs(store.address, "main")
    store.names = {file.md5: name for name, file in found.files.items() if file.md5}
    (only,) = store.reads().items()
    assert only == (found.hash, 1), "DVC's list alone"
    return found


@pytest.mark.slow  # DVC opens the repository for each of 25 tasks
def test_each_object_is_read_once_by_a_stage_that_needs_it_and_by_no_task_that_does_not(
    store: Store, listing: Listing
) -> None:
    fetch.refuse_unfit(listing, SETTINGS)
    assert not store.reads(), "which songs there are is known from the list"
    stages = {"check": ("train", "val", "test"), "statistics": ("train",), "normalize": ("train", "val")}
    for stage, splits in stages.items():
        shards = fetch.divide(listing, SETTINGS, stage, SHARDS)
        assert shards == [f"{number}/{SHARDS}" for number in range(1, SHARDS + 1)]
        wanted = Counter(name for name in listing.files if name.split("/")[1] in splits)
        every = Counter[str]()
        for shard in shards:
            with fetch.songs(listing, {"wet": splits}, parse_shard(shard)) as data:
                here = store.reads()
                assert set(here) == set(contents(data)), "its own songs"
                every += here
        assert every == wanted, splits
    with fetch.songs(listing, {"wet": ["test"]}) as data:
        assert set(store.reads().elements()) == {name for name in listing.files if name.startswith("wet/test/")}
        found = songs(data / "wet", "test")
        whole = store.project.folder / "data"
        assert data_version(data, found) == data_version(whole, songs(whole / "wet", "test"))
        assert data_version(data, found)["dvc"] == listing.hash


def test_a_download_that_was_killed_reads_what_is_missing_when_it_starts_again(
    store: Store, listing: Listing, tmp_path: Path
) -> None:
    listing.save(tmp_path / "listing")
    command = [sys.executable, "-c", KILLER, str(tmp_path / "listing"), str(tmp_path / "cache")]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 9
    there = {path.parent.name + path.name for path in (tmp_path / "cache/md5").glob("*/*") if path.name[0] != "."}
    assert len(there) == 4
    store.reads()
    with fetch.songs(listing, {"wet": ["train"]}, (1, SHARDS), cache=tmp_path / "cache") as data:
        found = contents(data)
    assert {name: listing.files[name].md5 for name in found} == {
        f"wet/train/{number:02}/{stem}.wav": listing.files[f"wet/train/{number:02}/{stem}.wav"].md5
        for number in range(0, 40, 8)
        for stem in ("bass", "mixture")
    }
    assert store.reads() == Counter(name for name in found if listing.files[name].md5 not in there)
    with fetch.songs(listing, {"wet": ["train"]}, (1, SHARDS), cache=tmp_path / "cache"):
        assert not store.reads()


def listed(*names: str) -> Listing:
    files = [ListedFile(name, f"{number:032x}") for number, name in enumerate(names)]
    return Listing.of("here", "main", "songs/data", "", "hash", "md5", files)


@pytest.mark.parametrize(
    "names, said",
    [
        (["dry/test/A/bass.wav"], "songs/data/wet: no such folder"),
        (["wet/train/A/bass.wav"], "data/wet: expected a split 'val', found train; 'fxnorm split data/wet --val N'"),
        (["wet/train/A/bass.wav", "wet/dev/B/bass.wav"], "data/wet: expected a split 'test', found train, val"),
        (["wet/train/A/bass.wav", "wet/train/A/Bass.wav"], "data/wet/train/A: expected one file of bass"),
        (["wet/A/bass.wav"], "data/wet: expected the folders train and val with songs, found songs alone"),
        (["wet/train/../../../bass.wav"], "no name of a file below it"),
    ],
)
def test_songs_that_a_stage_would_not_find_are_named_at_once(names: list[str], said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        fetch.refuse_unfit(listed(*names), SETTINGS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shards_are_counted_on_the_songs_that_a_stage_reads() -> None:
    names = [f"wet/{split}/{song}/bass.wav" for split, song in (("train", 1), ("train", 2), ("val", 3), ("test", 4))]
    settings = Settings.of({"statistics": {"split": "valid"}})
    shards = {stage: fetch.divide(listed(*names), settings, stage, 8) for stage in ("check", "statistics", "normalize")}
    assert {stage: len(found) for stage, found in shards.items()} == {"check": 4, "statistics": 1, "normalize": 3}


@pytest.mark.parametrize("audible", [True, False])
def test_a_song_in_two_splits_is_known_from_the_list_and_from_whether_it_sounds(
    audible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = {f"wet/{split}/{song}": "ab" * 16 for split, song in (("train", "A"), ("val", "B"), ("test", "C"))}
    files = [ListedFile(f"{song}/bass.wav", md5) for song, md5 in songs.items()]
    found = Listing.of("here", "main", "data", "", "hash", "md5", files)
    asked: list[Path] = []

    def is_audible(_: object, song: object, path: Path) -> bool:
        asked.append(path)
        return audible

    monkeypatch.setattr(fetch._Source, "is_audible", is_audible)
    if audible:
        with pytest.raises(DatasetError, match="data/wet: expected each song in one split, found train/A and val/B"):
            fetch.refuse_unfit(found, SETTINGS)
    else:
        fetch.refuse_unfit(found, SETTINGS)
    assert asked == [Path("data/wet/train/A/bass.wav")], "one of the three"
