"""Statistics of a dataset: sums that do not depend on order, files that hold no code, and what is reported of them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import spectrum
from fxnorm.errors import AudioError, DatasetError, ModelError, SettingsError
from fxnorm.statistics import (
    EFFECTS,
    DatasetStatistics,
    Features,
    import_reference_statistics,
    measure_stem,
)
from fxnorm.statistics.plots import plot_song, plot_statistics
from tests.conftest import noise

DATA = Path(__file__).parent / "data" / "effects"


def random_features(seed: int) -> Features:
    generator = np.random.default_rng(seed)
    return {
        "equalization": generator.uniform(0, 50, spectrum.BINS).astype(np.float32),
        "panning": 1 - 1e-3 * generator.uniform(size=spectrum.BINS).astype(np.float32),
        "compression": generator.uniform(-20, -10, 2),
        "loudness": float(generator.uniform(-40, -10)),
    }


def statistics_of(songs: list[Features], stem: str = "vocals") -> DatasetStatistics:
    statistics = DatasetStatistics()
    for features in songs:
        statistics.add(stem, features)
    return statistics


@pytest.fixture
def statistics() -> DatasetStatistics:
    """Of three songs with all stems."""
    result = DatasetStatistics()
    for song in range(3):
        for number, stem in enumerate(STEMS):
            result.add(stem, random_features(10 * song + number))
    return result


def test_mean_spread_and_count_are_those_of_the_songs() -> None:
    songs = [random_features(seed) for seed in range(5)]
    statistics = statistics_of(songs)
    for effect in EFFECTS:
        values = np.array([np.asarray(song[effect], dtype=np.float64) for song in songs])
        np.testing.assert_allclose(statistics.mean(effect, "vocals"), values.mean(axis=0), rtol=0, atol=2e-9)
        deviation = statistics.standard_deviation(effect, "vocals")
        np.testing.assert_allclose(deviation, values.std(axis=0), rtol=0, atol=2e-9)
        assert statistics.count(effect, "vocals") == 5


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(7)), cuts=st.sets(st.integers(1, 6)), through_files=st.booleans())
def test_any_sharding_gives_the_same(
    order: list[int], cuts: set[int], through_files: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    songs = [random_features(seed) for seed in range(7)]
    whole = statistics_of(songs)
    merged = DatasetStatistics()
    for indices in np.split(np.array(order), sorted(cuts)):
        shard = statistics_of([songs[index] for index in indices])
        if through_files:
            path = tmp_path_factory.mktemp("shard") / "shard.npz"
            shard.save(path)
            shard = DatasetStatistics.load(path)
        merged.merge(shard)
    for effect in EFFECTS:
        np.testing.assert_array_equal(merged.mean(effect, "vocals"), whole.mean(effect, "vocals"))
        found, expected = merged.standard_deviation(effect, "vocals"), whole.standard_deviation(effect, "vocals")
        np.testing.assert_array_equal(found, expected)
        assert merged.count(effect, "vocals") == 7


def test_large_and_small_numbers_keep_their_spread() -> None:
    songs = [random_features(seed) for seed in range(3)]
    for song, value in zip(songs, (100_000.0, 100_000.001, 1e-6), strict=True):
        song["equalization"] = np.full(spectrum.BINS, value)
    for group in (songs, songs[:2], songs[2:]):
        values = [float(np.asarray(song["equalization"])[0]) for song in group]
        found = statistics_of(group).standard_deviation("equalization", "vocals")
        np.testing.assert_allclose(found, np.std(values), rtol=1e-6, atol=2e-9)
    songs[0]["equalization"] = np.full(spectrum.BINS, 2e5)
    with pytest.raises(DatasetError, match="equalization/vocals: expected finite numbers"):
        statistics_of(songs)


def test_a_million_songs_are_put_together_in_any_order(tmp_path: Path) -> None:
    """Their sums pass 64 bits: a part of 976 songs with the largest values that are taken, 1,024 times."""
    values = np.random.default_rng(0).uniform(131_000, 131_071, 976)
    part = statistics_of([{"loudness": np.float64(value)} for value in values])
    doubled, added, grouped = part, DatasetStatistics(), DatasetStatistics()
    for _ in range(10):
        twice = DatasetStatistics()
        twice.merge(doubled)
        twice.merge(doubled)
        doubled = twice
    for _ in range(1024):
        added.merge(part)
    for size in (1, 70, 300, 653):  # of which some pass the number of songs that take one number a sum, some do not
        group = DatasetStatistics()
        for _ in range(size):
            group.merge(part)
        group.save(tmp_path / "group.npz")
        grouped.merge(DatasetStatistics.load(tmp_path / "group.npz"))
    files = []
    for name, statistics in {"doubled": doubled, "added": added, "grouped": grouped}.items():
        statistics.save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1] == files[2]
    loaded = DatasetStatistics.load(tmp_path / "doubled")
    assert loaded.count("loudness", "vocals") == 999_424
    assert loaded.mean("loudness", "vocals") == part.mean("loudness", "vocals")
    np.testing.assert_allclose(loaded.standard_deviation("loudness", "vocals"), values.std(), rtol=1e-9)


def test_sums_that_no_songs_can_have_are_refused(statistics: DatasetStatistics, tmp_path: Path) -> None:
    """They would overflow when songs are added."""
    statistics.save(tmp_path / "statistics.npz")
    with np.load(tmp_path / "statistics.npz") as file:
        arrays = dict(file)
    arrays["sums/loudness/bass"][1] = 2**62
    np.savez(tmp_path / "statistics.npz", **arrays)
    with pytest.raises(ModelError, match="sums/loudness/bass: more than 3 songs can have together"):
        DatasetStatistics.load(tmp_path / "statistics.npz")


def test_equal_songs_have_no_spread() -> None:
    statistics = statistics_of([random_features(0)] * 4)
    for effect in EFFECTS:
        assert not statistics.standard_deviation(effect, "vocals").any()


def test_a_saved_file_gives_everything_back(statistics: DatasetStatistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "statistics.npz")
    again = DatasetStatistics.load(tmp_path / "statistics.npz")
    assert list(again) == list(statistics) == [(effect, stem) for effect in EFFECTS for stem in STEMS]
    for effect, stem in statistics:
        np.testing.assert_array_equal(again.mean(effect, stem), statistics.mean(effect, stem))
        np.testing.assert_allclose(
            again.standard_deviation(effect, stem), statistics.standard_deviation(effect, stem), rtol=1e-12
        )
        assert again.count(effect, stem) == 3


def test_the_same_statistics_are_the_same_bytes(statistics: DatasetStatistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "one.npz")
    backwards = DatasetStatistics()
    for stem in reversed(STEMS):
        shard = DatasetStatistics()
        shard._sums = {key: sums for key, sums in statistics._sums.items() if key[1] == stem}
        backwards.merge(shard)
    backwards.save(tmp_path / "other.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_the_keys_of_a_file_are_effect_and_stem(statistics: DatasetStatistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "statistics.npz")
    with np.load(tmp_path / "statistics.npz", allow_pickle=False) as file:
        assert {"equalization/vocals", "spread/equalization/vocals", "count/equalization/vocals"} <= set(file.files)
        assert file["loudness/bass"].shape == ()


def test_published_averages_are_targets_without_spread() -> None:
    published = DatasetStatistics.load(DATA / "musdb18_statistics.npz")
    assert float(published.target("loudness", "vocals")) == pytest.approx(-30.73, abs=0.01)
    assert published.count("loudness", "vocals") == 0
    with pytest.raises(DatasetError, match=r"spread of loudness/vocals is not known"):
        published.standard_deviation("loudness", "vocals")
    with pytest.raises(DatasetError, match="cannot be merged"):
        published.merge(published)


def test_targets_are_smoothed_over_frequency(statistics: DatasetStatistics) -> None:
    for effect in ("equalization", "panning"):
        mean, target = statistics.mean(effect, "bass"), statistics.target(effect, "bass")
        assert np.abs(np.diff(target)).mean() < 0.05 * np.abs(np.diff(mean)).mean()
        assert target.mean() == pytest.approx(mean.mean(), rel=1e-3)
    np.testing.assert_array_equal(statistics.target("compression", "bass"), statistics.mean("compression", "bass"))


def test_drift_is_in_units_of_the_spread() -> None:
    statistics = statistics_of([random_features(seed) for seed in range(20)])
    moved = {
        effect: np.asarray(statistics.mean(effect, "vocals") - 2 * statistics.standard_deviation(effect, "vocals"))
        for effect in EFFECTS
    }
    drifts = statistics.drift({"vocals": dict(moved)})
    assert drifts["loudness"]["vocals"] == pytest.approx(-2)
    for effect in ("equalization", "panning", "compression"):
        assert drifts[effect]["vocals"] == pytest.approx(2)
    assert statistics.drift(statistics)["loudness"] == {"vocals": 0.0}


def test_what_was_never_measured_is_named(statistics: DatasetStatistics) -> None:
    empty = DatasetStatistics()
    with pytest.raises(DatasetError, match="no equalization/drums"):
        empty.target("equalization", "drums")
    with pytest.raises(DatasetError, match="unknown equalization/guitar"):
        statistics.add("guitar", random_features(0))
    with pytest.raises(DatasetError, match=r"compression/bass: expected finite numbers of shape \(2,\)"):
        statistics.add("bass", {"compression": np.zeros(3)})
    with pytest.raises(DatasetError, match="loudness/bass: expected finite"):
        statistics.add("bass", {"loudness": -np.inf})


def test_a_missing_or_damaged_file_is_named(statistics: DatasetStatistics, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.npz: not readable"):
        DatasetStatistics.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ModelError, match=r"text.npz: not readable"):
        DatasetStatistics.load(tmp_path / "text.npz")
    statistics.save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"cut.npz: not readable"):
        DatasetStatistics.load(tmp_path / "cut.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ModelError, match=r"array.npy: not readable"):
        DatasetStatistics.load(tmp_path / "array.npy")


def parts(**changes: np.ndarray) -> dict[str, np.ndarray]:
    """A file's arrays of one feature, with some of them changed."""
    whole = {"spread": np.array(0.0), "count": np.array(1), "sums": np.array([-20 * 2**29, 0, 0, 0])} | changes
    return {"loudness/bass": np.array(-20.0)} | {f"{part}/loudness/bass": array for part, array in whole.items()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"loudness/guitar": np.array(-20.0)}, "loudness/guitar"),
        ({"loudness/bass": np.array(-20.0), "notes": np.array(1)}, "notes"),
        ({"loudness/bass": np.zeros(2)}, "loudness/bass"),
        ({"loudness/bass": np.array(np.nan)}, "not finite"),
        ({"loudness/bass": np.array(-20.0), "count/loudness/bass": np.array(3)}, "a spread, a count and sums"),
        (parts(count=np.array(0)), "count/loudness/bass: expected a whole number"),
        (parts(count=np.array(2**41)), "count/loudness/bass: expected a whole number"),
        (parts(sums=np.zeros((3,), dtype=np.int64)), "sums/loudness/bass: expected whole numbers"),
        (parts(sums=np.zeros(4)), "sums/loudness/bass: expected whole numbers"),
        (parts(sums=np.zeros(4, dtype=np.int64)), "not the mean of its sums"),
        ({}, "found beside these: none"),
    ],
)
def test_a_file_with_other_keys_or_shapes_is_refused(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "odd.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=message):
        DatasetStatistics.load(tmp_path / "odd.npz")


def test_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", **{"loudness/bass": np.array([{"a": 1}], dtype=object)})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="not readable"):
        DatasetStatistics.load(tmp_path / "objects.npz")


def reference_dictionary(statistics: DatasetStatistics) -> dict[str, dict[str, object]]:
    """As the reference implementation keeps it, under its own names."""
    names = {"eq": "equalization", "compression": "compression", "panning": "panning", "loudness": "loudness"}
    return {name: {stem: statistics.mean(effect, stem) for stem in STEMS} for name, effect in names.items()}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_reference_file_is_imported(statistics: DatasetStatistics, protocol: int, tmp_path: Path) -> None:
    content = reference_dictionary(statistics)
    content["loudness"] = {stem: [np.float64(value)] for stem, value in content["loudness"].items()}  # type: ignore
    path = tmp_path / "features.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array(content, dtype=object), file, protocol=protocol)
    imported = import_reference_statistics(path)
    for effect, stem in statistics:
        np.testing.assert_array_equal(imported.mean(effect, stem), statistics.mean(effect, stem))


def test_numpy_s_own_file_and_a_bare_pickle_are_imported(statistics: DatasetStatistics, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", reference_dictionary(statistics), allow_pickle=True)  # type: ignore[arg-type]
    (tmp_path / "features.pkl").write_bytes(pickle.dumps(reference_dictionary(statistics)))
    for name in ("features.npy", "features.pkl"):
        imported = import_reference_statistics(tmp_path / name)
        np.testing.assert_array_equal(imported.mean("panning", "other"), statistics.mean("panning", "other"))


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_pickle_that_asks_for_anything_else_is_refused(statistics: DatasetStatistics, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    content: dict[str, object] = {**reference_dictionary(statistics), "extra": _Malicious(touched)}
    np.save(tmp_path / "features.npy", content, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="refused: it asks for"):
        import_reference_statistics(tmp_path / "features.npy")
    assert not touched.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nndarray\n((I1000000000000\ntS'b'\ntR.",
        b"c_codecs\nencode\n(S'a'\nS'zip'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'12345678'\ntR.",
        b"\x80\x04",
        b"",
        b"not a pickle",
    ],
)
def test_hostile_and_damaged_pickles_are_refused(code: bytes, tmp_path: Path) -> None:
    (tmp_path / "features.npy").write_bytes(code)
    with pytest.raises(ModelError, match=r"features.npy"):
        import_reference_statistics(tmp_path / "features.npy")


def test_an_incomplete_reference_file_is_refused(statistics: DatasetStatistics, tmp_path: Path) -> None:
    content = reference_dictionary(statistics)
    del content["panning"]["bass"]
    np.save(tmp_path / "features.npy", content, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="panning: no bass"):
        import_reference_statistics(tmp_path / "features.npy")
    del content["panning"]
    np.save(tmp_path / "features.npy", content, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="dictionary of stems under panning"):
        import_reference_statistics(tmp_path / "features.npy")


def test_a_silent_stem_has_no_features() -> None:
    assert measure_stem(noise(2.0, level=0.003), SAMPLE_RATE, "bass") == {}
    assert measure_stem(np.zeros((2, 100), dtype=np.float32), SAMPLE_RATE, "bass") == {}


def test_mono_is_measured_as_two_equal_channels() -> None:
    mono = noise(2.0, channels=1)
    one, two = (measure_stem(audio, SAMPLE_RATE, "other") for audio in (mono, np.repeat(mono, 2, axis=0)))
    for effect in EFFECTS:
        np.testing.assert_array_equal(one[effect], two[effect])


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(SettingsError, match="found guitar"):
        measure_stem(noise(1.0), SAMPLE_RATE, "guitar")
    with pytest.raises(AudioError, match="44100 Hz, found 48000 Hz"):
        measure_stem(noise(1.0), 48_000, "bass")
    broken = noise(1.0)
    broken[0, 7] = np.nan
    with pytest.raises(AudioError, match="NaN"):
        measure_stem(broken, SAMPLE_RATE, "bass")


def test_statistics_and_songs_are_drawn(statistics: DatasetStatistics, tmp_path: Path) -> None:
    published = DatasetStatistics.load(DATA / "musdb18_statistics.npz")
    plot_statistics(statistics, tmp_path / "statistics.png")
    plot_statistics(published, tmp_path / "published.png")
    song = {"vocals": noise(2.0), "drums": np.zeros((2, SAMPLE_RATE), dtype=np.float32)}
    plot_song(statistics, song, song, SAMPLE_RATE, tmp_path / "song.png")
    for name in ("statistics.png", "published.png", "song.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
