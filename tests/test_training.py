"""Crops, the loop, checkpoints, and runs that are stopped and go on."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.effects.loudness import measure
from fxnorm.errors import DatasetError, DivergedError, FxnormError, ModelError
from fxnorm.io import audio, object_store
from fxnorm.losses import StereoLoss
from fxnorm.models import CRAFx2, MixingNetwork
from fxnorm.normalization.recipe import Recipe
from fxnorm.settings import ResourcesSettings, TrainSettings
from fxnorm.training import loop
from fxnorm.training.checkpoints import Checkpoints, name_of, opened
from fxnorm.training.data import RandomCrops, Sequences, StoredSong
from fxnorm.training.distributed import Processes
from fxnorm.training.interruption import Interruption
from fxnorm.training.reverberation import Reverberation
from fxnorm.training.tasks import guard_frames, new_network, task
from tests.conftest import SIZES, noise
from tests.servers import free_port

pytestmark = pytest.mark.system  # it trains

MakeSong = Callable[..., Path]
SETTINGS = TrainSettings(
    sizes=dict(SIZES),
    sequence_seconds=0.25,
    batch_size=2,
    batches_per_epoch=4,
    warm_up_batches=2,
    schedule=({"epochs": 2, "learning_rate": 1e-3}, {"epochs": 1, "learning_rate": 1e-4}),  # type: ignore[arg-type]
)
RESOURCES = ResourcesSettings(checkpoint_every=3, loader_workers=0)


def quiet(step: int, values: Mapping[str, float]) -> None:
    """A log that nobody reads."""


@pytest.fixture
def songs(make_song: MakeSong, tmp_path: Path) -> dict[str, list[dataset.Song]]:
    gains = {"vocals": 1.5, "drums": 0.3}  # a mix that is not the sum, so that there is something to learn
    make_song("d/train/A", seconds=1.0, seed=1, gains=gains)
    make_song("d/train/B", seconds=0.6, seed=2, gains=gains)
    make_song("d/val/C", seconds=0.8, seed=3, gains=gains)
    return {split: dataset.songs(tmp_path / "d", split) for split in ("train", "val")}


def train(
    songs: dict[str, list[dataset.Song]],
    folder: Path,
    settings: TrainSettings = SETTINGS,
    log: loop.Log = quiet,
    resources: ResourcesSettings = RESOURCES,
    front_end: Mapping[str, torch.Tensor] | None = None,
) -> tuple[MixingNetwork, loop.Outcome]:
    network = new_network(settings)
    if front_end is not None and isinstance(network, CRAFx2):
        network.front_end.load_state_dict(front_end)
    checkpoints = Checkpoints(folder / name_of(loop.identity(settings)), RESOURCES.keep_checkpoints)
    outcome = loop.train(
        task(network, settings),
        settings,
        songs["train"],
        songs["val"],
        checkpoints,
        log,
        resources=resources,
        processes=Processes(torch.device("cpu")),
        interruption=Interruption(),
    )
    return network, outcome


def test_a_crop_past_the_end_goes_on_at_the_beginning(songs: dict[str, list[dataset.Song]]) -> None:
    song = StoredSong(songs["train"][0])
    whole = audio.read(songs["train"][0].stems["bass"])[0]
    stems, mixture = song.read(SAMPLE_RATE - 100, 1_000)
    bass = stems[2 * STEMS.index("bass") :][:2].numpy()
    assert np.array_equal(bass, np.concatenate([whole[:, -100:], whole[:, :900]], axis=1))
    stems = stems.unflatten(0, (4, 2)).permute(1, 2, 0)
    assert torch.allclose(stems @ torch.tensor([1.5, 1.0, 0.3, 1.0]), mixture, atol=4 / 32768)  # 16 bit, rounded each


@pytest.mark.parametrize(
    ("kind", "subtype", "endian"),
    [
        ("WAV", "PCM_16", "FILE"),
        ("WAV", "PCM_24", "FILE"),
        ("WAV", "PCM_24", "BIG"),
        ("WAV", "PCM_32", "FILE"),
        ("WAVEX", "FLOAT", "FILE"),
        ("RF64", "PCM_24", "FILE"),
        ("FLAC", "PCM_24", "FILE"),
    ],
)
def test_a_stretch_of_a_file_is_what_soundfile_reads_of_it(
    make_song: MakeSong, tmp_path: Path, kind: str, subtype: str, endian: str
) -> None:
    file = make_song("d/A", seconds=0.2) / "bass.wav"
    samples = noise(0.2, 0.9)
    soundfile.write(file, samples.T, SAMPLE_RATE, subtype, endian, kind)
    if kind == "WAV" and endian == "FILE":  # a chunk before the samples, longer than what is read ahead of a header
        content = file.read_bytes()
        chunk = b"LIST" + (30_000).to_bytes(4, "little") + b"INFO" + bytes(29_996)
        size = int.from_bytes(content[4:8], "little") + len(chunk)
        file.write_bytes(b"RIFF" + size.to_bytes(4, "little") + content[8:12] + chunk + content[12:])
    expected = soundfile.read(file, dtype="float32")[0].T
    (song,) = dataset.songs(tmp_path / "d")
    stems, _ = StoredSong(song).read(1_001, 3_003)
    np.testing.assert_array_equal(stems[2:4], expected[:, 1_001:4_004])


def test_a_missing_stem_and_a_shorter_file_are_silence(make_song: MakeSong, tmp_path: Path) -> None:
    folder = make_song("d/A", seconds=1.0)
    (folder / "drums.wav").unlink()
    audio.write(folder / "bass.wav", noise(0.5, channels=1))
    (song,) = dataset.songs(tmp_path / "d")
    stems, _ = StoredSong(song).read(0, SAMPLE_RATE)
    bass, drums = stems[2:4], stems[4:6]
    assert not drums.any()
    assert not bass[:, SAMPLE_RATE // 2 :].any()
    assert torch.equal(bass[0], bass[1])
    assert bass.any()


def test_a_song_without_mixture_cannot_be_trained_on(make_song: MakeSong, tmp_path: Path) -> None:
    make_song("d/A", seconds=0.1, mixture=False)
    with pytest.raises(DatasetError, match="expected a mixture"):
        StoredSong(dataset.songs(tmp_path / "d")[0])


def test_a_song_at_another_rate_cannot_be_trained_on(tmp_path: Path) -> None:
    for name in ("bass", "mixture"):
        audio.write(tmp_path / f"d/A/{name}.wav", noise(0.1), 48_000)
    with pytest.raises(DatasetError, match="expected 44100 Hz, found 48000"):
        StoredSong(dataset.songs(tmp_path / "d")[0])


def test_the_nth_crop_is_always_the_same_and_neighbours_differ(songs: dict[str, list[dataset.Song]]) -> None:
    one, two = (RandomCrops(songs["train"], 1_000, seed=5, swap_channels=True) for _ in range(2))
    assert torch.equal(one[7][0], two[7][0])
    assert not torch.equal(one[7][0], one[8][0])


def test_swapping_swaps_left_and_right_of_stems_and_mixture_together(songs: dict[str, list[dataset.Song]]) -> None:
    plain = RandomCrops(songs["train"], 1_000, seed=5, swap_channels=False)
    swapping = RandomCrops(songs["train"], 1_000, seed=5, swap_channels=True)
    swapped = 0
    for number in range(20):
        (stems, mixture), (other_stems, other_mixture) = plain[number], swapping[number]
        if torch.equal(stems, other_stems):
            assert torch.equal(mixture, other_mixture)
        else:
            swapped += 1
            assert torch.equal(stems[[1, 0, 3, 2, 5, 4, 7, 6]], other_stems)
            assert torch.equal(mixture[[1, 0]], other_mixture)
    assert 4 < swapped < 16


@pytest.fixture
def reverberation(mixer_folder: Path) -> Reverberation:
    return Reverberation.of(Recipe.load(mixer_folder), 0.5)


def test_reverberation_comes_to_some_vocals_and_other_and_to_nothing_else(
    songs: dict[str, list[dataset.Song]], reverberation: Reverberation
) -> None:
    samples, count = SAMPLE_RATE // 4, 40
    plain = RandomCrops(songs["train"], samples, seed=5, swap_channels=True)
    one, two = (RandomCrops(songs["train"], samples, 5, True, reverberation) for _ in range(2))
    changed: dict[str, int] = dict.fromkeys(STEMS, 0)
    for number in range(count):
        (stems, mixture), (other_stems, other_mixture) = plain[number], one[number]
        assert torch.equal(mixture, other_mixture), "the same crop, and the target as it was"
        for index, stem in enumerate(STEMS):
            pair = slice(2 * index, 2 * index + 2)
            changed[stem] += not torch.equal(stems[pair], other_stems[pair])
    assert changed["bass"] == changed["drums"] == 0
    assert count / 4 < changed["vocals"] < 3 / 4 * count
    assert count / 4 < changed["other"] < 3 / 4 * count
    assert all(torch.equal(one[number][0], two[number][0]) for number in (count, 3)), "the n-th is always the same"


def test_reverberation_leaves_the_loudness_and_rings_on_from_before_a_crop(reverberation: Reverberation) -> None:
    sound = noise(3.0, 0.2, seed=9)
    sound[:, SAMPLE_RATE:] = 0
    wet = reverberation.apply(sound, "vocals", 1)
    assert measure(wet, SAMPLE_RATE) == pytest.approx(measure(sound, SAMPLE_RATE), abs=0.1)
    assert not np.array_equal(wet[:, :SAMPLE_RATE], sound[:, :SAMPLE_RATE])
    tail = np.sqrt(np.mean(wet[:, SAMPLE_RATE:][:, : SAMPLE_RATE // 2] ** 2))
    assert tail > 1e-3, "what a crop that begins here hears of the second before it"
    silence = np.zeros((2, SAMPLE_RATE), dtype=np.float32)
    assert not reverberation.apply(silence, "vocals", 1).any()


def test_validation_sequences_cover_every_sample_outside_the_guards(songs: dict[str, list[dataset.Song]]) -> None:
    guard = 500
    sequences = Sequences(songs["val"], 4_000, overlap=2 * guard)
    starts = [start for _, start in sequences.places]
    covered = {sample for start in starts for sample in range(start + guard, start + 4_000 - guard)}
    assert covered >= set(range(guard, sequences.places[0][0].samples))


def test_training_lowers_the_loss_and_keeps_the_best_weights(
    songs: dict[str, list[dataset.Song]], tmp_path: Path
) -> None:
    seen: list[tuple[int, dict[str, float]]] = []
    _, outcome = train(songs, tmp_path / "c", log=lambda step, values: seen.append((step, dict(values))))
    validations = {step: values["validation.loss"] for step, values in seen if "validation.loss" in values}
    assert list(validations) == [2, 6, 10, 14]
    assert outcome.best_validation_loss == min(validations.values())
    assert outcome.best_validation_loss < validations[2], "better than after the warm-up, in which no weight moves"
    assert [step for step, values in seen if "train.loss" in values] == list(range(1, 15))


def test_the_published_guard_formula() -> None:
    assert guard_frames(32_446) == math.ceil((32_446 - 4_096) / 1_024 + 1) + 1 == 30
    assert guard_frames(0) == 0


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    songs: dict[str, list[dataset.Song]], tmp_path: Path
) -> None:
    whole, outcome = train(songs, tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill_at(killed_at: int) -> loop.Log:
        def log(step: int, values: Mapping[str, float]) -> None:
            if step == killed_at:
                raise KilledError

        return log

    for killed_at in (5, 7, 11):  # each of the restarts goes on from a checkpoint at 3, 6 or 9
        with pytest.raises(KilledError):
            train(songs, tmp_path / "killed", log=kill_at(killed_at))
    resumed, resumed_outcome = train(songs, tmp_path / "killed")
    assert resumed_outcome == outcome
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_other_settings_do_not_go_on_from_a_checkpoint(songs: dict[str, list[dataset.Song]], tmp_path: Path) -> None:
    train(songs, tmp_path / "c")
    steps: list[int] = []
    other = SETTINGS.model_copy(update={"seed": 1})
    train(songs, tmp_path / "c", other, log=lambda step, values: steps.append(step))
    assert steps[0] == 1


def test_a_finished_run_started_again_does_nothing_and_gives_the_same(
    songs: dict[str, list[dataset.Song]], tmp_path: Path
) -> None:
    first, outcome = train(songs, tmp_path / "c")
    steps: list[int] = []
    second, again = train(songs, tmp_path / "c", log=lambda step, values: steps.append(step))
    assert steps == []
    assert again == outcome
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_loss_that_is_not_a_number_stops_with_step_songs_and_advice(
    songs: dict[str, list[dataset.Song]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means, calls = StereoLoss.means, 0

    def broken_at_step_4(self: StereoLoss, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += output.requires_grad  # in no validation
        return means(self, output, target) * (math.nan if calls == 4 else 1)

    monkeypatch.setattr(StereoLoss, "means", broken_at_step_4)
    steps: list[int] = []
    with pytest.raises(DivergedError, match=r"loss is nan at step 4 \(songs: .*[AB].*\); try a lower"):
        train(songs, tmp_path / "c", log=lambda step, values: steps.extend([step] * ("train.loss" in values)))
    assert calls > 4, "it is not waited for"
    assert steps == [1, 2, 3]
    (checkpoint,) = (tmp_path / "c").glob("*/step-*.pt")
    assert checkpoint.name == "step-000000003.pt", "no checkpoint has weights that are not numbers"


class WithoutWaiting(TorchDispatchMode):
    """While it lasts, what waits for a device that computes a tensor is an error."""

    WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default)
    METHODS = ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__repr__")

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert function not in self.WAITING, function
        return function(*args, **(kwargs or {}))

    def __enter__(self) -> "WithoutWaiting":
        self.patch = pytest.MonkeyPatch()
        for name in self.METHODS:
            self.patch.setattr(torch.Tensor, name, self._refused)
        return super().__enter__()

    def __exit__(self, *arguments: Any) -> None:
        self.patch.undo()
        super().__exit__(*arguments)

    @staticmethod
    def _refused(*arguments: Any) -> Any:
        raise AssertionError("the value of a tensor is asked for")


@pytest.mark.parametrize("resources", [{}, {"accumulation": 2}])
def test_no_step_waits_for_the_device(
    songs: dict[str, list[dataset.Song]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: dict[str, int]
) -> None:
    with WithoutWaiting(), pytest.raises(AssertionError):
        float(torch.ones(()))
    with WithoutWaiting(), pytest.raises(AssertionError):
        torch.ones(3).nonzero()
    step, guarded = loop._Run._train_step, list[int]()

    def without_waiting(self: loop._Run, stems: torch.Tensor, mixture: torch.Tensor) -> None:
        with WithoutWaiting():
            step(self, stems, mixture)
        guarded.append(self.step)

    monkeypatch.setattr(loop._Run, "_train_step", without_waiting)
    update = {"loss": "a", "weight_average": 0.9}  # what takes most
    train(songs, tmp_path / "c", SETTINGS.model_copy(update=update), resources=RESOURCES.model_copy(update=resources))
    assert guarded == list(range(1, 15))


@pytest.mark.slow
def test_the_whole_recipe_learns_in_bfloat16_what_it_learns_in_single_precision(
    songs: dict[str, list[dataset.Song]], tmp_path: Path
) -> None:
    """Pre-training, then the mixer on top of it with both losses; and the Wave-U-Net."""
    parts: list[tuple[str, dict[str, Any]]] = [
        ("front-end", {"task": "front_end"}),
        ("crafx2 a", {"loss": "a"}),
        ("crafx2 b", {"loss": "b"}),
        ("wave-u-net b", {"network": "wave_u_net", "sizes": {"features": 8, "levels": 3}}),
    ]
    losses: dict[str, dict[str, list[float]]] = {}
    for precision in ("float32", "bfloat16"):
        front_end: dict[str, torch.Tensor] | None = None
        for name, changes in parts:
            settings = SETTINGS.model_copy(update={**changes, "precision": precision})
            found = losses.setdefault(name, {})[precision] = []

            def log(step: int, values: Mapping[str, float], found: list[float] = found) -> None:
                found += [values[key] for key in ("train.loss", "validation.loss") if key in values]

            network, outcome = train(songs, tmp_path / precision / name, settings, log, front_end=front_end)
            assert outcome.best_validation_loss < outcome.curve[0]["validation_loss"], "it learns"
            if isinstance(network, CRAFx2) and name == "front-end":
                front_end = {key: value.clone() for key, value in network.front_end.state_dict().items()}
    for name, both in losses.items():
        exact, rounded = (torch.tensor(both[precision]) for precision in ("float32", "bfloat16"))
        assert not torch.equal(exact, rounded), name
        apart = (rounded - exact).abs() / exact
        assert float(apart.max()) < 0.03, f"{name}: {apart}"
        print(f"{name}: at most {float(apart.max()):.2%} apart")


def test_an_object_store_that_does_not_answer_is_said_and_holds_up_nothing_but_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    with opened("s3://fxnorm/checkpoints", "run", keep=2) as checkpoints:
        with pytest.raises(FxnormError, match="s3://fxnorm/checkpoints/run: cannot be listed"):
            checkpoints.fetch()
        checkpoints.save(1, {"step": 1})
        assert checkpoints.newest() == {"step": 1}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("train: s3://fxnorm/checkpoints/run/step-000000001.pt: cannot be written")
    for wrong in ("s3://", "s3://bucket", "s3:///key"):
        with pytest.raises(FxnormError, match="expected s3://BUCKET/KEY"):
            object_store.split(wrong)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.newest() is None
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002.pt", "step-000000003.pt"]
    assert checkpoints.newest() == {"step": 3}


def truncate(content: bytearray) -> None:
    del content[-300:]


def flip_a_bit(content: bytearray) -> None:
    content[content.index(np.float32(0.7).tobytes())] ^= 1


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytearray], None]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, {"step": 1})
    checkpoints.save(2, {"step": 2, "weights": torch.full((100,), 0.7)})
    newest = tmp_path / "step-000000002.pt"
    content = bytearray(newest.read_bytes())
    damage(content)
    newest.write_bytes(content)
    assert checkpoints.newest() == {"step": 1}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"train: {newest}: not readable as a checkpoint (")
    assert line.endswith("going on from step-000000001.pt, the one before")
    checkpoints.save(3, {"step": 3})
    assert checkpoints.newest() == {"step": 3}
    assert (tmp_path / "step-000000001.pt").exists(), "the damaged one does not count among those kept"


def test_when_no_checkpoint_can_be_read_nothing_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "step-000000001.pt").write_bytes(b"not a checkpoint")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"step-000000001\.pt: not readable .* remove .* to start anew"):
            Checkpoints(tmp_path).newest()


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".step-000000002.x1y2.pt").write_bytes(b"half a checkpoint")
    assert Checkpoints(tmp_path).newest() is None
    assert list(tmp_path.iterdir()) == []
