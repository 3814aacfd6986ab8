"""Sounds and songs that several tests use.

The process that hands tests to others imports this and nothing else, so what takes seconds to import stands where it is
used.
"""

import contextlib
import dataclasses
import inspect
import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from fxnorm.constants import SAMPLE_RATE, STEMS
from tests.project import Project, reproduced

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.browser import Browser

# one thread, here and in the processes that tests start: networks this small gain nothing from more, and threads that
# wait for each other spin
os.environ["OMP_NUM_THREADS"] = "1"
# PyTorch 2.13 convolves wrongly in bfloat16 on processors with AMX, as fxnorm.training.preflight says
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
# songs are done in one process where a test does not ask for more: each takes seconds to start, and the other cores
# have other tests to run
os.environ["LOKY_MAX_CPU_COUNT"] = "1"
# the code that starts a worker has no file: each inspect.stack(), of which kfp makes fifty for a pipeline, would look
# through all modules for it
inspect.modulesbyfile["<string>"] = "__main__"
# a shell has what it starts in the background ignore Ctrl-C, and so would the processes that tests start
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SIZES = {"filters": 8, "bottleneck": 8, "hidden": 8, "skip": 8, "blocks": 2, "repeats": 1, "squeeze_ratio": 1}
"""Of a network that computes in no time."""


for _name in (
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
):  # a make that a test starts is not a part of the one that runs the tests
    os.environ.pop(_name, None)

_LONG = (
    "project",
    "test_training_processes",
    "test_serving_environment",
    "test_tracking_servers",
    "test_fetch",
    "test_printed_commands",  # by now the project is made, of which it takes a copy
    "test_registry",
    "test_evaluation_stage",
    "test_serving",
    "test_training_stage",
    "test_normalization",
    "test_gradients",
    "test_kept_results",
    "test_search",
    "test_published",
    "test_stages",
    "test_wheel",
    "test_own_data",
    "test_training",
    "test_mixing",
    "test_programme",
    "test_statistics",
    "test_listening_test",
    "librosa",
)
"""Groups of tests that take longest, longest first: begun first, they do not keep one process busy at the end."""
_GROUPS = {
    "project": ("test_pipeline", "test_kubeflow", "test_experiments"),
    "librosa": ("test_effects_spectrum", "test_evaluation_metrics"),
}
"""Test modules that one process runs: it makes the project in which the pipeline has run, or compiles librosa's kernels
in a new environment, once for them.
"""
_GROUP_OF = {module: group for group, modules in _GROUPS.items() for module in modules}


def _group_of(path: str) -> str:
    module = Path(path).stem
    return _GROUP_OF.get(module, module)


_OF_A_SYSTEM = frozenset(("browser", "project", "original_project", "s3_environment", "server"))
"""Fixtures that start a browser, a pipeline or a server."""


_OF_PROCESSES = frozenset((
    "test_extras", "test_fetch", "test_locks", "test_parallel", "test_submit", "test_training_batches",
))  # fmt: skip
"""Test modules that start processes in most of their tests."""


_OF_WHOLE_SONGS = frozenset((
    "test_alternatives", "test_catalogue", "test_check", "test_parts", "test_reference", "test_sessions", "test_shares",
    "test_splits",
))  # fmt: skip
"""Test modules that check or mix songs from files to files in most of their tests."""


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need more than a unit, and begin with the groups that take longest."""
    modules = _OF_PROCESSES | _OF_WHOLE_SONGS
    for item in items:
        if _OF_A_SYSTEM.intersection(getattr(item, "fixturenames", ())) or item.path.stem in modules:
            item.add_marker("system")
    ranks = {name: rank for rank, name in enumerate(_LONG)}
    items.sort(key=lambda item: ranks.get(_group_of(str(item.path)), len(ranks)))


_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Note whether a test passed."""
    report = yield
    if call.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Clear away what a test that passed wrote: all of them write gigabytes.

    The folder itself stays, so that no other test gets its name, and so do MLflow's databases: MLflow keeps its
    connection to one, and by a relative name later tests reach it too.
    """
    yield
    top = getattr(item, "funcargs", {}).get("tmp_path")
    if top is not None and item.stash.get(_PASSED, False):
        for folder, folders, files in os.walk(top, topdown=False):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in [*files, *links]:
                if not name.startswith("mlflow.db"):
                    with contextlib.suppress(OSError):  # nobody may write in its folder
                        Path(folder, name).unlink()
            for name in set(folders).difference(links):
                with contextlib.suppress(OSError):  # something is left in it, or a process that ends still writes
                    Path(folder, name).rmdir()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Let the tests of a module run in one process, which makes what they share once."""

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid.partition("::")[0])

    return ByModule(config, log)


def noise(seconds: float, level: float = 0.1, seed: int = 0, channels: int = 2) -> np.ndarray:
    """Pink-like noise with a slow swell: something that every effect has something to do with."""
    generator = np.random.default_rng(seed)
    samples = round(seconds * SAMPLE_RATE)
    white = generator.standard_normal((channels, samples))
    pink = np.cumsum(white, axis=1)
    pink -= pink.mean(axis=1, keepdims=True)
    colored = white + pink / np.abs(pink).max(axis=1, keepdims=True)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * np.arange(samples) / SAMPLE_RATE)
    return (level * swell * colored / np.abs(colored).max()).astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _quick_stores() -> None:
    """MLflow migrates no new SQLite file in this process; those of processes that tests start are its own work."""
    from tests import stores

    stores.make_them_quickly()


@pytest.fixture(scope="session")
def s3_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables that point to an S3 store with the bucket ``fxnorm``."""
    from tests import servers

    with servers.s3(tmp_path_factory.mktemp("s3") / "log", "fxnorm") as environment:
        yield environment


@pytest.fixture(scope="session")
def _chromium() -> "Iterator[Chrome]":
    from tests.browser import chromium

    with chromium() as driver:
        yield driver


@pytest.fixture
def browser(_chromium: "Chrome", tmp_path: Path) -> "Iterator[Browser]":
    """A new window of a browser; what it downloads goes into ``downloads`` of the test's folder."""
    from tests.browser import Browser

    first = _chromium.current_window_handle
    _chromium.switch_to.new_window("tab")
    yield Browser(_chromium, tmp_path / "downloads")
    _chromium.close()
    _chromium.switch_to.window(first)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository in which the whole pipeline has run once; what tests do to it must suit the others."""
    made = reproduced(tmp_path_factory.mktemp("project"))
    unfinished = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(made.folder, unfinished, symlinks=True)
    with contextlib.suppress(OSError):  # another process has put its own there
        unfinished.rename(_copy_of_project(tmp_path_factory))
    return made


@pytest.fixture(scope="session")
def original_project(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Project:
    """Such a repository as it was made, to be copied and not to be changed; another process's, if there is one."""
    copy = _copy_of_project(tmp_path_factory)
    if not copy.is_dir():
        request.getfixturevalue("project")
    return Project(copy)


def _copy_of_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where processes share it: beside their own folders."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "project-as-made"


@pytest.fixture
def make_song(tmp_path: Path) -> Callable[..., Path]:
    """Writes a song folder of noise stems and a mixture, the sum of the stems with gains, and returns it."""

    from fxnorm.io import audio

    def make(
        name: str = "dataset/train/A Song",
        seconds: float = 3.0,
        seed: int = 0,
        mixture: bool = True,
        gains: dict[str, float] | None = None,
    ) -> Path:
        folder = tmp_path / name
        stems = {stem: noise(seconds, 0.2, seed * 10 + number) for number, stem in enumerate(STEMS)}
        for stem, samples in stems.items():
            audio.write(folder / f"{stem}.wav", samples, subtype="PCM_16")
        if mixture:
            mixed = np.sum([(gains or {}).get(stem, 1.0) * samples for stem, samples in stems.items()], axis=0)
            audio.write(folder / "mixture.wav", mixed, subtype="PCM_16")
        return folder

    return make


@pytest.fixture(scope="session")
def mixer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixer whose network is untrained: it gives the sum of the normalized stems."""
    import torch

    from fxnorm import Mixer, models
    from fxnorm.effects.impulse_responses import ImpulseResponses
    from fxnorm.normalization.recipe import Recipe
    from fxnorm.settings import NormalizeSettings
    from fxnorm.statistics import DatasetStatistics, measure_stem

    folder = tmp_path_factory.mktemp("mixers") / "mixer"
    statistics = DatasetStatistics()
    for number, stem in enumerate(STEMS):
        statistics.add(stem, measure_stem(noise(4.0, 0.3, seed=number), SAMPLE_RATE, stem))
    recipe = Recipe(
        statistics,
        NormalizeSettings(),
        ImpulseResponses.synthesized(0.3),  # with those of rooms, a mix of a second takes half a second
        ImpulseResponses.synthesized(0.1),
        {"digest": "noise"},
    )
    torch.manual_seed(0)
    network = models.build("crafx2", **SIZES)
    Mixer(recipe, network.eval(), 1.0, torch.device("cpu")).save(folder)
    return folder


@pytest.fixture(scope="session")
def normalized_folder(tmp_path_factory: pytest.TempPathFactory, mixer_folder: Path) -> Path:
    """What ``fxnorm normalize`` leaves, of short songs, each not the sum of its stems; not to be written to.

    Its statistics are averages alone, as the published ones: each training reads and writes them.
    """
    from fxnorm.io import audio
    from fxnorm.normalization.recipe import Recipe
    from tests.mixers import averages_of

    folder = tmp_path_factory.mktemp("normalized")
    for number, song in enumerate(("train/A", "train/B", "val/C", "val/D", "val/E")):
        stems = {stem: noise(0.6, 0.2, 10 * number + index) for index, stem in enumerate(STEMS)}
        for stem, samples in stems.items():
            audio.write(folder / song / f"{stem}.wav", samples)
        mixture = stems["bass"] + 1.5 * stems["vocals"] + 0.3 * stems["drums"]
        audio.write(folder / song / "mixture.wav", mixture)
    (folder / "recipe").mkdir()
    recipe = Recipe.load(mixer_folder)
    dataclasses.replace(recipe, statistics=averages_of(recipe.statistics)).save(folder / "recipe")
    return folder


@pytest.fixture
def empty_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is evaluated in this process has pictures with nothing in them: drawing takes most of the time."""
    from fxnorm.evaluation import plots, songs

    def of_song(_: object, folder: Path) -> None:
        for name in ("spectra", "panning", "loudness", "waveforms"):
            of_split(None, folder / songs.PICTURES / f"{name}.svg")

    def of_split(_: object, path: Path, *__: object) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg"></svg>')

    monkeypatch.setattr(songs, "write_pictures", of_song)
    monkeypatch.setattr(plots, "plot_metrics", of_split)
