"""Which code a result is from: as far as git can tell, and as kept results have it in their keys.

Kind: a list of what a result depends on, kept by hand, goes stale without a word. What counts is computed from imports:
any change of code that a result is made by gives another digest, and nothing else does.
"""

import ast
import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fxnorm.data import versions
from fxnorm.data.versions import code_digest, code_version
from fxnorm.settings import TrainSettings
from fxnorm.training import loop
from tests.project import REPOSITORY

STATISTICS, NORMALIZE, EVALUATE = "fxnorm.stages.statistics", "fxnorm.stages.normalize", "fxnorm.evaluation.songs"
TRAIN = ("fxnorm.training.loop", "fxnorm.training.tasks")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a repository with one commit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FXNORM_COMMIT", raising=False)
    (tmp_path / "file").write_text("one")
    user = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "file"], [*user, "commit", "-q", "-m", "start"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_a_changed_file_is_told(repository: Path) -> None:
    clean = code_version()
    assert clean["git.dirty"] == "false"
    (repository / "file").write_text("another")
    assert code_version() == clean | {"git.dirty": "true"}


def test_where_git_cannot_tell_whether_a_file_differs_nothing_is_said_of_it(repository: Path) -> None:
    commit = code_version()["git.commit"]
    (repository / ".git/index").write_bytes(b"broken")
    assert code_version() == {"mlflow.source.git.commit": commit, "git.commit": commit}


def test_an_image_says_which_commit_it_is_of(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXNORM_COMMIT", "v1-3-gabc-dirty")
    assert code_version() == {
        "mlflow.source.git.commit": "v1-3-gabc",
        "git.commit": "v1-3-gabc",
        "git.dirty": "true",
    }


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the library, to change lines in, which digests are computed of."""
    folder = tmp_path / "elsewhere"
    for name in ("fxnorm", "serving"):
        leave_out = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=leave_out)
    before = versions._FXNORM
    monkeypatch.setattr(versions, "_FXNORM", folder / "fxnorm")
    monkeypatch.setattr(versions, "_source", functools.cache(source))
    forget()
    yield folder / "fxnorm"
    monkeypatch.setattr(versions, "_FXNORM", before)
    forget()


_parsed: dict[tuple[str, bytes], versions._Source] = {}
_parse = versions._source.__wrapped__


def source(module: str) -> versions._Source:
    """As ``versions`` reads a module; the same text is parsed once, not for each test."""
    path = versions._path_of(module)
    assert path is not None
    key = (module, path.read_bytes())
    if key not in _parsed:
        _parsed[key] = _parse(module)
    return dataclasses.replace(_parsed[key], path=path)


def forget() -> None:
    """Let sources be read again: a process reads them once."""
    for function in (versions._path_of, versions._source, versions.code_digest, versions.packages_of):
        function.cache_clear()


def digests() -> dict[str, str]:
    """Of all that keeps results."""
    forget()
    parts = {
        "statistics": (STATISTICS,),
        "normalize": (NORMALIZE,),
        "train": TRAIN,
        "train with reverberation": (*TRAIN, "fxnorm.training.reverberation"),
        "evaluate": (EVALUATE,),
    }
    return {name: code_digest(*modules) for name, modules in parts.items()}


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) >= 1, f"{file.name} has no {old!r}"
    file.write_text(text.replace(old, new, 1))


Edit = Callable[[Path], None]


def edit(name: str, old: str, new: str) -> Edit:
    return lambda package: change(package / name, old, new)


def windows_line_ends(package: Path) -> None:
    for file in package.rglob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


def spaces_and_blank_lines(package: Path) -> None:
    change(package / "constants.py", 'MIXTURE = "mixture"\n', '\n\nMIXTURE = "mixture"   \n   \n')


@pytest.mark.parametrize(
    "edited",
    [
        edit("constants.py", "SAMPLE_RATE = 44_100\n", "SAMPLE_RATE = 44_100  # Hz, as on CDs\n"),
        edit("effects/levels.py", '"""', '"""Otherwise said. '),
        edit("constants.py", '"""Hz. Everything', '"""Hertz. All and everything'),
        edit("__init__.py", '__version__ = "', '__version__ = "9.'),
        edit("training/data.py", "if TYPE_CHECKING:\n", "if TYPE_CHECKING:\n    # for readers\n"),
        spaces_and_blank_lines,
        windows_line_ends,
        lambda package: (package / "effects/nobody_imports_it.py").write_text("x = 1\n"),
        edit("errors.py", "class FxnormError", "UNUSED = 1\n\n\nclass FxnormError"),
        edit("training/checkpoints.py", "_NAME_LENGTH = 16", "_NAME_LENGTH = 17"),
        edit("statistics/plots.py", "_LOWEST_HZ = 20.0", "_LOWEST_HZ = 21.0"),
        lambda package: None,  # it lies elsewhere
    ],
)
def test_what_changes_no_result_changes_no_digest(package: Path, edited: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as original:
        original.setattr(versions, "_FXNORM", REPOSITORY / "fxnorm")
        before = digests()
    edited(package)
    assert digests() == before


ALL = {"statistics", "normalize", "train", "train with reverberation", "evaluate"}
SOUND = ALL - {"train"}


@pytest.mark.parametrize(
    ("edited", "concerned"),
    [
        (edit("constants.py", "SAMPLE_RATE = 44_100", "SAMPLE_RATE = 48_000"), ALL),
        (edit("effects/levels.py", "import numpy as np\n", "import numpy as np\n\nX = 1\n"), SOUND),
        (edit("statistics/dataset_statistics.py", "_PANNING_SMOOTHING = 501", "_PANNING_SMOOTHING = 51"), SOUND),
        (edit("effects/panning.py", "import scipy.fft\n", "import scipy.fft as f\n"), SOUND - {"statistics"}),
        (edit("io/audio.py", "MAX_CHANNELS = ", "MAX_CHANNELS = 1 + "), ALL),
        (edit("losses.py", "FFT_SIZE", "SIZE"), {"train", "train with reverberation", "evaluate"}),
        (edit("models/envelopes.py", "import torch\n", "import torch as t\n"), ALL - {"statistics", "normalize"}),
        (
            edit("training/data.py", "import soundfile\n", "import soundfile as s\n"),
            {"train", "train with reverberation"},
        ),
        (edit("evaluation/metrics.py", "import math\n", "import math as m\n"), {"evaluate"}),
        (edit("listening_test/build.py", "import", "import sys, "), set()),
        (edit("listening_test/page/built/listening_test.css", "{", "{ "), set()),
        (edit("stages/normalize.py", '_SUBTYPE = "', '_SUBTYPE = "X'), {"normalize"}),
        (edit("stages/__init__.py", '"""', 'X = """'), {"statistics", "normalize"}),
    ],
)
def test_a_change_of_code_changes_the_digests_that_depend_on_it(
    package: Path, edited: Edit, concerned: set[str]
) -> None:
    before = digests()
    edited(package)
    after = digests()
    assert {name for name in after if after[name] != before[name]} == concerned


@pytest.mark.parametrize(
    "imports",
    [
        "def f():\n    from fxnorm import new\n",
        "from . import new\n",
        "from .new import X\n",
        "import fxnorm.new as other\n",
        "if X:\n    pass\nelse:\n    from fxnorm.new import *\n",
        "try:\n    import json\nexcept ImportError:\n    from fxnorm import new\n",
        "match X:\n    case 1:\n        from fxnorm import new\n",
        "class A:\n    from fxnorm import new\n",
        "from fxnorm.package.module import Y\n",  # whose package imports it
    ],
)
def test_a_module_counts_however_it_is_imported(package: Path, imports: str) -> None:
    (package / "root.py").write_text(imports)
    (package / "new.py").write_text("X = 1\n")
    (package / "package").mkdir()
    (package / "package/__init__.py").write_text("from ..new import X\n")
    (package / "package/module.py").write_text("Y = 1\n")
    forget()
    before = code_digest("fxnorm.root")
    (package / "new.py").write_text("X = 2\n")
    forget()
    assert code_digest("fxnorm.root") != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('x = """a\n\nb"""\n', 'x = """a\nb"""\n'),
        ('x = """a  \nb"""\n', 'x = """a\nb"""\n'),
        ('x = "a # b"\n', 'x = "a"\n'),
        ("x = 'a\\'# b'\n", "x = 'a\\''\n"),
        ("if x:\n    y()\n    z()\n", "if x:\n    y()\nz()\n"),
        ("def f():\n    'a'; return 1\n", "def f():\n    'a'; return 2\n"),
        ('f(\n    """a""",\n)\n', 'f(\n    """b""",\n)\n'),
        ("__versions__ = 1\n", "__versions__ = 2\n"),
    ],
)
def test_strings_and_indentation_are_code(package: Path, one: str, other: str) -> None:
    found = set()
    for text in (one, other):
        (package / "new.py").write_text(text)
        forget()
        found.add(code_digest("fxnorm.new"))
    assert len(found) == 2


@pytest.mark.parametrize("name", ["fxnorm.no_such_module", "no_such_module.py", "audio.py", "effects", "numpy", ""])
def test_a_module_that_is_not_there_is_no_module_without_code(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="expected a module of fxnorm, found none"):
        code_digest("fxnorm.io.audio", name)


def test_another_process_that_runs_elsewhere_finds_the_same(package: Path, tmp_path: Path) -> None:
    command = f"from fxnorm.data.versions import code_digest; print(code_digest({EVALUATE!r}))"
    environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONHASHSEED": "1"}
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digests()["evaluate"]


def test_packages_count_that_compute_and_only_where_they_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(versions.packages_of(STATISTICS)) == {"av", "numba", "numpy", "scipy", "soundfile", "soxr", "libsndfile"}
    assert "torch" in versions.packages_of(EVALUATE)
    forget()
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"1.{name}+cpu")
    assert versions.packages_of(*TRAIN)["torch"] == "1.torch", "a build is no other version"
    forget()


def test_a_trainings_identity_has_its_code_and_of_the_effects_only_with_reverberation(package: Path) -> None:
    plain, reverberated = TrainSettings(), TrainSettings(reverberation=0.5)
    forget()
    before = [loop.identity(settings) for settings in (plain, reverberated)]
    change(package / "effects/reverberation.py", "import numpy as np\n", "import numpy as n\n")
    forget()
    assert loop.identity(plain) == before[0]
    assert loop.identity(reverberated) != before[1]
    change(package / "losses.py", "FFT_SIZE", "SIZE")
    forget()
    assert loop.identity(plain) != before[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"sizes": {"filters": 8, "hidden": 4}}, {"sizes": {"hidden": 4, "filters": 8}}),
        ({"initial_weights": "a/mixer"}, {"initial_weights": "b/mixer"}),  # their content is a digest of its own
        ({"run_in_seconds": 1.0}, {}),
        ({"seed": 0}, {}),
    ],
)
def test_what_is_learnt_does_not_depend_on_how_settings_are_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert loop.identity(TrainSettings(**one)) == loop.identity(TrainSettings(**other))


STAGES = {
    "check": ("fxnorm.stages.check",),
    "statistics": (STATISTICS, "fxnorm.statistics.plots"),
    "normalize": (NORMALIZE, "fxnorm.statistics.plots"),
    "train": ("fxnorm.stages.train",),
    "evaluate": ("fxnorm.stages.evaluate",),
    "register": ("fxnorm.stages.register", "fxnorm.serving.pyfunc"),
}
"""What DVC's stages run, draw beside it, and put into what they make."""


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_watches_the_code_that_a_stage_imports_and_no_other(stage: str) -> None:
    content = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    watched: set[str] = set()
    for name in content["stages"][stage]["deps"]:
        path = REPOSITORY / name
        if name.startswith(("fxnorm/", "serving")) and path.is_dir() and (path / "__init__.py").is_file():
            watched |= {file.relative_to(REPOSITORY).as_posix() for file in path.rglob("*.py")}
        elif name.startswith(("fxnorm", "serving")):
            watched.add(name)
    needed = set(versions.files_of(*STAGES[stage], whole=stage == "register"))
    assert watched == needed, f"add {sorted(needed - watched)}, take out {sorted(watched - needed)}"


def test_dvc_registers_anew_when_code_changes_that_the_model_runs_and_not_for_a_listening_test() -> None:
    content = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    watched = content["stages"]["register"]["deps"]
    assert {"serving/pyfunc.py", "fxnorm/mixing/mixer.py", "fxnorm/io/files.py", "fxnorm/errors.py"} <= set(watched)
    assert not [name for name in watched if name.startswith(("fxnorm/listening_test", "fxnorm/cli", "fxnorm/demo"))]


def test_dvc_watches_all_splits_that_settings_may_choose() -> None:
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    for stage in ("check", "statistics", "normalize", "evaluate", "register"):
        assert not [name for name in stages[stage]["deps"] if name.startswith(("data/wet/", "data/dry/"))], stage


def test_every_file_beside_the_code_belongs_to_a_module() -> None:
    tracked = subprocess.run(["git", "ls-files", "fxnorm"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    # sources of what is in built/, and a page that is served; a Mixer, which counts by its digest wherever one is named
    elsewhere = ("fxnorm/listening_test/page/", "fxnorm/page/client/", "fxnorm/default_mixer/")
    folders = tuple(f"fxnorm/{place}" for place in versions._DATA.values())
    links = {f"fxnorm/{name}" for name in ("components", "configs", "pipeline", "serving")}
    files = [name for name in tracked.stdout.split() if not name.endswith(".py") and not name.startswith(folders)]
    files = [name for name in files if name not in links]
    assert [name for name in files if not name.startswith(elsewhere)] == []


def test_no_kernel_computes_with_what_another_file_holds() -> None:
    """Numba looks at a kernel's own file to see whether its compiled code is old. Of the library's few constants, which
    data formats have too, kernels may know."""
    kernels = 0
    for path in (REPOSITORY / "fxnorm").rglob("*.py"):
        tree = ast.parse(path.read_text())
        others = {
            name.asname or name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fxnorm")
            if node.module != "fxnorm.constants"
            for name in node.names
        }
        for constant in tree.body:  # what is made of what is imported
            if isinstance(constant, ast.Assign) and names_in(constant.value) & others:
                others |= names_in(*constant.targets)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any("kernel(" in ast.unparse(by) for by in node.decorator_list):
                assert not names_in(*node.body) & others, f"{path.name}: {node.name}"
                kernels += 1
    assert kernels >= 25


def names_in(*nodes: ast.AST) -> set[str]:
    return {name.id for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name)}
