"""Machines that lack what a workstation has: a home, a folder to write to, shared memory, bfloat16.

The kind: what a machine lacks costs speed or is one line before the work begins, never a trace, and nothing that
somebody else could have put there is trusted.
"""

import ctypes
import logging
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch
from numba.core import caching

import fxnorm
from fxnorm import Mixer, models
from fxnorm.errors import FxnormError, ModelError
from fxnorm.evaluation import comparison, songs
from fxnorm.runtime import compiled
from fxnorm.runtime.compiled import Kernel, is_ours_alone, kernel
from fxnorm.settings import ResourcesSettings, Settings, TrainSettings
from fxnorm.training import loop, preflight
from fxnorm.training.distributed import Processes
from fxnorm.training.tasks import task
from tests import commands
from tests.conftest import SIZES

pytestmark = pytest.mark.system

SOUNDS = np.array([[1.0, -3.0], [2.0, 0.5]], dtype=np.float32)
PEAK_OF_A_SOUND = """
import os, sys, warnings
import numpy as np
from fxnorm.effects import levels
assert "numba" not in sys.modules and "scipy.signal" not in sys.modules, "imports that cost seconds wait"
print(levels.peaks(np.array([[1.0, -3.0], [2.0, 0.5]], dtype=np.float32)).tolist())
print(getattr(levels.peaks.dispatcher._cache, "cache_path", None))
"""


def _as_a_mere_user() -> None:
    """A process of root's that may no longer write where the modes forbid it; others may not anyway."""
    pr_capbset_drop, cap_dac_override = 24, 1
    ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as an image has it: nobody may write to it."""
    folder = tmp_path_factory.mktemp("installed")
    package = Path(fxnorm.__file__).parent
    shutil.copytree(package, folder / "fxnorm", ignore=shutil.ignore_patterns("__pycache__", "built"))
    for path in [*folder.rglob("*"), folder]:
        path.chmod(path.stat().st_mode & ~0o222)
    return folder


@pytest.mark.parametrize(
    "temporary, caches",
    [
        ("writable", {}),
        ("no such folder", {}),
        ("writable", {"NUMBA_CACHE_DIR": "{read_only}", "XDG_CACHE_HOME": "{read_only}"}),
    ],
)
def test_kernels_run_where_there_is_no_home_and_the_package_cannot_be_written(
    installed: Path, tmp_path: Path, temporary: str, caches: dict[str, str]
) -> None:
    read_only = tmp_path / "read only"
    read_only.mkdir(mode=0o555)
    (tmp_path / "writable").mkdir()
    program = PEAK_OF_A_SOUND
    if temporary != "writable":
        program = f"import tempfile\ntempfile.tempdir = {str(read_only / 'temporary')!r}\n" + program
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "HOME": str(read_only / "home")}
    environment |= {name: value.format(read_only=read_only) for name, value in caches.items()}
    environment["TMPDIR"] = str(tmp_path / temporary)
    command = [sys.executable, "-B", "-c", program]
    done = subprocess.run(
        command, env=environment, cwd=read_only, preexec_fn=_as_a_mere_user, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peaks, place = done.stdout.splitlines()
    assert peaks == "[3.0, 2.0]"
    if temporary == "writable":
        private = tmp_path / "writable" / f"fxnorm-kernels-{os.geteuid()}"
        assert Path(place).parent == private
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert list(private.rglob("*.nbc"))
    else:
        assert place == "None"


@pytest.fixture
def kept_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process keeps what it compiles."""
    folder = tmp_path / "kept"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    return folder


def highest(sounds: np.ndarray) -> float:
    return float(sounds.max())


def compiled_anew(*, of: Callable[[np.ndarray], float] = highest) -> tuple[float, int]:
    """What a kernel gives that was never called in this process, and how often it was found compiled already."""
    fresh = kernel()(of)
    return fresh(SOUNDS), sum(fresh.dispatcher.stats.cache_hits.values())


def test_what_was_compiled_is_found_again_by_the_next_process(kept_in: Path) -> None:
    assert compiled_anew() == (2.0, 0)
    assert compiled_anew() == (2.0, 1)


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: content[:-2000] + bytes(2000),
        lambda content: b"{}" + content,
    ],
    ids=["half", "empty", "zeros", "zeros at the end", "something else"],
)
def test_what_is_damaged_is_compiled_anew_and_made_good(
    kept_in: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    compiled_anew()
    for file in kept_in.rglob(f"*{suffix}"):
        file.write_bytes(damage(file.read_bytes()))
    assert compiled_anew() == (2.0, 0)
    assert compiled_anew() == (2.0, 1)


def test_machine_code_of_other_types_under_this_ones_name_is_not_run(kept_in: Path) -> None:
    fresh = kernel()(highest)
    fresh(SOUNDS)
    fresh(SOUNDS.astype(np.float64))
    first, second = sorted(kept_in.rglob("*.nbc"))
    shutil.copy(second, first)  # as two processes leave it that wrote at once
    assert compiled_anew() == (2.0, 0)


@pytest.mark.parametrize("mode, safe", [(0o700, True), (0o755, True), (0o777, False), (0o1777, False), (0o775, False)])
def test_what_others_could_have_written_is_not_read(
    mode: int, safe: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching.InTreeCacheLocator, "from_function", lambda *arguments: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    kept = tmp_path / "kept/numba"
    compiled_anew()
    (place,) = kept.iterdir()
    place.chmod(mode)
    assert is_ours_alone(place) == safe
    assert compiled_anew() == (2.0, int(safe))
    assert (tmp_path / "temporary").is_dir() != safe, "kept in a place of its own"
    place.chmod(0o700)
    kept.chmod(mode & ~0o1000)
    assert is_ours_alone(place) == safe, "who can write to the folder round it can put another in its place"
    link = tmp_path / "link"
    link.symlink_to(place)
    assert not is_ours_alone(link)


def test_a_disk_that_is_full_while_it_is_kept_costs_the_keeping_alone(
    kept_in: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        assert compiled_anew() == (2.0, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "not kept compiled" in caplog.text
    assert [path for path in kept_in.rglob("*") if path.is_file()] == []
    assert compiled_anew() == (2.0, 0)


def test_every_kernel_goes_through_the_one_place() -> None:
    package = Path(fxnorm.__file__).parent
    sources = [path for path in package.rglob("*.py") if path.name != Path(compiled.__file__).name]
    assert not [path for path in sources if "njit" in path.read_text(encoding="utf-8")]


def test_a_kernel_reads_as_its_function_and_calls_others() -> None:
    def twice(value: float) -> float:
        """Two times."""
        return 2 * value

    inner: Kernel[[float], float] = kernel()(twice)
    outer = kernel(nogil=False)(lambda value: inner(value) + 1.0)
    assert outer(2.0) == 5.0
    assert inner.__doc__ == "Two times."


@pytest.mark.parametrize(
    "setting, said",
    [
        ("train.schedule=[]", "train.schedule: expected from 1 to 10,000,000 steps"),
        ("train.schedule=[{epochs: 1000000000000, learning_rate: 1}]", "train.schedule: expected from 1 to"),
        (
            "train.schedule=[{epochs: 1, learning_rate: .inf}]",
            "train.schedule.0.learning_rate: input should be a",
        ),
        ("train.sequence_seconds=.inf", "train.sequence_seconds: input should be"),
        ("train.sequence_seconds=1.0e-9", "train.sequence_seconds: expected at least 1.486, which this network"),
        ("train.sequence_seconds=0.03", "train.sequence_seconds: expected at least 1.486, which this network"),
        ("train.batch_size=1000000000000", "train.batch_size: input should be less than"),
        ("train.seed=-1", "train.seed: input should be greater than or equal to 0"),
        ("train.seed=99999999999999999999", "train.seed: input should be"),
        ("train.weight_decay=.inf", "train.weight_decay: input should be a finite number"),
        ("train.run_in_seconds=1.0e+12", "train.run_in_seconds: input should be less than"),
        ("resources.threads=1000000000", "resources.threads: input should be less than"),
        ("train.sizes={filters: 1000000000000}", "crafx2.filters: input should be less than"),
        ("normalize.effects=[loudness, loudness]", "normalize.effects: expected each effect once"),
        ("normalize.panning_limit_hz={vocals: .nan}", "normalize.panning_limit_hz.vocals: input should be"),
        (
            "normalize.panning_limit_hz={vocals: 100}",
            "normalize.panning_limit_hz: expected a frequency or null for",
        ),
        ("normalize.panning_limit_hz.drums=-5", "normalize.panning_limit_hz: expected a frequency or null"),
        ("normalize.splits=[]", "normalize.splits: expected one or more splits"),
        ("normalize.splits=[train, train]", "normalize.splits: expected one or more splits, each once"),
        ("normalize.splits=[..]", "normalize.splits: expected the name of a split, such as train, found '..'"),
        ("normalize.seed=-1", "normalize.seed: expected a number from 0"),
        ("statistics.split=a/b", "statistics.split: expected the name of a split"),
        ("evaluate.excerpt_seconds=.inf", "evaluate.excerpt_seconds: input should be"),
        ("register.margin=.nan", "register.margin: input should be a finite number"),
    ],
)
def test_a_setting_at_its_extreme_is_one_line_before_the_work(
    normalized_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ["--set", "train.sizes={filters: 8}", "--set", "train.warm_up_batches=0"]
    tiny += ["--set", "resources.loader_workers=0"]
    line = commands.the_line(commands.fxnorm("train", str(normalized_folder), "output", *tiny, "--set", setting))
    assert said in line
    assert list(tmp_path.iterdir()) == [], "before anything is written"


def test_no_clipping_of_gradients_stays_a_setting() -> None:
    assert Settings.load(None, ["train.gradient_norm=.inf"]).train.gradient_norm == np.inf


def shared_memory(free: float) -> SimpleNamespace:
    return SimpleNamespace(f_bavail=int(free), f_frsize=1)


@pytest.mark.parametrize(
    "machine, settings, said",
    [
        (64e6, {}, "the batches of 2 readers need 706 MB of shared memory, and /dev/shm has 64 MB free"),
        (64e6, {"processes": 4, "batch_size": 1}, "need 706 MB of shared memory"),
        (64e6, {"loader_workers": 8}, "the batches of 8 readers need 2399 MB"),
        (OSError(2, "No such file or directory"), {}, "this machine has none (/dev/shm: [Errno 2]"),
    ],
)
def test_shared_memory_that_does_not_suffice_is_one_line_with_both_figures_and_what_to_do(
    machine: float | OSError, settings: dict[str, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statvfs(path: object) -> SimpleNamespace:
        if isinstance(machine, OSError):
            raise machine
        return shared_memory(machine)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(settings.get("processes", 1)))
    train = TrainSettings(sizes=dict(SIZES), batch_size=settings.get("batch_size", 4))
    resources = ResourcesSettings(loader_workers=settings.get("loader_workers", 2))
    work = task(models.build("crafx2", **SIZES), train)
    with pytest.raises(FxnormError) as caught:
        preflight.check(train, resources, work, Processes(torch.device("cpu")))
    assert str(caught.value).startswith("resources.loader_workers: ")
    assert said in str(caught.value)
    assert "resources.loader_workers=0" in str(caught.value)
    preflight.check(train, ResourcesSettings(loader_workers=0), work, Processes(torch.device("cpu")))


def test_a_machine_with_small_shared_memory_is_refused_before_the_training(
    normalized_folder: Path, tmp_path: Path
) -> None:
    command = (
        f"mount -t tmpfs -o size=1m none /dev/shm && exec {sys.executable} -m fxnorm train {normalized_folder} out"
    )
    unshared = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshared, "true"], capture_output=True, check=False).returncode:
        return  # a container that may not; the test above has the same without one
    environment = os.environ | {"PYTHONPATH": str(Path(fxnorm.__file__).parents[1])}
    done = subprocess.run(
        [*unshared, "sh", "-c", command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fxnorm: ")]
    assert "/dev/shm has 1 MB free" in line
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_chosen_where_the_device_itself_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation  # a V100

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not loop._uses_bfloat16(TrainSettings(), torch.device("cuda"))
    assert loop._uses_bfloat16(TrainSettings(precision="bfloat16"), torch.device("cuda"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_mix_that_is_no_number_is_told_with_the_mixer_and_the_song(
    value: float, mixer_folder: Path, make_song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Mixer, stems: np.ndarray) -> np.ndarray:
        mix = np.zeros((2, 1000), np.float32)
        mix[1, 7] = value
        return mix

    monkeypatch.setattr(Mixer, "mix_normalized", broken)
    monkeypatch.setattr(Mixer, "normalize", lambda self, *arguments: np.zeros((8, 1000), np.float32))
    with pytest.raises(ModelError, match=f"{mixer_folder}: its mix of The Song holds NaN or infinite"):
        songs.mix_all("The Song", {}, {"crafx2": mixer_folder}, dry=False, reference=None)
    make_song("d/A", seconds=0.1)
    with pytest.raises(ModelError, match=r"the champion: its mix of .*/A holds NaN or infinite"):
        comparison.measure(Mixer.load(mixer_folder), make_song("d/A", seconds=0.1).parent, "test", "test_wet")
