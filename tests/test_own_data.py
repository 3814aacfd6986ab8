"""The kind: what README calls optional is needed. The shipped pipeline runs with wet songs alone, as a user has them.

What is added later reruns what depends on it and nothing else; what is missing is said before anything is measured.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from fxnorm.cli import main
from fxnorm.errors import DatasetError
from fxnorm.io import audio
from fxnorm.stages import inputs
from tests.conftest import noise
from tests.project import STAGES, TINY, Project, checkout

pytestmark = pytest.mark.system

MakeSong = Callable[..., Path]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with short wet songs and nothing else, in which all stages up to the evaluation have run."""
    project = checkout(tmp_path_factory.mktemp("own"))
    for number, split in enumerate(("train", "val", "test")):
        stems = {stem: noise(1.5, 0.2, 10 * number + index) for index, stem in enumerate(("Vocals", "bass", "drums"))}
        for stem, samples in (stems | {"mixture": np.sum(list(stems.values()), axis=0)}).items():
            audio.write(project.folder / f"data/wet/{split}/Song {number}/{stem}.wav", samples, subtype="PCM_16")
    project.set("train", **TINY)
    project.set("resources", threads=1, loader_workers=0)
    project.set("train", schedule=[{"epochs": 1, "learning_rate": 1.0e-3}])
    project.run("dvc", "add", "-q", "data")
    project.commit("start")
    assert project.stages_run(project.run("dvc", "repro", "evaluate")) == list(STAGES[:-1])
    return project


def test_wet_songs_alone_are_enough(own: Project) -> None:
    assert list(json.loads((own.folder / "reports/metrics.json").read_text())) == ["test_wet"]
    tracked = yaml.safe_load((own.folder / "data.dvc").read_text())["outs"][0]["md5"]
    assert json.loads((own.folder / "reports/test_data.json").read_text())["test_wet"]["dvc"] == tracked
    assert own.stages_run(own.run("dvc", "repro", "evaluate")) == []
    assert "up to date" in own.run("dvc", "status", "evaluate")
    stages = yaml.safe_load((own.folder / "dvc.yaml").read_text())["stages"]
    missing = [name for name in stages["register"]["deps"] if not (own.folder / name).exists()]
    assert missing == ["artifacts/mlflow_store.json"], "which a stage makes that has not run yet"


def test_what_is_added_later_reruns_what_depends_on_it_alone(own: Project) -> None:
    audio.write(own.folder / "data/dry/test/Another/bass.wav", noise(0.2, seed=99))
    own.run("dvc", "add", "-q", "data")
    assert own.stages_run(own.run("dvc", "repro", "normalize")) == ["inputs"]
    changed = own.run("dvc", "status", "evaluate")
    assert "artifacts/inputs/dry.json" in changed
    assert "impulse_responses" not in changed
    audio.write(own.folder / "data/impulse_responses/reverb/room.wav", noise(0.2, seed=98))
    own.run("dvc", "add", "-q", "data")
    assert own.stages_run(own.run("dvc", "repro", "normalize")) == ["inputs", "normalize"]
    kept = own.folder / "artifacts/normalized/recipe/impulse_responses/reverb"
    assert [path.name for path in kept.iterdir()] == ["room.wav"]


@pytest.fixture
def data(make_song: MakeSong, tmp_path: Path) -> Path:
    for number, split in enumerate(("train", "val", "test")):
        make_song(f"data/wet/{split}/{number}", seconds=0.1, seed=number)
    return tmp_path / "data"


def test_what_is_noted_of_optional_folders_is_their_content(data: Path, tmp_path: Path) -> None:
    def noted() -> list[str]:
        inputs.run(data, tmp_path / "out")
        return [(tmp_path / "out" / name).read_text() for name in ("dry.json", "impulse_responses.json")]

    before = noted()
    assert before == ["{}\n", "{}\n"]
    for folder in ("dry", "impulse_responses"):
        (data / folder).mkdir()
        (data / folder / ".DS_Store").touch()
    assert noted() == before
    audio.write(data / "dry/test/A/bass.wav", noise(0.1))
    dry, responses = noted()
    assert (list(json.loads(dry)), responses) == (["test/A/bass.wav"], before[1])
    audio.write(data / "dry/test/A/bass.wav", noise(0.1, seed=5))
    assert noted()[0] != dry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: shutil.rmtree(data / "wet"), "wet: no such folder"),
        (lambda data: shutil.rmtree(data / "wet/val"), "expected a split 'val', found train, test; 'fxnorm split"),
        (lambda data: shutil.rmtree(data / "wet/test"), "expected a split 'test', found train, val"),
        (lambda data: shutil.rmtree(data / "wet/test/2"), "wet/test: expected song folders"),
        (lambda data: (data / "wet/val").rename(data / "wet/valid"), "valid: expected the name val"),
        (lambda data: shutil.copytree(data / "wet/val", data / "wet/dev"), "one folder of the split 'val'"),
        (lambda data: audio.write(data / "impulse_responses/hall.wav", noise(0.1)), "hall.wav: expected"),
        (lambda data: audio.write(data / "impulse_responses/rooms/a.wav", noise(0.1)), "rooms: expected"),
    ],
)
def test_what_a_later_stage_would_lack_is_said_first(
    data: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(data)
    with pytest.raises(DatasetError, match=said) as caught:
        inputs.run(data, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--impulse-responses", "{data}/nowhere"), "nowhere: no such folder of impulse responses"),
        (("--pre-impulse-responses", "{data}/empty"), "empty: expected WAV or FLAC files of impulse responses"),
        (("--impulse-responses-in", "{data}/half"), "half/reverb: expected WAV or FLAC files of impulse responses"),
        (("--impulse-responses-in", "{data}/wet"), "wet/test: expected impulse responses in the folders reverb and"),
    ],
)
def test_a_folder_of_impulse_responses_that_is_asked_for_has_to_hold_some(
    data: Path, tmp_path: Path, options: tuple[str, str], said: str
) -> None:
    (data / "empty").mkdir()
    (data / "half/reverb").mkdir(parents=True)
    statistics = Path(__file__).parent / "data/effects/musdb18_statistics.npz"
    command = ["normalize", data / "wet", statistics, tmp_path / "out", options[0], options[1].format(data=data)]
    result = CliRunner().invoke(main, [str(part) for part in command])
    assert (result.exit_code, said in result.output) == (1, True), result.output
    assert not (tmp_path / "out").exists()
