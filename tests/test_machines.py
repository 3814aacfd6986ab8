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

import numba
import numpy as np
import pytest
from numba.core import caching

import fxnorm
from fxnorm import compiled
from fxnorm.compiled import Kernel, is_ours_alone, kernel

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
