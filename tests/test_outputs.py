"""What a command may write to.

The kind: an output that would cost somebody something is refused in one line, before any work, by every command: the
working folder, what is, holds or lies in an input, also through links and under other spellings, and a folder that
holds anything which that command did not make. What it made before is replaced, and an output that cannot be replaced
is no surprise at the end.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fxnorm import Mixer
from fxnorm.demo import render_dataset
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.errors import OutputError
from fxnorm.io import audio, outputs
from fxnorm.listening_test import analyse
from fxnorm.mixing.mixer import CONTENTS, WEIGHTS_FILE, write_weights
from fxnorm.stages import evaluate, normalize
from tests.conftest import noise
from tests.listening import SYSTEMS
from tests.test_models_reference import checkpoint
from tests.test_stages import fxnorm, the_line
from tests.test_training_stage import RESOURCES, TINY

pytestmark = pytest.mark.system

COMMANDS = {
    "train": "train ../normalized {out}",
    "import-weights": "import-weights ../weights.pt {out} --statistics ../statistics.npz --impulse-responses ../rooms",
    "import-reference": "import-reference ../rooms {out}",
    "normalize": "normalize ../data/wet ../statistics.npz {out}",
    "evaluate": "evaluate ../mixer ../data {out}",
    "build": "listening-test build ../mixes {out}",
    "analyse": "listening-test analyse ../answers {out} --key ../key.json",
    "demo-data": "demo-data {out} --songs val=1 --seconds 4 5",
}
INPUTS = {
    "train": "../normalized",
    "import-weights": "../rooms",
    "import-reference": "../rooms",
    "normalize": "../data/wet",
    "evaluate": "../mixer",
    "build": "../mixes",
    "analyse": "../answers",
}
"""One input of each command that has any."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, normalized_folder: Path, mixer_folder: Path) -> Path:
    """Inputs of all commands beside a working folder; tests leave it as it is."""
    root = tmp_path_factory.mktemp("world")
    for split in ("train", "val", "test"):
        shutil.copytree(normalized_folder / "train/A", root / "data/wet" / split / split)
    shutil.copytree(normalized_folder, root / "normalized")
    shutil.copytree(mixer_folder, root / "mixer")
    shutil.copy(mixer_folder / "statistics.npz", root / "statistics.npz")
    torch.save(checkpoint("crafx2")[0], root / "weights.pt")
    for system in SYSTEMS:
        audio.write(root / "mixes/A Song" / f"{system}.flac", noise(1.0))
    shutil.copytree(mixer_folder / "impulse_responses/reverb", root / "rooms")
    (root / "answers").mkdir()
    (root / "key.json").write_text("{}")
    work = root / "work"
    work.mkdir()
    (work / "params.yaml").write_text(yaml.safe_dump({"train": TINY, "resources": RESOURCES}))
    (work / "file").write_text("a file")
    for name in ("mixes", "plots", "notes"):  # of the user, by names that commands use as well
        (work / name).mkdir()
        (work / name / "notes.txt").write_text("mine")
    (work / "link").symlink_to("notes")
    (work / "dangling").symlink_to("nowhere/else")
    (work / "loop").symlink_to("loop")
    (work / "up").symlink_to("..")
    return root


def everything(root: Path) -> dict[str, object]:
    """All that is in a folder, as it is."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "out",
    [".", "..", "../work", "/", "up", "notes", "link", "loop", "dangling", "file", "file/in", "y" * 256, "/proc"],
)
def test_an_output_that_is_not_the_commands_own_is_refused_before_work_begins(
    world: Path, monkeypatch: pytest.MonkeyPatch, command: str, out: str
) -> None:
    monkeypatch.chdir(world / "work")
    before = everything(world)
    result = fxnorm(*COMMANDS[command].format(out=out).split())
    if out == "file":
        assert result.exit_code == 2
        assert "Directory 'file' is a file." in result.output
    else:
        assert the_line(result).startswith(f"fxnorm: {out}")
    assert everything(world) == before


@pytest.mark.parametrize("command", INPUTS)
@pytest.mark.parametrize("relation", ["{input}", "{input}/../{name}", "{input}/..", "linked"])
def test_an_output_that_is_or_holds_an_input_is_refused(
    world: Path, monkeypatch: pytest.MonkeyPatch, command: str, relation: str
) -> None:
    monkeypatch.chdir(world / "work")
    link = world / "linked"
    link.symlink_to(Path("work") / INPUTS[command])
    try:
        before = everything(world)
        out = relation.format(input=INPUTS[command], name=Path(INPUTS[command]).name)
        line = the_line(fxnorm(*COMMANDS[command].format(out="../linked" if out == "linked" else out).split()))
        assert ("linked" if out == "linked" else out) in line
        assert everything(world) == before
    finally:
        link.unlink()


@pytest.mark.parametrize("command", ["train", "import-weights", "import-reference", "normalize", "evaluate", "build"])
def test_an_output_that_lies_in_an_input_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(world / "work")
    before = everything(world)
    line = the_line(fxnorm(*COMMANDS[command].format(out=f"{INPUTS[command]}/new/out").split()))
    assert "lies in an input of this command" in line
    assert everything(world) == before


FILES = {
    "statistics ../data/wet ../data/wet/train/train/bass.wav": "lies in an input",
    "statistics ../data/wet ../data/wet/new.npz": "lies in an input",
    "statistics ../data/wet {out}/s.npz --plot {out}/s.npz": "expected a file name that ends in",
    "statistics ../data/wet {out}/s.png --plot {out}/s.png": "is another output",
    "statistics ../data/wet {out}/s.npz --plot ../data/wet/train/train/new.png": "lies in an input",
    "statistics ../data/wet params.yaml": "is an input of this command, params.yaml",
    "statistics ../data/wet {out}/s.npz --plot {out}/plot": "expected a file name that ends in",
    "merge-statistics ../statistics.npz ../statistics.npz": "is an input",
    "merge-statistics ../work/../statistics.npz ../statistics.npz": "is an input",
    "merge-statistics ../hard.npz ../statistics.npz": "is an input",
    "merge-statistics ../soft.npz ../statistics.npz": "is an input",
    "merge-statistics /dev/null ../statistics.npz": "found a device",
    "merge-statistics notes ../statistics.npz": "cannot be written (Is a directory)",
    "merge-statistics file/s.npz ../statistics.npz": "cannot be written (Not a directory)",
    "import-statistics ../statistics.npz ../statistics.npz": "is an input",
    "import-statistics ../statistics.npz ../soft.npz": "is an input",
    "mix ../mixer --vocals ../v.wav --output ../v.wav": "is an input",
    "mix ../mixer --vocals ../v.wav --output ../work/../v.wav": "is an input",
    "mix ../mixer --vocals ../v.wav --output ../hard.wav": "is an input",
    "mix ../mixer --vocals ../v.wav --output ../soft.wav": "is an input",
    "mix --endpoint http://127.0.0.1:9 --vocals ../v.wav --output ../v.wav": "is an input",
    "mix ../mixer --vocals ../v.wav --output ../mixer/mix.wav": "lies in an input",
    "mix ../mixer --vocals ../v.wav --output {out}/mix.wav --plot ../mixer/new.png": "lies in an input",
    "normalize ../data/wet ../statistics.npz {out} --plot {out}/plot.png": "another output",
    "normalize ../data/wet ../statistics.npz {out} --plot ../data/wet/plot.png": "lies in an input",
    "train ../normalized {out} --curve {out}/loss.csv": "another output",
    "train ../normalized {out} --checkpoints {out}/checkpoints": "another output",
    "train ../normalized {out} --checkpoints ../normalized": "is an input",
    "train ../normalized {out} --curve ../normalized/recipe/normalization.json": "lies in an input",
    "train ../normalized {out} --curve params.yaml": "is an input of this command, params.yaml",
    "train ../normalized ../mixer --set train.initial_weights=../mixer": "is an input",
    "evaluate ../mixer ../data ../mixer/out --also a=../rooms": "lies in an input",
}


@pytest.mark.parametrize("command", FILES)
def test_an_output_file_that_is_an_input_or_no_place_for_a_file_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(world / "work")
    audio.write(world / "v.wav", noise(0.5))
    for name in ("v.wav", "statistics.npz"):
        for kind, link in (("hard", os.link), ("soft", os.symlink)):
            (world / f"{kind}{Path(name).suffix}").unlink(missing_ok=True)
            link(world / name, world / f"{kind}{Path(name).suffix}")
    before = everything(world)
    assert FILES[command] in the_line(fxnorm(*command.format(out=tmp_path).split()))
    assert everything(world) == before
    assert list(tmp_path.iterdir()) == []


# ---- what was made before, and what somebody put beside it


def put(folder: Path, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/link"):
        path.symlink_to(folder.parent, target_is_directory=True)
    else:
        path.write_text("mine")


@pytest.mark.parametrize("name", ["notes.txt", ".notes", "old/mixer.json", "impulse_responses/reverb/a.flac", "a/link"])
def test_a_mixer_with_something_of_the_users_is_not_replaced(mixer_folder: Path, tmp_path: Path, name: str) -> None:
    mixer = Mixer.load(mixer_folder, torch.device("cpu"))
    folder = shutil.copytree(mixer_folder, tmp_path / "mixer")
    put(folder, name)
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=f"holds {name}, which is no part of a Mixer"):
        mixer.save(folder)
    assert everything(tmp_path) == before


def test_an_older_mixer_is_replaced_also_where_a_file_manager_looked_into_it(
    mixer_folder: Path, tmp_path: Path
) -> None:
    mixer = Mixer.load(mixer_folder, torch.device("cpu"))
    folder = shutil.copytree(mixer_folder, tmp_path / "mixer")
    (folder / "mlflow_run.json").write_text("{}")
    (folder / ".DS_Store").write_text("")
    mixer.run_in_seconds = 7.0
    mixer.save(folder)
    assert json.loads((folder / "mixer.json").read_text())["run_in_seconds"] == 7.0
    assert everything(folder).keys() == everything(mixer_folder).keys()


def test_weights_and_descriptions_that_are_others_are_no_mixer(tmp_path: Path) -> None:
    for name, write in (
        (WEIGHTS_FILE, lambda path: write_weights({"model.layer": torch.zeros(1)}, path)),
        ("mixer.json", lambda path: path.write_text('{"channels": 32}')),
        ("statistics.npz", lambda path: path.write_bytes(b"")),
    ):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        write(folder / name)
        with pytest.raises(OutputError, match=f"holds {name}, which is no part of a Mixer"):
            CONTENTS.refuse_others(folder)
    write_weights({"front_end.filters": torch.zeros(1)}, tmp_path / WEIGHTS_FILE.replace(".", "-") / WEIGHTS_FILE)
    CONTENTS.refuse_others(tmp_path / WEIGHTS_FILE.replace(".", "-"))


def test_impulse_responses_are_not_saved_over_others(tmp_path: Path) -> None:
    responses = ImpulseResponses.synthesized(0.1, 1)
    audio.write(tmp_path / "rooms/hall.wav", noise(0.1))
    with pytest.raises(OutputError, match="rooms: holds something already"):
        responses.save(tmp_path / "rooms")
    assert [path.name for path in (tmp_path / "rooms").iterdir()] == ["hall.wav"]


EVALUATION = {
    "metrics.json": json.dumps({"test_wet": {"unet": {"stereo_loss_b": 1.0}}}),
    "songs.csv": "split,song,system,metric,value\n",
    "registration.json": "{}",
    "mixes/test_wet/A/unet.flac": "",
    "mixes/test_wet/A/crafx2.flac": "",
    "plots/test_wet.svg": "",
    "plots/test_dry/A/spectra.svg": "",
    f".songs/{'0' * 64}/metrics.json": "{}",
}


def lay(folder: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("listed", [False, True])
def test_an_older_evaluation_is_replaced(tmp_path: Path, listed: bool) -> None:
    lay(tmp_path, EVALUATION)
    if listed:
        outputs.mark(tmp_path / "mixes", "evaluate")
    evaluate._refuse_others(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "mixes/mine.flac", "mixes/test_wet/A/mine.flac", "mixes/test_wet/A/notes.txt", "plots/mine.svg",
     "plots/test_wet/A/own.svg", ".songs/notes.txt", "mixes/test_dry/mine/crafx2.wav"],
)  # fmt: skip
@pytest.mark.parametrize("listed", [False, True])
def test_an_evaluation_with_something_of_the_users_is_not_replaced(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, listed: bool
) -> None:
    monkeypatch.chdir(world / "work")
    lay(tmp_path / "out", EVALUATION)
    if listed:
        outputs.mark(tmp_path / "out/mixes", "evaluate")
    lay(tmp_path / "out", {name: "mine"})
    before = everything(tmp_path)
    line = the_line(fxnorm("evaluate", "../mixer", "../data", tmp_path / "out"))
    assert name.partition("/")[2] in line
    assert "is no part of an evaluation" in line
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [("metrics.json", '{"accuracy": 0.9}'), ("report.html", "<p>mine"), ("songs.csv", "title,year\n")],
)  # fmt: skip
def test_a_users_file_by_a_name_that_a_command_uses_is_not_written_over(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.chdir(world / "work")
    lay(tmp_path, {name: text})
    assert f"holds {name}, which is no part of an evaluation" in the_line(
        fxnorm("evaluate", "../mixer", "../data", tmp_path)
    )
    assert (tmp_path / name).read_text() == text
    if name != "songs.csv":
        (tmp_path / name).rename(tmp_path / "report.html")
        with pytest.raises(OutputError, match=r"holds report.html, which is no part of an analysis"):
            analyse._CONTENTS.refuse_others(tmp_path)


NORMALIZED = {
    "recipe/normalization.json": "{}",
    "train/A/bass.wav": "",
    "train/A/digest": "0",
    "val/B/mixture.wav": "",
    "val/B/digest": "of other code",
}


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "train/notes.txt", "train/A/notes.txt", "val/B/bass.flac", "train/Mine/bass.wav", "recipe/notes.txt",
     "test/Mine/mixture.wav", "more/A/bass.wav"],
)  # fmt: skip
def test_normalized_songs_with_something_of_the_users_are_left_alone(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(world / "work")
    lay(tmp_path / "out", NORMALIZED)
    normalize._refuse_others(tmp_path / "out")
    lay(tmp_path / "out", {name: "mine"})
    before = everything(tmp_path)
    line = the_line(fxnorm("normalize", "../data/wet", "../statistics.npz", tmp_path / "out"))
    assert f"{tmp_path / 'out'}: " in line
    assert everything(tmp_path) == before


def test_a_split_that_is_not_normalized_any_more_is_not_validated_on(tmp_path: Path) -> None:
    lay(tmp_path, NORMALIZED)
    songs = [normalize.Song("A", tmp_path / "elsewhere/A", {}, None)]
    normalize._remove_others(tmp_path, {"train": songs}, leftovers=False)
    assert {name for name, content in everything(tmp_path).items() if content is not False} == {
        "recipe/normalization.json", "train/A/bass.wav", "train/A/digest"
    }  # fmt: skip
    assert not (tmp_path / "val").exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "wet/train/A/notes.txt", "wet/train/notes.txt", "impulse_responses/a.wav", "dry/test/A/x.mp3"]
)  # fmt: skip
def test_a_demo_dataset_with_something_of_the_users_is_left_alone(tmp_path: Path, name: str) -> None:
    settings = {"seed": 0, "songs": {"train": 0, "val": 1, "test": 0, "dry": 0}, "seconds": [4.0, 5.0]}
    lay(tmp_path, {"demo.json": json.dumps(settings), "wet/train/A/bass.wav": "", name: "mine"})
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=f"holds {name}, which is no part of a demo dataset"):
        render_dataset(tmp_path, songs={"val": 1}, seconds=(4.0, 5.0))
    assert everything(tmp_path) == before


def test_what_was_kept_for_going_on_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = lay(tmp_path / ".s.npz.songs", {f"{'a' * 64}.npz": "", f".{'b' * 64}.fxnorm-01234567.npz": ""})
    outputs.remove_outputs(kept, r"[0-9a-f]{64}\.npz")
    assert not kept.exists()
    lay(kept, {f"{'a' * 64}.npz": "", "notes.txt": "mine"})
    outputs.remove_outputs(kept, r"[0-9a-f]{64}\.npz")
    assert [path.name for path in kept.iterdir()] == ["notes.txt"]


def test_a_file_is_written_under_the_name_that_was_given(tmp_path: Path, world: Path) -> None:
    """NumPy and Matplotlib add a suffix of their own to a name without one."""
    names = {"eq": np.ones(32_769), "panning": np.ones(32_769), "compression": np.ones(2), "loudness": np.ones(1)}
    features = {effect: dict.fromkeys(("vocals", "bass", "drums", "other"), values) for effect, values in names.items()}
    np.save(tmp_path / "features.npy", np.array(features, dtype=object), allow_pickle=True)
    result = fxnorm("import-statistics", tmp_path / "features.npy", tmp_path / "out/statistics")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["statistics"]
    assert (tmp_path / "out/statistics").read_bytes().startswith(b"PK")


@pytest.mark.parametrize("out", ["file", "file/runs", "dangling"])
def test_runs_of_the_pipeline_go_into_a_folder(world: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    from fxnorm.pipeline import local
    from fxnorm.pipeline.cluster import Cluster
    from fxnorm.pipeline.parameters import Parameters

    monkeypatch.chdir(world / "work")
    before = everything(world)
    with pytest.raises(OutputError, match=out):
        local.run(Cluster(), Parameters(repository="."), Path(out), False, (), False)
    assert everything(world) == before
