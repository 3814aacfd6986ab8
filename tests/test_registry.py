"""The acceptance rule: what a candidate is compared with, what its version records, and what stays after a failure."""

import contextlib
import dataclasses
import json
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from fxnorm import Mixer
from fxnorm.data import dataset, provenance
from fxnorm.data.provenance import Share, TrainedOn
from fxnorm.errors import DatasetError, FxnormError, ModelError
from fxnorm.evaluation.catalogue import DECISIVE
from fxnorm.evaluation.results import (
    METRICS_FILE,
    MIXER_FILE,
    TABLE_FILE,
    TEST_DATA_FILE,
    measuring_code,
    read_metrics,
    read_test_data,
)
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.registry import aliases, registered, served_model
from fxnorm.registry.aliases import CHAMPION, Version
from fxnorm.registry.model_card import LONGEST, Card
from fxnorm.registry.registered import open_mixer
from fxnorm.settings import Settings
from fxnorm.stages import evaluate, register
from fxnorm.stages import store as stores
from fxnorm.tracking.runs import RUN_FILE
from tests import mixers, servers

pytestmark = pytest.mark.system

MakeSong = Callable[..., Path]
TEST = f"test_wet.{DECISIVE}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("code")


@pytest.fixture(autouse=True)
def _little_is_carried(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered beside a Mixer takes longer than all else here; test_tracking_servers.py has the example."""
    mixers.carry_little(monkeypatch, code, example=False)


@pytest.fixture
def settings(store: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A registered model of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    return Settings.of({"register": {"name": request.node.originalname}})


def value_tag(songs: str) -> str:
    """Where a version has its metric on these songs, as this code measures it."""
    return f"{TEST}.songs.{songs}.code.{measuring_code()[:16]}"


def with_rule(settings: Settings, **changed: object) -> Settings:
    return settings.model_copy(update={"register_": settings.register_.model_copy(update=changed)})


def at(settings: Settings, alias: str) -> Version:
    found = aliases.version_at(settings.register_.name, alias)
    assert found is not None, alias
    return found


@pytest.mark.usefixtures("empty_pictures")
def test_a_champion_of_other_songs_is_measured_again_on_the_candidates(
    settings: Settings, mixer_folder: Path, make_song: MakeSong
) -> None:
    loud = {"vocals": 3.0}
    for data, seed in (("old", 0), ("new", 5)):
        make_song(f"{data}/wet/test/A", seconds=1.0, seed=seed, gains=loud)
    champion, candidate = (mixers.changed(mixer_folder, Path(f"mixer-{seed}"), seed) for seed in (1, 2))
    evaluate.run(settings, champion, Path("old"), Path("report-old"))
    evaluate.run(settings, candidate, Path("new"), Path("report-new"))
    any_is_good = with_rule(settings, margin=-1.0e6, confidence=0.0)
    assert register.run(any_is_good, champion, Path("report-old"))["alias"] == CHAMPION
    told = at(settings, CHAMPION).tags
    assert told[value_tag(read_test_data(Path("report-old"))["test_wet"]["digest"])] == f"[{told[TEST]}]", "one song"

    without = register.run(any_is_good, candidate, Path("report-new"))
    assert without["alias"] == "challenger"
    assert "which was not measured on these songs; --dataset DATA has that done" in without["reason"]
    with pytest.raises(DatasetError, match=r"old: expected the songs of test_wet that report-new/test_data.json"):
        register.run(any_is_good, candidate, Path("report-new"), Path("old"))
    assert at(settings, CHAMPION).number == "1"
    assert at(settings, CHAMPION).tags == told

    brought: list[Path] = []

    @contextlib.contextmanager
    def bring() -> Iterator[Path]:
        brought.append(Path("new"))
        yield Path("new")

    decision = register.run(any_is_good, candidate, Path("report-new"), bring)
    assert brought == [Path("new")], "when it is needed, and once"
    evaluate.run(settings, champion, Path("new"), Path("report-again"))
    again = read_metrics(Path("report-again"))["test_wet"]["crafx2"][DECISIVE]
    measured = mlflow.MlflowClient().get_model_version(settings.register_.name, "1").tags
    assert float(measured[TEST]) == pytest.approx(again, rel=1e-6)
    new_songs = read_test_data(Path("report-new"))["test_wet"]["digest"]
    assert measured == {**told, TEST: measured[TEST], value_tag(new_songs): f"[{measured[TEST]}]"}
    assert decision["alias"] == CHAMPION
    assert f"champion (version 1) {again:.3f}" in decision["reason"]
    assert (at(settings, CHAMPION).number, at(settings, "previous").number) == ("3", "1")


def test_the_champions_own_mixer_registered_again_serves_and_the_one_before_stays(
    settings: Settings, mixer_folder: Path
) -> None:
    for seed, loss in ((0, 3.0), (1, 2.0)):
        mixer = mixers.changed(mixer_folder, Path(f"mixer-{seed}"), seed)
        register.run(settings, mixer, mixers.report(Path(f"report-{seed}"), mixer, loss))
    decision = register.run(settings, mixer, Path("report-1"))
    assert decision["alias"] == CHAMPION
    assert "version 2, the champion, anew: the same Mixer" in decision["reason"]
    assert (at(settings, CHAMPION).number, at(settings, "previous").number) == ("3", "1")


def test_a_registration_is_done_once_in_each_store_and_what_a_store_lost_is_noticed(
    settings: Settings, mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind: a result counts as done although it is not, or no longer, in the store that it shall be in."""
    name, client = settings.register_.name, mlflow.MlflowClient()
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    report = mixers.report(Path("report"), mixer, 3.0)

    def stored() -> int:
        found = stores.run(Path("store.json"), report / register.REGISTRATION_FILE)
        assert json.loads(Path("store.json").read_text()) == found
        return int(found["lost"])

    def registered() -> tuple[str, str]:
        decision = register.run(settings, mixer, report, once=True)
        return decision["version"], decision["alias"]

    assert stored() == 0
    assert registered() == ("1", CHAMPION)
    assert [stored(), stored()] == [0, 0]
    assert registered() == ("1", CHAMPION)
    assert [str(version.version) for version in client.search_model_versions(f"name = '{name}'")] == ["1"]

    client.delete_registered_model_alias(name, CHAMPION)
    assert [stored(), registered(), stored()] == [1, ("1", CHAMPION), 1]
    location = Path(local_file_uri_to_path(client.get_model_version_download_uri(name, "1")))
    shutil.rmtree(location)
    assert [stored(), registered(), stored()] == [2, ("2", CHAMPION), 2]
    run_id = client.get_model_version(name, "2").run_id
    assert run_id is not None
    client.delete_run(run_id)
    assert [stored(), registered(), stored()] == [3, ("3", CHAMPION), 3]
    other = client.get_model_version(name, "3").run_id
    assert other is not None
    assert "evaluation/metrics.json" in {file.path for file in client.list_artifacts(other, "evaluation")}
    client.delete_registered_model(name)
    assert [stored(), registered(), stored()] == [4, ("1", CHAMPION), 4]

    before = json.loads(Path("store.json").read_text())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    assert stored() == 0
    assert json.loads(Path("store.json").read_text()) != before
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'another.db'}")
    assert stored() == 0
    assert json.loads(Path("store.json").read_text()) != before
    assert registered() == ("1", CHAMPION), "the first one there"


def test_a_registration_that_is_done_undoes_no_rollback(settings: Settings, mixer_folder: Path) -> None:
    for seed, loss in ((0, 3.0), (1, 2.0)):
        mixer = mixers.changed(mixer_folder, Path(f"mixer-{seed}"), seed)
        register.run(settings, mixer, mixers.report(Path(f"report-{seed}"), mixer, loss), once=True)
    aliases.rollback(settings.register_.name)
    decision = register.run(settings, mixer, Path("report-1"), once=True)
    assert (decision["version"], decision["alias"]) == ("2", "previous")
    assert at(settings, CHAMPION).number == "1"
    easier = with_rule(settings, margin=0.5)
    assert register.run(easier, mixer, Path("report-1"), once=True)["alias"] == CHAMPION, "another rule decides anew"


@pytest.mark.parametrize("changed", ["code", "report", "mixer"])
def test_another_mixer_report_or_code_is_another_version(
    settings: Settings, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    report = mixers.report(Path("report"), mixer, 3.0)
    first = register.run(settings, mixer, report, once=True)["version"]
    if changed == "code":
        monkeypatch.setattr(served_model, "digest", lambda: "that of another code")
    elif changed == "report":
        report = mixers.report(Path("report-2"), mixer, 2.5, "other songs")
    else:
        mixer = mixers.changed(mixer_folder, Path("mixer-2"), 1)
        report = mixers.report(Path("report-2"), mixer, 2.0)
    second = register.run(settings, mixer, report, once=True)["version"]
    assert int(second) == int(first) + 1
    client, name = mlflow.MlflowClient(), settings.register_.name
    if changed == "report":  # of the same Mixer: each version says what it was tested with
        run_id, again = (client.get_model_version(name, number).run_id for number in (first, second))
        assert run_id == again
        assert run_id is not None
        trained = client.get_run(run_id)
        (own,) = client.search_runs([trained.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
        for run, number in ((trained, first), (own, second)):
            assert f"version {number}, `@champion`" in run.data.tags["mlflow.note.content"]
            card = Path(client.download_artifacts(run.info.run_id, "model_card.md")).read_text()
            assert f"models:/{name}/{number}" in card
    mlflow.MlflowClient().delete_registered_model(settings.register_.name)  # the next change has one of this name


def test_a_candidate_is_compared_with_what_the_champion_measured_on_its_own_songs(
    settings: Settings, mixer_folder: Path
) -> None:
    champion = mixers.changed(mixer_folder, Path("mixer"), 0)
    register.run(settings, champion, mixers.report(Path("report"), champion, 3.0, "some songs"))
    # as another registration notes it, which was interrupted before it wrote the plain name
    aliases.note(settings.register_.name, "1", {value_tag("other songs"): str([1.0] * 8)})
    worse = mixers.changed(mixer_folder, Path("worse"), 1)
    decision = register.run(settings, worse, mixers.report(Path("report-worse"), worse, 2.0, "other songs"))
    assert decision["alias"] == "challenger"
    assert "champion (version 1) 1.000" in decision["reason"]
    better = mixers.changed(mixer_folder, Path("better"), 2)
    decision = register.run(settings, better, mixers.report(Path("report-better"), better, 2.0, "some songs"))
    assert decision["alias"] == CHAMPION
    assert "champion (version 1) 3.000" in decision["reason"]


def test_a_champions_metric_of_other_code_is_not_compared_with_the_candidates(
    settings: Settings, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kind: a number is compared with one that another metric, network or loss gave under the same name."""
    champion, candidate = (mixers.changed(mixer_folder, Path(f"mixer-{seed}"), seed) for seed in (0, 1))
    with monkeypatch.context() as before:
        before.setattr(register, "measuring_code", lambda: "the code that was")
        before.setattr(mixers, "measuring_code", lambda: "the code that was")
        register.run(settings, champion, mixers.report(Path("report-old"), champion, 3.0))
    decision = register.run(settings, candidate, mixers.report(Path("report"), candidate, 2.0))
    assert decision["alias"] == "challenger"
    assert "was not measured on these songs by this code; --dataset DATA has that done" in decision["reason"]
    with pytest.raises(DatasetError, match="report-old: expected a report that this code measured, found one of other"):
        register.run(settings, champion, Path("report-old"))
    assert at(settings, CHAMPION).tags[TEST] == "3.0", "for people"


def test_an_interrupted_registration_of_other_served_code_is_not_gone_on_with(
    settings: Settings, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    report = mixers.report(Path("report"), mixer, 3.0)
    with monkeypatch.context() as patch:
        patch.setattr("fxnorm.registry.served_model.digest", lambda: "the code that was")
        patch.setattr("fxnorm.registry.aliases.promote", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            register.run(settings, mixer, report)
    assert register.run(settings, mixer, report)["version"] == "2"
    assert at(settings, CHAMPION).number == "2"


@pytest.mark.parametrize(
    "interrupted",
    [
        "fxnorm.registry.aliases.promote",
        "fxnorm.tracking.runs.TrackedRun.add_file",
        "fxnorm.registry.aliases.introduce",
    ],
)
def test_a_registration_that_was_interrupted_goes_on_with_its_version(
    settings: Settings, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    name = f"{settings.register_.name}-{interrupted}"
    settings = settings.model_copy(update={"register_": settings.register_.model_copy(update={"name": name})})
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    report = mixers.report(Path("report"), mixer, 3.0)

    def stop(*_: object, **__: object) -> None:
        raise FxnormError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(interrupted, stop)
        with pytest.raises(FxnormError, match="stopped"):
            register.run(settings, mixer, report)
    decision = register.run(settings, mixer, report)
    assert (decision["version"], decision["alias"]) == ("1", CHAMPION)
    assert at(settings, CHAMPION).number == "1"
    assert aliases.version_at(name, "previous") is None
    assert "CRAFx2" in str(mlflow.MlflowClient().get_model_version(name, "1").description)
    assert register.run(settings, mixer, report)["version"] == "2", "what was registered whole is registered anew"


def test_a_champion_that_cannot_be_read_stays_and_the_reason_is_told(
    settings: Settings, mixer_folder: Path, make_song: MakeSong
) -> None:
    register.run(
        settings, mixers.changed(mixer_folder, Path("one"), 0), mixers.report(Path("report-one"), Path("one"), 3.0)
    )
    location = mlflow.MlflowClient().get_model_version_download_uri(settings.register_.name, "1")
    Path(urllib.parse.urlparse(location).path, "artifacts/one/mixer.json").unlink()
    make_song("data/wet/test/A", seconds=1.0)
    songs = dataset.digest(dataset.songs("data/wet", "test"))
    candidate = mixers.changed(mixer_folder, Path("two"), 1)
    report = mixers.report(Path("report-two"), candidate, 2.0, songs)
    decision = register.run(settings, candidate, report, Path("data"))
    assert decision["alias"] == "challenger"
    assert "cannot be compared with the champion (version 1)" in decision["reason"]
    assert "mixer.json" in decision["reason"]
    assert at(settings, CHAMPION).number == "1"


def test_a_candidate_under_the_baseline_is_told_why_and_the_report_keeps_it(
    settings: Settings, mixer_folder: Path
) -> None:
    candidate = mixers.changed(mixer_folder, Path("any name"), 0)
    report = mixers.report(Path("report"), candidate, 11.0)
    decision = register.run(settings, candidate, report)
    reason = f"not better than the baseline in {TEST}: crafx2 11.000, normalized_sum 10.000"
    assert (decision["alias"], decision["reason"]) == ("challenger", reason)
    kept = json.loads((report / register.REGISTRATION_FILE).read_text())
    assert kept == {**decision, "gate": settings.register_.model_dump(mode="json")}
    assert aliases.version_at(settings.register_.name, CHAMPION) is None
    assert not register.passes(settings, Path("any name"), report)
    assert register.passes(settings, candidate, mixers.report(Path("good report"), candidate, 3.0))
    version = mlflow.MlflowClient().get_model_version(settings.register_.name, "1")
    assert reason in str(version.description)
    assert at(settings, "challenger").number == "1"
    name = f"models:/{settings.register_.name}@challenger"
    assert open_mixer(name).recipe.data == Mixer.load("any name").recipe.data


def test_a_model_of_another_licence_is_registered_and_is_no_champion(
    settings: Settings, mixer_folder: Path, tmp_path: Path
) -> None:
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    digest = mixer_digest(mixer)
    report = mixers.report(Path("report"), mixer, 3.0)
    learnt = {
        "known": TrainedOn(shares=(Share(dataset="MUSDB18-HQ", licence="Academic use only", train=86, val=14),)),
        "unknown": TrainedOn(),
        "both": TrainedOn(shares=(Share(dataset="A", licence="CC-BY-4.0", train=1), Share(train=2))),
    }

    def registered(of: str, *allowed: str) -> tuple[str, str]:
        (mixer / provenance.TRAINED_ON_FILE).unlink(missing_ok=True)
        provenance.leave_in(mixer, learnt[of])
        rule = settings.register_.model_copy(update={"allowed_licences": allowed})
        decision = register.run(settings.model_copy(update={"register_": rule}), mixer, report, once=True)
        return decision["alias"], decision["reason"]

    alias, reason = registered("known", "CC-BY-4.0")
    assert alias == "challenger"
    assert reason == "trained on MUSDB18-HQ (Academic use only); register.allowed_licences has CC-BY-4.0"
    version = mlflow.MlflowClient().get_model_version(settings.register_.name, "1")
    assert version.tags["data.licences"] == "Academic use only"
    assert "MUSDB18-HQ (Academic use only): 86 to learn from, 14 to choose the checkpoint" in str(version.description)
    tags = mlflow.get_run(str(version.run_id)).data.tags
    assert (tags["data.datasets"], tags["data.licences"]) == ("MUSDB18-HQ", "Academic use only")
    assert registered("unknown", "CC-BY-4.0") == (
        "challenger",
        "trained on unknown; register.allowed_licences has CC-BY-4.0",
    )
    assert aliases.version_at(settings.register_.name, CHAMPION) is None
    assert registered("both", "cc-by-4.0", "Unknown")[0] == CHAMPION
    assert mixer_digest(mixer) == digest


def test_another_kind_of_model_or_one_of_any_size_is_refused_before_it_is_brought_here(
    settings: Settings, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"models:/{settings.register_.name}"
    register.run(
        settings, mixers.changed(mixer_folder, Path("mixer"), 0), mixers.report(Path("report"), Path("mixer"), 3.0)
    )
    size = sum(path.stat().st_size for path in Path("mixer").rglob("*") if path.is_file())
    monkeypatch.setattr(registered, "_LARGEST_MIXER_BYTES", size - 1)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **_: pytest.fail("it was brought here"))
    with pytest.raises(ModelError, match=f"{name}/1/artifacts/mixer: expected a Mixer of at most"):
        open_mixer(f"{name}/1")
    with pytest.raises(ModelError, match=f"{name}/2: not in the registry at sqlite"):
        open_mixer(f"{name}/2")


def test_a_registry_that_does_not_answer_is_not_an_empty_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(f"http://127.0.0.1:{servers.free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(FxnormError, match="anything: the registry at http") as raised:
        aliases.version_at("anything", CHAMPION)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "file, content, said",
    [
        (METRICS_FILE, "{", "metrics.json: expected what 'fxnorm evaluate' writes, found no JSON"),
        (METRICS_FILE, '{"test_wet": {"crafx2": 3}}', "metrics.json: .* found test_wet.crafx2"),
        (METRICS_FILE, "{}", "metrics.json: expected test_wet.crafx2.stereo_loss_b_matched, found no 'test_wet'"),
        (TEST_DATA_FILE, "", "test_data.json: expected what 'fxnorm evaluate' writes, found no JSON"),
        (TEST_DATA_FILE, '{"test_dry": {"digest": "a"}}', r"test_data.json: expected test_wet\.digest, found none"),
        (TEST_DATA_FILE, '{"test_wet": {"dvc": "a"}}', r"test_data.json: expected test_wet\.digest, found none"),
        (TEST_DATA_FILE, None, "test_data.json: no such file"),
        (TABLE_FILE, None, "songs.csv: no such file; evaluate again"),
        (
            TABLE_FILE,
            "title,year\nSong,1999\n",
            "songs.csv: expected what .*, found another table",
        ),
        (
            TABLE_FILE,
            "split,song,system,metric,value\n",
            "songs.csv: expected stereo_loss_b_matched of crafx2 on",
        ),
        (MIXER_FILE, None, "evaluated_mixer.json: no such file; evaluate again"),
        (MIXER_FILE, '{"digest": "another"}', "report: expected a report of mixer, found another Mixer's"),
    ],
)
def test_a_report_that_is_not_whole_is_refused_before_anything_is_registered(
    settings: Settings, mixer_folder: Path, file: str, content: str | None, said: str
) -> None:
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    report = mixers.report(Path("report"), mixer, 3.0)
    (report / file).unlink()
    if content is not None:
        (report / file).write_text(content)
    with pytest.raises(DatasetError, match=said) as raised:
        register.run(settings, mixer, report)
    assert "\n" not in str(raised.value)
    assert not mlflow.MlflowClient().search_registered_models(f"name='{settings.register_.name}'")
    assert not (report / RUN_FILE).exists(), "not even a run was started"


def test_a_registry_that_does_not_take_the_model_gets_one_line(
    settings: Settings, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MlflowException("no space\nand more lines")

    monkeypatch.setattr(mlflow, "start_run", full)
    mixer = mixers.changed(mixer_folder, Path("mixer"), 0)
    with pytest.raises(FxnormError, match=r"the registry at sqlite.* does not take mixer \(no space\)"):
        register.run(settings, mixer, mixers.report(Path("report"), mixer, 3.0))


def test_a_name_that_no_model_can_have_is_not_one_without_versions(settings: Settings) -> None:
    with pytest.raises(FxnormError, match=r"a/b: the registry at .* does not do it"):
        aliases.version_at("a/b", CHAMPION)


def test_there_is_nothing_to_go_back_to_without_a_version_before(settings: Settings, mixer_folder: Path) -> None:
    name = settings.register_.name
    with pytest.raises(FxnormError, match=f"{name}: no version is @previous at .*; nothing to go back to"):
        aliases.rollback(name)
    register.run(
        settings, mixers.changed(mixer_folder, Path("mixer"), 0), mixers.report(Path("report"), Path("mixer"), 3.0)
    )
    with pytest.raises(FxnormError, match="nothing to go back to"):
        aliases.rollback(name)
    assert at(settings, CHAMPION).number == "1"
    aliases.promote(name, "1", at(settings, CHAMPION))
    with pytest.raises(FxnormError, match="version 1 is @previous and @champion; nothing to go back to"):
        aliases.rollback(name)


def test_a_card_tells_what_matters_first_and_fits_into_a_description() -> None:
    names = ("stereo_loss_b", "stereo_loss_a", "loudness_mape", "spectral_mape", "panning_mape", "dynamic_mape")
    systems = {
        "reference": {"integrated_loudness_lufs": -14.0},
        "input_sum": dict.fromkeys([*names, "residual"], 0.0),  # of wet stems, the reference itself
        "normalized_sum": dict.fromkeys(names, 2.0),
        "crafx2": dict.fromkeys(names, 1.0),
    }
    card = Card(
        name="fxnorm-automix",
        version="7",
        alias="champion",
        reason="better than the baseline",
        metrics={"test_dry": systems, "test_wet": systems, "test_other": {"crafx2": {}}},
        decided_by=("test_wet", "stereo_loss_a"),
        trained_on={"digest": "5" * 64, "dvc": "8242.dir"},
        tested_on={"test_wet": {"digest": "7" * 64}},
        network={"name": "crafx2", "filters": 32},
        parameters=1_234_567,
        params={"train.loss": "b", "train.seed": "3"},
        tags={"git.commit": "c" * 40, "git.dirty": "true"},
        run_id="r" * 32,
        sources=TrainedOn(
            shares=(
                Share(dataset="MedleyDB", licence="CC-BY-NC-SA-4.0", commercial=False, train=46, val=2),
                Share(dataset="Slakh", licence="CC-BY-4.0", commercial=True, train=9, initial_weights=True),
                Share(train=3, val=1),
            )
        ),
    )
    text = card.markdown()
    assert text.startswith("Registered as `@champion`: better than the baseline\n")
    assert text.index("| test_wet | stereo loss a | stereo loss b |") < text.index("| test_dry |")
    assert "test_other" not in text
    assert "| CRAFx2 | **1.000** |" in text
    assert "| sum of the normalized stems | 2.000 | 2.000 | matched |" in text
    assert "sum of the input stems" not in text
    for told in (
        "models:/fxnorm-automix/7",
        "DVC `8242.dir`",
        "1,234,567",
        "| train.seed | 3 |",
        "uncommitted changes",
        "MedleyDB (CC-BY-NC-SA-4.0), no commercial use: 46 to learn from, 2 to choose the checkpoint;",
        "Slakh (CC-BY-4.0): by the weights that the training began with, 9 songs;",
        "unknown: 3 to learn from, 1 to choose the checkpoint.",
    ):
        assert told in text
    assert card.shortened("model_card.md") == text.strip()
    assert "**Songs** of unknown origin" in dataclasses.replace(card, sources=TrainedOn()).markdown()
    many = dataclasses.replace(card, params={f"train.setting_{number}": "x" * 90 for number in range(60)})
    shortened = many.shortened("model_card.md")
    assert len(shortened) <= LONGEST
    assert shortened.endswith("(More in the run's artifacts: model_card.md.)")
    assert "models:/fxnorm-automix/7" in shortened
    assert "train.setting_0" not in shortened
    endless = dataclasses.replace(card, reason="x" * 6_000).shortened("model_card.md")
    assert len(endless) <= LONGEST
