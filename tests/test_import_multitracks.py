"""MoisesDB, MedleyDB and Cambridge-MT's multitracks as ``fxnorm import`` brings them in: samples, groups and splits."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxnorm.constants import STEMS
from fxnorm.data.dataset import songs
from fxnorm.data.importers import cambridge, held_out, medleydb, mixing_coefficients, moisesdb
from fxnorm.data.importers.plan import Labels, Options, Plan, PlannedSong, plain_song
from fxnorm.errors import AudioError, DatasetError
from fxnorm.io import audio
from tests import import_multitracks as fixtures
from tests.commands import fxnorm, the_line
from tests.conftest import noise
from tests.import_multitracks import difference_db, groups, left_out, total
from tests.import_sources import song as write_song

EXACT = -100.0
"""dB: sums of the same floats in another order."""


def song_of(plan: Plan, original: str, part: str = "wet") -> PlannedSong:
    (song,) = [song for song in plan.songs if song.original == original and song.part == part]
    return song


def reasons(plan: Plan) -> dict[str, str]:
    return {item.name: item.reason for item in plan.left_out}


def imported(root: Path, part: str) -> dict[str, dict[str, np.ndarray]]:
    """song -> stem or mixture -> samples, (2, samples), of an imported dataset."""
    return {
        song.name: {path.stem: audio.to_stereo(audio.read(path)[0]) for path in song.files}
        for song in songs(root / part)
    }


def provenance(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "import.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def moises(tmp_path_factory: pytest.TempPathFactory) -> fixtures.MoisesDB:
    return fixtures.moisesdb(tmp_path_factory.mktemp("moisesdb"))


@pytest.fixture(scope="module")
def medley(tmp_path_factory: pytest.TempPathFactory) -> fixtures.MedleyDB:
    return fixtures.medleydb(tmp_path_factory.mktemp("medleydb"))


@pytest.fixture(scope="module")
def multitracks(tmp_path_factory: pytest.TempPathFactory) -> fixtures.Cambridge:
    return fixtures.cambridge(tmp_path_factory.mktemp("cambridge"))


@pytest.fixture
def own_moises(moises: fixtures.MoisesDB, tmp_path: Path) -> fixtures.MoisesDB:
    """A copy that a test may change."""
    root = shutil.copytree(moises.root, tmp_path / "copy")
    return fixtures.MoisesDB(root, root / moises.songs.relative_to(moises.root), moises.recordings)


@pytest.fixture
def own_medley(medley: fixtures.MedleyDB, tmp_path: Path) -> fixtures.MedleyDB:
    """A copy that a test may change."""
    top = shutil.copytree(medley.root.parent, tmp_path / "copy")
    made = fixtures.MedleyDB(top / medley.root.name, top / "medleydb/data/Metadata")
    made.stems, made.raw, made.mixtures = medley.stems, medley.raw, medley.mixtures
    return made


def test_a_split_without_a_published_one_is_stable_and_takes_a_tenth_each() -> None:
    splits = [held_out.split_of(f"song {number}") for number in range(2_000)]
    assert 150 < splits.count("test") < 250
    assert 150 < splits.count("val") < 250
    assert [held_out.split_of(f"song {number}") for number in reversed(range(2_000))] == splits[::-1]


def test_the_split_of_a_song_is_that_of_its_hash() -> None:
    for song in ("a", "b", "Café", "0a1b2c3d"):
        hundredth = int(hashlib.sha256(song.encode()).hexdigest(), 16) % 100
        assert held_out.split_of(song) == ("test" if hundredth < 10 else "val" if hundredth < 20 else "train")


# MoisesDB


def test_moisesdb_merges_stems_of_one_name_and_sorts_tracks_by_their_type(moises: fixtures.MoisesDB) -> None:
    song = song_of(moisesdb.plan(moises.root, Options()), fixtures.MOISES_SONG)
    assert groups(song) == {
        "vocals/track-01.wav": "vocals",
        "vocals/track-02.wav": "vocals",
        "drums/track-03.wav": "drums",
        "drums/track-04.wav": "drums",
        "bass/track-05.wav": "bass",
        "bass/track-06.wav": "other",  # a tuba
        "drums/track-07.wav": "drums",
        "drums/track-08.wav": "drums",
        "percussion/track-09.wav": "drums",  # without pitch
        "percussion/track-10.wav": "other",
        "Other Keys/track-11.wav": "other",
        "Other Keys/track-12.wav": "other",
    }
    assert list(left_out(song)) == ["other/track-13.wav"]  # the click track
    assert song.name == "The Fixtures - All Traps"
    assert song.mixture == "sum"
    (remark,) = song.remarks
    assert "laser harp" in remark


def test_moisesdb_has_its_official_table_too(moises: fixtures.MoisesDB) -> None:
    song = song_of(moisesdb.plan(moises.root, Options(table="official")), fixtures.MOISES_SONG)
    by_group = groups(song)
    assert by_group["bass/track-06.wav"] == "bass"
    assert by_group["percussion/track-09.wav"] == "other"
    assert "other/track-13.wav" in left_out(song)


def test_moisesdb_is_found_with_and_without_the_folder_of_its_archive(
    moises: fixtures.MoisesDB, tmp_path: Path
) -> None:
    by_hand = fixtures.moisesdb(tmp_path / "by hand", provider=False)
    plans = [moisesdb.plan(place, Options()) for place in (moises.root, moises.songs, by_hand.root)]
    for plan in plans:
        assert [song.original for song in plan.songs] == [fixtures.MOISES_SONG, fixtures.MOISES_INSTRUMENTAL]
        assert [song.split for song in plan.songs] == [song.split for song in plans[0].songs]
        assert plan.licence == "CC-BY-NC-SA-4.0"
        assert plan.commercial is False
        assert not plan.broken


def test_moisesdb_without_tracks_that_have_bleed(moises: fixtures.MoisesDB) -> None:
    song = song_of(moisesdb.plan(moises.root, Options(exclude_bleed=True)), fixtures.MOISES_SONG)
    assert "vocals/track-02.wav" not in groups(song)
    assert left_out(song)["vocals/track-02.wav"] == "has bleed"


def test_moisesdb_gives_way_to_the_users_tables(moises: fixtures.MoisesDB) -> None:
    labels = Labels(
        labels={"Tuba (bass of brass)": "bass", "click_track": "other", "track-01": "skip"},
        songs={"the fixtures - no words": {"acoustic guitar": "bass"}},
    )
    options = Options(labels=labels, splits={fixtures.MOISES_SONG: "test", "The Fixtures - No Words": "val"})
    plan = moisesdb.plan(moises.root, options)
    by_group = groups(song_of(plan, fixtures.MOISES_SONG))
    assert by_group["bass/track-06.wav"] == "bass"
    assert by_group["other/track-13.wav"] == "other"
    assert "vocals/track-01.wav" not in by_group
    assert groups(song_of(plan, fixtures.MOISES_INSTRUMENTAL))["guitar/track-02.wav"] == "bass"
    assert [song.split for song in plan.songs] == ["test", "val"]


def test_moisesdb_names_songs_that_are_called_alike_apart(own_moises: fixtures.MoisesDB) -> None:
    for song in (fixtures.MOISES_SONG, fixtures.MOISES_INSTRUMENTAL):
        change_json(own_moises.songs / song / "data.json", artist="", song="Untitled")
    plan = moisesdb.plan(own_moises.root, Options())
    assert [song.name for song in plan.songs] == ["Untitled (0a1b2c3d)", "Untitled (f9e8d7c6)"]


def test_moisesdb_reports_a_file_that_is_missing(own_moises: fixtures.MoisesDB) -> None:
    (own_moises.songs / fixtures.MOISES_SONG / "drums/track-04.wav").unlink()
    song = song_of(moisesdb.plan(own_moises.root, Options()), fixtures.MOISES_SONG)
    assert left_out(song)["drums/track-04.wav"] == "the file is missing"
    assert any("drums/track-04.wav" in remark for remark in song.remarks)


def test_moisesdb_uses_a_track_once_that_metadata_name_twice(own_moises: fixtures.MoisesDB) -> None:
    path = own_moises.songs / fixtures.MOISES_INSTRUMENTAL / "data.json"
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps({**metadata, "stems": [*metadata["stems"], metadata["stems"][0]]}))
    song = song_of(moisesdb.plan(own_moises.root, Options()), fixtures.MOISES_INSTRUMENTAL)
    assert [member.name for member in song.members] == ["drums/track-01.wav", "guitar/track-02.wav"]
    assert song.remarks == ("drums/track-01.wav: data.json names it twice, it is used once",)


def test_moisesdb_finds_the_folder_of_a_stem_that_metadata_write_with_blanks(own_moises: fixtures.MoisesDB) -> None:
    folder = own_moises.songs / fixtures.MOISES_SONG
    (folder / "Other Keys").rename(folder / "other_keys")
    song = song_of(moisesdb.plan(own_moises.root, Options()), fixtures.MOISES_SONG)
    assert groups(song)["Other Keys/track-11.wav"] == "other"


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_moisesdb_is_imported_sample_for_sample(moises: fixtures.MoisesDB, tmp_path: Path) -> None:
    result = fxnorm("import", "moisesdb", moises.root, tmp_path / "data", "--workers", 1)
    assert result.exit_code == 0, result.output
    made = imported(tmp_path / "data", "wet")
    assert set(made) == {"The Fixtures - All Traps", "The Fixtures - No Words"}
    for original, name in ((fixtures.MOISES_SONG, "All Traps"), (fixtures.MOISES_INSTRUMENTAL, "No Words")):
        recordings = moises.recordings[original]
        planned = groups(song_of(moisesdb.plan(moises.root, Options()), original))
        song = made[f"The Fixtures - {name}"]
        for group in set(planned.values()):
            expected = total([recordings[file] for file, other in planned.items() if other == group])
            assert difference_db(song[group], expected) < EXACT, group
        everything = total([recordings[file] for file in planned])
        assert difference_db(song["mixture"], everything) < EXACT
        lengths = {samples.shape[1] for samples in song.values()}
        assert lengths == {max(recordings[file].shape[1] for file in planned)}
    assert "vocals" not in made["The Fixtures - No Words"]
    noted = provenance(tmp_path / "data")
    (dataset,) = noted["datasets"]
    assert (dataset["name"], dataset["licence"], dataset["songs"]) == ("MoisesDB 0.1", "CC-BY-NC-SA-4.0", 2)
    record = next(song for song in noted["songs"].values() if song["original"] == fixtures.MOISES_SONG)
    assert {member["name"] for member in record["groups"]["bass"]} == {"bass/track-05.wav"}
    assert [item["name"] for item in record["left_out"]] == ["other/track-13.wav"]


# MedleyDB


def medley_options(made: fixtures.MedleyDB, **more: Any) -> Options:
    return Options(metadata=made.metadata, **more)


def test_medleydb_sorts_stems_by_label_and_component(medley: fixtures.MedleyDB) -> None:
    plan = medleydb.plan(medley.root, medley_options(medley))
    song = song_of(plan, fixtures.WEIGHTED)
    assert {name.rpartition("_")[2]: group for name, group in groups(song).items()} == {
        "01.wav": "other",
        "02.wav": "other",
        "03.wav": "bass",  # a synthesizer with component: bass
        "04.wav": "other",  # unlabeled
        "05.wav": "vocals",  # a list of two singers
        "06.wav": "drums",
        "MIX.wav": "mixture",
    }
    assert song.mixture == "file"
    assert song.remarks == ()
    apart = groups(song_of(plan, fixtures.APART))
    assert {name.rpartition("_")[2]: group for name, group in apart.items()} == {
        "01.wav": "bass",  # a double bass that plays the melody
        "02.wav": "other",  # a list of several groups
        "03.wav": "drums",
        "MIX.wav": "mixture",
    }


@pytest.mark.parametrize("coefficients", [True, False], ids=["published gains", "least squares"])
def test_medleydb_stems_add_up_to_their_mixture(
    own_medley: fixtures.MedleyDB, tmp_path: Path, coefficients: bool
) -> None:
    if not coefficients:
        own_medley.coefficients.unlink()
    arguments = ("--metadata", own_medley.metadata, "--workers", 1)
    result = fxnorm("import", "medleydb", own_medley.root, tmp_path / "data", *arguments)
    assert result.exit_code == 0, result.output
    made = imported(tmp_path / "data", "wet")
    assert set(made) == {fixtures.WEIGHTED, fixtures.APART}
    for name, song in made.items():
        assert difference_db(total([song[stem] for stem in STEMS if stem in song]), song["mixture"]) < -60
        assert difference_db(song["mixture"], own_medley.mixtures[name]) < EXACT
    stems = own_medley.stems[fixtures.WEIGHTED]
    other = total([stems[1], stems[2], stems[4]], [1.0, 0.2, 1.3])
    assert difference_db(made[fixtures.WEIGHTED]["other"], other) < -60
    record = next(
        song for song in provenance(tmp_path / "data")["songs"].values()
        if (song["original"], song["part"]) == (fixtures.WEIGHTED, "wet")
    )  # fmt: skip
    gains = [member["gain"] for member in record["groups"]["other"]]
    assert gains == pytest.approx([1.0, 0.2, 1.3], abs=1e-4)
    assert record["licence"] == "CC-BY-NC-SA-4.0"
    again = fxnorm("import", "medleydb", own_medley.root, tmp_path / "data", *arguments)
    assert "; 0 written" in again.output  # with the same gains


def test_medleydb_leaves_out_a_song_whose_whole_band_is_in_a_stem(medley: fixtures.MedleyDB) -> None:
    plan = medleydb.plan(medley.root, medley_options(medley))
    assert fixtures.LIVE not in [song.original for song in plan.songs if song.part == "wet"]
    assert "Main System" in reasons(plan)[fixtures.LIVE]


@pytest.mark.parametrize("group", ["other", "skip"])
def test_medleydb_takes_such_a_song_if_the_user_says_what_the_stem_is(medley: fixtures.MedleyDB, group: str) -> None:
    labels = Labels(labels={"main system": group})
    song = song_of(medleydb.plan(medley.root, medley_options(medley, labels=labels)), fixtures.LIVE)
    file = f"{fixtures.LIVE}_STEMS/{fixtures.LIVE}_STEM_03.wav"
    assert groups(song).get(file) == (None if group == "skip" else group)
    assert bool([remark for remark in song.remarks if "do not add up" in remark]) == (group == "skip")
    # a cello with component: bass plays the bass line of chamber music
    assert groups(song)[f"{fixtures.LIVE}_STEMS/{fixtures.LIVE}_STEM_02.wav"] == "other"


@pytest.mark.parametrize("quoted", [True, False, "yes", "no", "No"])
def test_medleydb_reads_quoted_and_bare_booleans(own_medley: fixtures.MedleyDB, quoted: bool | str) -> None:
    own_medley.change(fixtures.WEIGHTED, has_bleed=quoted)
    plan = medleydb.plan(own_medley.root, medley_options(own_medley, exclude_bleed=True))
    bleeds = quoted is True or quoted == "yes"
    assert (reasons(plan).get(fixtures.WEIGHTED) == "has bleed") == bleeds
    assert reasons(plan)[fixtures.LIVE] == "has bleed"


def test_medleydb_uses_raw_tracks_of_songs_that_are_not_trained_on(medley: fixtures.MedleyDB, tmp_path: Path) -> None:
    plan = medleydb.plan(medley.root, medley_options(medley))
    assert {song.original for song in plan.songs if song.part == "dry"} == {fixtures.LIVE}
    assert any("raw tracks of 2 songs" in remark for remark in plan.remarks)
    splits = tmp_path / "splits.yaml"
    splits.write_text(f"test: [{fixtures.WEIGHTED}, {fixtures.APART}]\n", encoding="utf-8")
    arguments = ("--metadata", medley.metadata, "--split", splits, "--workers", 1)
    result = fxnorm("import", "medleydb", medley.root, tmp_path / "data", *arguments)
    assert result.exit_code == 0, result.output
    made = imported(tmp_path / "data", "dry")
    assert set(made) == {fixtures.WEIGHTED, fixtures.APART, fixtures.LIVE}
    song, raw = made[fixtures.WEIGHTED], medley.raw[fixtures.WEIGHTED]

    def tracks(*numbers: str) -> np.ndarray:
        return total([raw[f"{fixtures.WEIGHTED}_RAW_{number}.wav"] for number in numbers])

    # one raw track of the unlabeled stem is a singer's
    assert difference_db(song["vocals"], tracks("04_02", "05_01", "05_02")) < EXACT
    assert difference_db(song["other"], tracks("01_01", "01_02", "02_01", "02_02", "04_01")) < EXACT
    assert difference_db(song["bass"], tracks("03_01", "03_02")) < EXACT  # with the component of their stem
    assert difference_db(song["mixture"], medley.mixtures[fixtures.WEIGHTED]) < EXACT


def test_raw_tracks_of_a_song_that_musdb18_trains_on_are_left_out(medley: fixtures.MedleyDB, tmp_path: Path) -> None:
    root, split = tmp_path / "data", tmp_path / "split.yaml"
    split.write_text(f"test: [{fixtures.WEIGHTED}]\n")
    command = ("import", "medleydb", medley.root, root, "--metadata", medley.metadata, "--split", split, "--workers", 1)
    assert fxnorm(*command).exit_code == 0
    raw = f"dry/test/{fixtures.WEIGHTED}"
    assert raw in provenance(root)["songs"]
    shutil.rmtree(root)
    write_song(tmp_path / "musdb18hq/train" / fixtures.WEIGHTED.replace("_", " - "), 1, 0.1)
    assert fxnorm("import", "musdb18-hq", tmp_path / "musdb18hq", root, "--workers", 1).exit_code == 0
    result = fxnorm(*command)
    assert f"left out: {fixtures.WEIGHTED}: its raw tracks: in its finished form it is in train" in result.output
    assert f"wet/train/{fixtures.WEIGHTED}" in provenance(root)["songs"]
    assert raw not in provenance(root)["songs"]


def test_medleydb_is_found_at_every_root(medley: fixtures.MedleyDB) -> None:
    def found(root: Path) -> list[str]:
        return sorted({song.original for song in medleydb.plan(root, medley_options(medley)).songs})

    assert found(medley.root) == [fixtures.LIVE, fixtures.APART, fixtures.WEIGHTED]
    assert found(medley.root.parent) == [fixtures.LIVE, fixtures.APART, fixtures.WEIGHTED]
    assert found(medley.root / "V1") == [fixtures.LIVE, fixtures.WEIGHTED]
    assert found(medley.root / "V2") == [fixtures.APART]
    assert found(medley.root / "V1" / fixtures.WEIGHTED) == [fixtures.WEIGHTED]


def test_a_song_of_medleydb_may_be_the_working_folder(
    medley: fixtures.MedleyDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(medley.root / "V1" / fixtures.WEIGHTED)
    (song,) = medleydb.plan(Path(), Options()).songs
    assert song.name == fixtures.WEIGHTED


def test_medleydb_leaves_out_a_song_of_which_no_stem_is_used(medley: fixtures.MedleyDB) -> None:
    labels = Labels(songs={fixtures.APART: dict.fromkeys(("double bass", "trumpet", "darbuka"), "skip")})
    plan = medleydb.plan(medley.root, medley_options(medley, labels=labels))
    assert reasons(plan)[fixtures.APART] == "no stem of it is used"


def test_medleydb_takes_a_song_that_is_there_twice_once(own_medley: fixtures.MedleyDB) -> None:
    shutil.copytree(own_medley.root / "V1" / fixtures.WEIGHTED, own_medley.root / "V2" / fixtures.WEIGHTED)
    plan = medleydb.plan(own_medley.root, medley_options(own_medley))
    assert song_of(plan, fixtures.WEIGHTED).members[0].path.is_relative_to(own_medley.root / "V1")
    assert reasons(plan)[f"V2/{fixtures.WEIGHTED}"] == f"is in V1/{fixtures.WEIGHTED} too"


@pytest.mark.parametrize("place", ["", "data/Metadata", "medleydb/data/Metadata"])
def test_medleydb_finds_metadata_in_a_clone_of_the_repository(medley: fixtures.MedleyDB, place: str) -> None:
    folder = medley.metadata.parents[2]
    root = next(path for path in (folder, *folder.rglob("*")) if path / place == medley.metadata)
    plan = medleydb.plan(medley.root, Options(metadata=root))
    assert not plan.broken
    assert [member.gain for member in song_of(plan, fixtures.APART).members] == [1.0, 0.2, 0.7, 1.0]  # manual


def test_medleydb_needs_metadata(medley: fixtures.MedleyDB) -> None:
    plan = medleydb.plan(medley.root / "V2", Options())
    (broken,) = plan.broken
    assert f"{fixtures.APART}_METADATA.yaml" in broken.reason
    assert "--metadata" in broken.reason


def test_a_folder_of_metadata_that_is_not_there_is_an_error(medley: fixtures.MedleyDB, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"^{tmp_path / 'nowhere'}: expected a folder with metadata, found none$"):
        medleydb.plan(medley.root, Options(metadata=tmp_path / "nowhere"))


def test_medleydb_leaves_out_a_song_whose_files_are_missing(own_medley: fixtures.MedleyDB) -> None:
    stems = own_medley.root / "V1" / fixtures.WEIGHTED / f"{fixtures.WEIGHTED}_STEMS"
    (stems / f"{fixtures.WEIGHTED}_STEM_02.wav").unlink()
    (own_medley.root / "V2" / fixtures.APART / f"{fixtures.APART}_MIX.wav").unlink()
    found = reasons(medleydb.plan(own_medley.root, medley_options(own_medley)))
    assert f"{fixtures.WEIGHTED}_STEM_02.wav" in found[fixtures.WEIGHTED]
    assert f"{fixtures.APART}_MIX.wav is missing" in found[fixtures.APART]


def test_medleydb_knows_what_listeners_found(own_medley: fixtures.MedleyDB) -> None:
    rename(own_medley, fixtures.WEIGHTED, "Karachacha_Volamos")
    rename(own_medley, fixtures.APART, "Snowmine_Curfews")
    own_medley.change(
        "Snowmine_Curfews",
        stems={"S06": {"filename": f"{fixtures.APART}_STEM_01.wav", "instrument": "sampler", "component": ""}},
    )
    plan = medleydb.plan(own_medley.root, medley_options(own_medley))
    assert "vibraphone" in reasons(plan)["Karachacha_Volamos"]
    assert set(groups(song_of(plan, "Snowmine_Curfews")).values()) == {"drums", "mixture"}
    named = Options(metadata=own_medley.metadata, labels=Labels(songs={"Karachacha_Volamos": {"piano": "skip"}}))
    assert song_of(medleydb.plan(own_medley.root, named), "Karachacha_Volamos")


def rename(made: fixtures.MedleyDB, song: str, name: str) -> None:
    """Give a song's folder and metadata another name; its files keep theirs, which the metadata have."""
    made.metadata_of(song).rename(made.metadata_of(song).with_name(f"{name}_METADATA.yaml"))
    folder = next(made.root.rglob(song))
    folder.rename(folder.with_name(name))
    made.change(name, mix_filename=f"{song}_MIX.wav", stem_dir=f"{song}_STEMS", raw_dir=f"{song}_RAW")
    (folder.with_name(name) / f"{name}_STEMS").mkdir()


def test_medleydb_reports_an_unknown_instrument(own_medley: fixtures.MedleyDB) -> None:
    own_medley.change(fixtures.APART, stems={"S01": {"instrument": "laser harp"}})
    song = song_of(medleydb.plan(own_medley.root, medley_options(own_medley)), fixtures.APART)
    assert any("laser harp" in remark for remark in song.remarks)
    assert "other" in groups(song).values()


def test_a_song_of_medleydb_is_called_as_in_musdb18(medley: fixtures.MedleyDB) -> None:
    assert plain_song("AClassicEducation_NightOwl") == plain_song("A Classic Education - NightOwl")
    assert all(song.name == song.original for song in medleydb.plan(medley.root, medley_options(medley)).songs)


# gains


def mixed(tmp_path: Path, gains: list[float], seconds: float = 3.0, delay: int = 0) -> mixing_coefficients.Measured:
    """Stems and what they give together with these gains, ``delay`` samples late, as files that are measured."""
    paths, stems = [], []
    for number in range(len(gains)):
        paths.append(tmp_path / f"{number}.wav")
        samples = 0.05 * np.random.default_rng(number).standard_normal((2, round(seconds * 44_100)))
        swell = 0.2 + np.sin(np.arange(samples.shape[1]) * (number + 1) / 2e4) ** 2
        stems.append(fixtures.write(paths[-1], (samples * swell).astype(np.float32)))
    mixture = np.roll(total(stems, gains), delay, axis=1)
    audio.write(tmp_path / "mix.wav", mixture)
    return mixing_coefficients.measure(tmp_path / "mix.wav", paths)


def test_gains_of_a_mixture_are_those_that_it_was_made_with(tmp_path: Path) -> None:
    made_with = [1.0, 0.2, 3.5, 0.0]
    found = mixing_coefficients.gains(mixed(tmp_path, made_with), None)
    assert found.values == pytest.approx(made_with, abs=1e-5)
    assert found.residual_db is not None
    assert found.residual_db < -100


def test_an_inverted_stem_has_no_negative_gain(tmp_path: Path) -> None:
    found = mixing_coefficients.gains(mixed(tmp_path, [1.0, -0.5]), None)
    assert found.values[0] == pytest.approx(1.0, abs=0.05)
    assert found.values[1] == 0


def test_gains_of_a_delayed_mixture_are_found_by_its_energy(tmp_path: Path) -> None:
    found = mixing_coefficients.gains(mixed(tmp_path, [1.0, 0.5, 2.0], seconds=8.0, delay=1_000), None)
    assert found.residual_db is None
    assert found.values == pytest.approx([1.0, 0.5, 2.0], rel=0.2)


def test_two_equal_stems_and_a_silent_one_are_no_trouble(tmp_path: Path) -> None:
    samples = noise(1.0, 0.2)
    for name, content in (("a", samples), ("b", samples), ("c", 0 * samples), ("mix", 2 * samples)):
        audio.write(tmp_path / f"{name}.wav", content)
    measured = mixing_coefficients.measure(tmp_path / "mix.wav", [tmp_path / f"{name}.wav" for name in "abc"])
    found = mixing_coefficients.gains(measured, None)
    assert sum(found.values[:2]) == pytest.approx(2.0, abs=1e-4)
    assert found.values[2] == 1.0


def test_published_gains_are_used_up_to_a_common_gain(tmp_path: Path) -> None:
    measured = mixed(tmp_path, [1.0, 0.25, 2.0])
    assert mixing_coefficients.gains(measured, [1.0, 0.25, 2.0]).values == (1.0, 0.25, 2.0)
    found = mixing_coefficients.gains(measured, [2.0, 0.5, 4.0])
    assert found.published
    assert found.values == pytest.approx([1.0, 0.25, 2.0], abs=1e-4)


def test_published_gains_that_do_not_fit_the_mixture_give_way_to_those_of_least_squares(tmp_path: Path) -> None:
    found = mixing_coefficients.gains(mixed(tmp_path, [1.0, 0.25, 2.0]), [4.0, 4.0, 4.0])
    assert not found.published
    assert found.values == pytest.approx([1.0, 0.25, 2.0], abs=1e-4)


def test_published_gains_are_manual_ones_or_the_mean_of_the_two_others() -> None:
    by_audio, by_stft = {1: 1.0, 2: 3.0}, {1: 0.5, 2: 1.0}
    assert mixing_coefficients.published({"audio": by_audio, "stft": by_stft}) == {1: 0.75, 2: 2.0}
    assert mixing_coefficients.published({"manual": {}, "audio": by_audio, "stft": by_stft}) == {1: 0.75, 2: 2.0}
    assert mixing_coefficients.published({"manual": {1: 9.0}, "audio": by_audio, "stft": by_stft}) == {1: 9.0}


def test_gains_need_audio_of_one_rate(tmp_path: Path) -> None:
    audio.write(tmp_path / "mix.wav", noise(0.1))
    audio.write(tmp_path / "stem.wav", noise(0.1), 48_000)
    with pytest.raises(AudioError, match="one sample rate"):
        mixing_coefficients.measure(tmp_path / "mix.wav", [tmp_path / "stem.wav"])
    (tmp_path / "stem.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"stem\.wav"):
        mixing_coefficients.measure(tmp_path / "mix.wav", [tmp_path / "stem.wav"])


# Cambridge-MT


def test_multitracks_are_imported_from_archives_and_folders(multitracks: fixtures.Cambridge, tmp_path: Path) -> None:
    result = fxnorm("import", "cambridge", multitracks.root, tmp_path / "data", "--workers", 1)
    assert result.exit_code == 0, result.output
    made = imported(tmp_path / "data", "dry")
    assert set(made) == {fixtures.ZIPPED, fixtures.UNPACKED}
    assert not (tmp_path / "data/wet").exists()
    tracks = multitracks.tracks
    left, right = (tracks[name] * np.array(side, np.float32)[:, None] for name, side in (
        ("07_OverheadL.wav", (1, 0)), ("08_OverheadR.wav", (0, 1)),
    ))  # fmt: skip
    for song in made.values():
        assert set(song) == set(STEMS)
        drums = total([tracks["01_Kick.wav"], tracks["02_Snare.wav"], left, right, tracks["09_Room.wav"]])
        assert difference_db(song["drums"], drums) < EXACT
        assert difference_db(song["vocals"], total([tracks["45_LeadVox.wav"], tracks["46_LeadVoxDT2.wav"]])) < EXACT
        assert difference_db(song["bass"], tracks["10_BassDI.wav"]) < EXACT
        assert {samples.shape[1] for samples in song.values()} == {tracks["45_LeadVox.wav"].shape[1]}
    noted = provenance(tmp_path / "data")
    (dataset,) = noted["datasets"]
    assert (dataset["licence"], dataset["commercial"]) == ("Cambridge-MT: educational use", False)
    record = noted["songs"][f"dry/test/{fixtures.ZIPPED}"]
    assert record["original"] == f"{fixtures.ZIPPED}_Full"
    assert {item["name"].rpartition("/")[2] for item in record["left_out"]} == {
        "47_LeadVox_Alt.wav", "50_Click.wav", f"{fixtures.ZIPPED}_Full_Preview.mp3",
    }  # fmt: skip
    assert any("09_Room.wav" in remark for remark in record["remarks"])


def test_one_archive_and_one_song_folder_are_sources_too(multitracks: fixtures.Cambridge, tmp_path: Path) -> None:
    result = fxnorm("import", "cambridge", multitracks.archive, tmp_path / "data", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert set(imported(tmp_path / "data", "dry")) == {fixtures.ZIPPED}
    again = fxnorm("import", "cambridge", multitracks.archive, tmp_path / "data", "--workers", 1)
    assert "0 written" in again.output
    folder = multitracks.root / f"{fixtures.UNPACKED}_Full"
    for source in (folder, folder / folder.name):
        assert [song.name for song in cambridge.plan(source, Options()).songs] == [fixtures.UNPACKED]


def make_tracks(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_songs_are_found_in_the_forms_that_downloads_are_kept_in(tmp_path: Path) -> None:
    make_tracks(
        tmp_path / "00003/tracks/01_Kick.wav",
        tmp_path / "00003/mixes/Song_Full.wav",
        tmp_path / "Rock/A_One_Full/Drums/Kick.wav",
        tmp_path / "Rock/A_One_Full/Vox/Lead.wav",
        tmp_path / "Rock/B_Two_Full/inner/01_Bass.wav",
        tmp_path / "C_Three_Edit/01_Bass.wav",
        tmp_path / "D_Four/Guitars/1.wav",
        tmp_path / "D_Four/02 Backing Vox/1.wav",
        tmp_path / "__MACOSX/E_Five_Full/01_Bass.wav",
        tmp_path / "Rock/stray.wav",
    )
    plan = cambridge.plan(tmp_path, Options())
    found = {song.name: sorted(groups(song)) for song in plan.songs}
    assert found == {
        "00003": ["tracks/01_Kick.wav"],
        "A_One": ["Drums/Kick.wav", "Vox/Lead.wav"],
        "B_Two": ["01_Bass.wav"],
        "C_Three_Edit": ["01_Bass.wav"],
        "D_Four": ["02 Backing Vox/1.wav", "Guitars/1.wav"],
    }
    assert left_out(song_of(plan, "00003", "dry")) == {
        "mixes/Song_Full.wav": "a mix, which is not aligned with the tracks"
    }
    assert reasons(plan) == {"Rock/stray.wav": "lies in no song's folder"}


def test_a_song_that_is_there_as_folder_and_archive_is_imported_once(
    multitracks: fixtures.Cambridge, tmp_path: Path
) -> None:
    shutil.copy(multitracks.archive, tmp_path)
    make_tracks(tmp_path / f"{fixtures.ZIPPED}_Full/01_Kick.wav")
    plan = cambridge.plan(tmp_path, Options())
    assert [member.entry for song in plan.songs for member in song.members] == [None]
    assert f"{fixtures.ZIPPED}_Full.zip" in reasons(plan)


def test_the_users_table_sorts_tracks_and_brings_some_back(multitracks: fixtures.Cambridge) -> None:
    labels = Labels(
        labels={"50_click": "drums", "09_Room": "skip"},
        songs={fixtures.ZIPPED.replace("_", " - "): {"10_BassDI.wav": "other"}},
    )
    plan = cambridge.plan(multitracks.root, Options(labels=labels))
    zipped = groups(song_of(plan, f"{fixtures.ZIPPED}_Full", "dry"))
    unpacked = groups(song_of(plan, f"{fixtures.UNPACKED}_Full", "dry"))
    assert zipped[f"{fixtures.ZIPPED}_Full/10_BassDI.wav"] == "other"
    assert unpacked["10_BassDI.wav"] == "bass"
    assert unpacked["50_Click.wav"] == "drums"
    assert "09_Room.wav" not in unpacked


# sources that cannot be used


def test_a_folder_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "source/some/folder").mkdir(parents=True)
    for kind in ("moisesdb", "medleydb", "cambridge"):
        line = the_line(fxnorm("import", kind, tmp_path / "source", tmp_path / "data"))
        assert str(tmp_path / "source") in line
        assert "expected" in line
        assert not (tmp_path / "data").exists()
    for kind in ("moisesdb", "medleydb"):
        (tmp_path / "file").write_bytes(b"")
        assert "found a file" in the_line(fxnorm("import", kind, tmp_path / "file", tmp_path / "data"))
    assert "zip" in the_line(fxnorm("import", "cambridge", tmp_path / "file", tmp_path / "data"))


MOISES_FAULTS: dict[str, bytes] = {
    "no JSON": b"{stems: [",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "stems: null": b'{"stems": null}',
    "stems are names": b'{"stems": ["drums"]}',
    "without stems": b'{"song": "A"}',
    "numbers as names": b'{"stems": [{"stemName": 3, "tracks": []}]}',
    "a number as id": b'{"stems": [{"stemName": "drums", "tracks": [{"id": 7}]}]}',
    "an empty id": b'{"stems": [{"stemName": "drums", "tracks": [{"id": ""}]}]}',
    "a path that leaves the source": b'{"stems": [{"stemName": "bass", "tracks": [{"id": "../../../../etc/passwd"}]}]}',
    "an absolute path": b'{"stems": [{"stemName": "/etc", "tracks": [{"id": "passwd", "extension": "d"}]}]}',
    "a zero in a name": b'{"stems": [{"stemName": "drums", "tracks": [{"id": "a\\u0000b"}]}]}',
    "bleed that is a word": b'{"stems": [{"stemName": "drums", "tracks": [{"id": "a", "has_bleed": "maybe"}]}]}',
    "nested too deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("fault", MOISES_FAULTS)
def test_metadata_of_moisesdb_that_cannot_be_used_are_one_line(
    tmp_path: Path, moises: fixtures.MoisesDB, fault: str
) -> None:
    folder = tmp_path / "source/song"
    folder.mkdir(parents=True)
    (folder / "data.json").write_bytes(MOISES_FAULTS[fault])
    line = the_line(fxnorm("import", "moisesdb", tmp_path / "source", tmp_path / "data"))
    assert str(folder / "data.json") in line
    assert not (tmp_path / "data").exists()
    shutil.copytree(moises.songs / fixtures.MOISES_INSTRUMENTAL, tmp_path / "source/good")
    plan = moisesdb.plan(tmp_path / "source", Options())
    assert [song.original for song in plan.songs] == ["good"]  # the others go on
    assert [item.name for item in plan.broken] == ["song"]


MEDLEY_FAULTS: dict[str, Any] = {
    "no YAML": b"stems: [",
    "no text": b"\xff\xfe\x00",
    "a list": b"- a\n",
    "stems: null": b"stems:\n",
    "a number as stem": b"stems: {S01: 3}\n",
    "a key that is no stem": b"stems: {first: {instrument: piano}}\n",
    "a number as a file": b"stems: {S01: {filename: 3}}\n",
    "an instrument that is a mapping": b"stems: {S01: {instrument: {a: b}}}\n",
    "bleed that is a word": b"has_bleed: perhaps\nstems: {}\n",
    "a path that leaves the source": b"stems: {S01: {filename: ../../../../../../etc/passwd}}\n",
    "a mixture that leaves the source": b"mix_filename: /etc/passwd\nstems: {}\n",
    "a folder that leaves the source": b"stem_dir: /etc\nstems: {S01: {filename: passwd}}\n",
    "a constructor of objects": b"stems: !!python/object/apply:os.system ['true']\n",
    "values within values": b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 10)) for i in range(8)),
}


@pytest.mark.parametrize("fault", MEDLEY_FAULTS)
def test_metadata_of_medleydb_that_cannot_be_used_are_one_line(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "source/A_B"
    (folder / "A_B_STEMS").mkdir(parents=True)
    (folder / "A_B_METADATA.yaml").write_bytes(MEDLEY_FAULTS[fault])
    line = the_line(fxnorm("import", "medleydb", tmp_path / "source", tmp_path / "data"))
    assert str(folder / "A_B_METADATA.yaml") in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        f"{fixtures.APART}: 3",
        f"{fixtures.APART}: {{manual: {{1: -2}}}}",
        f"{fixtures.APART}: {{audio: {{one: 1}}}}",
        f"{fixtures.APART}: {{stft: {{1: .nan}}}}",
    ],
)
def test_published_gains_that_cannot_be_used_are_one_line(
    own_medley: fixtures.MedleyDB, tmp_path: Path, content: str
) -> None:
    own_medley.coefficients.write_text(content, encoding="utf-8")
    arguments = ("--metadata", own_medley.metadata)
    line = the_line(fxnorm("import", "medleydb", own_medley.root, tmp_path / "data", *arguments))
    assert str(own_medley.coefficients) in line
    assert not (tmp_path / "data").exists()


def bomb(path: Path) -> Path:
    """An archive of a few bytes that announces 4 GiB."""
    content = bytearray(fixtures.zip_of(path, {"Song/01_Kick.wav": bytes(2**16)}).read_bytes())
    size = content.index(b"PK\x01\x02") + 24
    content[size : size + 4] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def no_archive(path: Path) -> Path:
    path.write_bytes(b"PK no zip")
    return path


def encrypted(path: Path) -> Path:
    """An archive whose file says that it is encrypted: in its directory, and before its content."""
    content = bytearray(fixtures.zip_of(path, {"Song/01_Kick.wav": b"RIFF"}).read_bytes())
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    return path


ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "no zip": no_archive,
    "a bomb": bomb,
    "an absolute path": lambda path: fixtures.zip_of(path, {"/etc/01_Kick.wav": b"RIFF"}),
    "a path that leaves it": lambda path: fixtures.zip_of(path, {"Song/../../01_Kick.wav": b"RIFF"}),
    "encrypted": encrypted,
}


@pytest.mark.parametrize("fault", ARCHIVES)
def test_an_archive_that_cannot_be_used_is_one_line(tmp_path: Path, fault: str) -> None:
    (tmp_path / "source").mkdir()
    path = ARCHIVES[fault](tmp_path / "source/A_Song_Full.zip")
    for source in (path, path.parent):
        line = the_line(fxnorm("import", "cambridge", source, tmp_path / "data"))
        assert str(path) in line
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_track_of_an_archive_is_one_line(
    multitracks: fixtures.Cambridge, tmp_path: Path, method: int
) -> None:
    (tmp_path / "source").mkdir()
    path = tmp_path / "source/A_Song_Full.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.write(
            multitracks.root / f"{fixtures.UNPACKED}_Full/{fixtures.UNPACKED}_Full/01_Kick.wav", "01_Kick.wav"
        )
    content = bytearray(buffer.getvalue())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    line = the_line(fxnorm("import", "cambridge", tmp_path / "source", tmp_path / "data", "--workers", 1))
    assert str(path) in line
    assert "01_Kick.wav" in line


def test_a_link_that_leaves_the_source_is_refused(moises: fixtures.MoisesDB, tmp_path: Path) -> None:
    (tmp_path / "source/A_Full").mkdir(parents=True)
    outside = moises.songs / fixtures.MOISES_SONG / "drums/track-03.wav"
    (tmp_path / "source/A_Full/01_Kick.wav").symlink_to(outside)
    with pytest.raises(DatasetError, match=r"01_Kick\.wav.*leaves the source"):
        cambridge.plan(tmp_path / "source", Options())
