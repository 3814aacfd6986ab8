"""Names that people chose never become addresses as they are: of folders, artifacts, objects, links and pages.

The kind: a name with a sign that means something in an address (``Who Are You?``) leads to another place, or two names
to one, and what lay there before is overwritten without a word.
"""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote

import mlflow
import pytest

from fxnorm.data.dataset import Song
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.evaluation.songs import Result
from fxnorm.io import audio
from fxnorm.io.folders import files_below
from fxnorm.io.names import address_part, addresses, hashed_part, is_address_of, song_of
from fxnorm.listening_test import build
from fxnorm.registry import model_card
from fxnorm.settings import Settings
from fxnorm.stages import evaluate
from fxnorm.tracking.runs import TrackedRun
from tests import servers
from tests.conftest import noise

PLAIN = ["A Song", "song_2-b", "It's (live), 1979", "No. 9 again", "Müller Größe", "日本語", "שלום", "x" * 100]
NOT_PLAIN = [
    "Who Are You?", "Song #1", "100% Pure", "a%20b", "a+b", "a&b", "a;b", "a:b", "a\\b", 'a"b', "a|b", "a*b", "`id`",
    "$HOME", "~", "<script>alert(1)", "..hidden", "end.", "Oh...", " lead", "trail ", "-rf", "=1+1", "@here", "a\nb",
    "a\tb", "\x7f", "CON", "nul.txt", "Com1", "e\u0301", "😀 party", "left\u202eright", "x" * 101, "ü" * 120,
    "Song-1-c3cd6beb383a",
]  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_name_is_an_address_as_it_is(name: str) -> None:
    assert address_part(name) == name


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_any_other_name_gets_a_readable_address_that_every_place_takes(name: str) -> None:
    part = address_part(name)
    assert part != name
    assert quote(part, safe="") == part == unquote(part)
    assert part[0].isalnum()
    assert part[-1].isalnum()
    assert len(part) <= 80
    assert is_address_of(part, name)
    words = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().split(" ")
    assert all(word in part for word in words if word.isalnum() and len(word) < 20)


def test_no_two_names_have_one_address_not_even_where_case_is_none() -> None:
    names = [*PLAIN, *NOT_PLAIN, "a song", "a b", "a-b", "\u00e9", "Song", "SONG", "STRASSE", "straße"]
    names.append(hashed_part("Song"))
    found = addresses(names)
    assert list(found) == names
    assert len({part.casefold() for part in found.values()}) == len(names)
    assert addresses(["Song"]) == {"Song": "Song"}


class Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attributes if tag == "a" and name == "href" and value]


SONGS = ["Who Are You?", "Song #1", "100% Pure", "a%20b", "<script>alert(1)", "a\nb", "x" * 250, "Plain", "plain"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs with such names, two of them also as dry ones; they sound alike."""
    folder = tmp_path_factory.mktemp("names") / "data"
    stems = {stem: noise(0.7, seed=number) for number, stem in enumerate(("vocals", "bass"))}
    for name in SONGS:
        audio.write(folder / "wet/test" / name / "vocals.wav", stems["vocals"])
    for name in SONGS[:2]:
        for stem, samples in stems.items():
            audio.write(folder / "dry/test" / name / f"{stem}.wav", samples)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server that takes artifacts itself."""
    with servers.mlflow(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="module")
def report(dataset: Path, server: str, mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the evaluation of these songs leaves; one is really mixed, the others' mixes are copies that are marked."""
    folder = tmp_path_factory.mktemp("report") / "reports"
    finished: list[Path] = []

    def work(
        function: Callable[[Song], Result], songs: list[Song], *_: object
    ) -> tuple[list[tuple[Song, Result]], list[str]]:
        results = []
        for number, song in enumerate(songs):
            if not finished:
                finished.append(function(song).folder)
            copied = Result(shutil.copytree(finished[0], finished[0].with_name(f"{number}")))
            for mix in (copied.folder / "mixes").iterdir():
                mix.write_bytes(bytes(song.folder))
            results.append((song, copied))
        return results, []

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        patch.setattr(evaluate, "map_songs", work)
        evaluate.run(Settings.of({"evaluate": {"excerpt_seconds": 0.5}}), mixer_folder, dataset, folder)
    return folder


def test_every_mix_of_every_song_is_with_the_run_once_and_is_its_own(
    report: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    client = mlflow.MlflowClient(server)
    run_id = json.loads((report / "mlflow_run.json").read_text())["run_id"]
    for kind in ("mixes", "plots"):
        fetched = Path(client.download_artifacts(run_id, f"evaluation/{kind}"))
        here = {path.relative_to(report / kind): path for path in files_below(report / kind)}
        there = {path.relative_to(fetched): path for path in fetched.rglob("*") if path.is_file()}
        assert set(there) == set(here)
        assert all(there[name].read_bytes() == here[name].read_bytes() for name in here)
    mixes = {song_of(path.parent): path for path in (report / "mixes/test_wet").glob("*/crafx2.flac")}
    assert set(mixes) == set(SONGS)
    assert all(Path(path.read_text()).name == song for song, path in mixes.items())


def test_every_link_of_the_report_leads_to_a_file_and_names_are_shown_as_they_are(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    links = [link for link in Links(page).links if not link.startswith("#")]
    assert len({link for link in links if link.endswith(".flac")}) == len(links) - page.count('href="songs.csv"')
    for link in links:
        assert not set(link) & set("?#"), link
        assert (report / unquote(link)).is_file(), link
    assert "Who Are You?" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert "Who Are You?" in (report / "songs.csv").read_text(encoding="utf-8")


def test_a_listening_test_finds_the_stems_and_the_starts_by_the_songs_names(
    report: Path, dataset: Path, tmp_path: Path
) -> None:
    mixes = report / "mixes/test_dry"
    found = build.find_mixes(mixes, ["crafx2", "input_sum"], dataset / "dry")
    assert [song.name for song in found] == SONGS[1::-1]
    assert [song.stems.name for song in found if song.stems] == SONGS[1::-1]
    old = tmp_path / "as versions before called them"
    for song in SONGS[:2]:
        (old / song).mkdir(parents=True)
        for system in ("crafx2", "input_sum"):
            (old / song / f"{system}.flac").write_bytes((mixes / address_part(song) / f"{system}.flac").read_bytes())
    assert [song.name for song in build.find_mixes(old, stems=dataset / "dry")] == SONGS[1::-1]
    (mixes / address_part(SONGS[0]) / "song.json").rename(tmp_path / "lost")
    lost = build.find_mixes(mixes, ["crafx2", "input_sum"], dataset / "dry")
    assert {song.stems.name for song in lost if song.stems} == set(SONGS[:2])
    (tmp_path / "lost").rename(mixes / address_part(SONGS[0]) / "song.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}', '{"name": ""}', '{"name": "../../etc"}'])
def test_a_file_that_names_no_song_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "song.json").write_text(content)
    with pytest.raises(DatasetError, match=r"song.json: expected the name of a song"):
        song_of(tmp_path)


def test_files_that_a_user_named_are_with_the_run_under_names_that_lead_there(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    (tmp_path / "plots/all #").mkdir(parents=True)
    names = ["what?.png", "what.png", "100%.png", "all #/a.png", "all #/a#b.png"]
    for name in names:
        (tmp_path / "plots" / name).write_text(name)
    (tmp_path / "loss #1.csv").write_text("curve")
    run = TrackedRun.start("a run", {}, {})
    run.add_folder(tmp_path / "plots", "plots")
    run.add_file(tmp_path / "loss #1.csv")
    fetched = Path(mlflow.MlflowClient(server).download_artifacts(run.run_id, ""))
    files = [path for path in fetched.rglob("*") if path.is_file()]
    assert sorted(path.read_text() for path in files) == sorted([*names, "curve"])
    assert {path.suffix for path in files} == {".png", ".csv"}
    assert (fetched / "plots/what.png").read_text() == "what.png"


@pytest.mark.parametrize("name", ["a@b", "who?", "n#1", "50%", " a", "a ", "it's", 'a"b', "a\nb", "a\\b", "a\u202eb"])
def test_a_registered_models_name_that_no_address_leads_to_is_refused_before_the_work(name: str) -> None:
    with pytest.raises(SettingsError, match=r"register.name: expected a name without"):
        Settings.of({"register": {"name": name}})


@pytest.mark.parametrize("name", ["CON", "x" * 101, "nul", "CRAFx2"])
def test_a_system_whose_mixes_no_file_can_hold_is_refused_before_the_work(
    name: str, mixer_folder: Path, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"evaluate.also"):
        evaluate.run(Settings(), mixer_folder, dataset, tmp_path / "out", {name: str(mixer_folder)})


def test_a_name_that_is_no_text_is_refused_before_the_work(mixer_folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    audio.write(tmp_path / "data/test" / name / "vocals.wav", noise(0.1))
    with pytest.raises(DatasetError, match=r"^caf\\udce9: expected a song's folder with a name in UTF-8") as raised:
        evaluate.run(Settings(), mixer_folder, tmp_path / "data", tmp_path / "out")
    str(raised.value).encode("utf-8")
    assert hashed_part(name).startswith("caf-")


def test_a_value_breaks_no_table_of_the_model_card() -> None:
    rows = model_card._rows([["parameter", "value"], ["train.initial_weights", "a|b\nc"], ["x", "`d`|"]])
    lines = rows.splitlines()
    assert len(lines) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
