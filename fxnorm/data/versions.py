"""Which code, which packages and which data a result is from.

What a kept result depends on is computed here alone, from the imports of the modules that make it.
A list that has to be kept by hand would be forgotten, and old results taken for new ones.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fxnorm import _HOMES
from fxnorm.data import dataset, dvc_file
from fxnorm.data.dataset import Song

_DIRTY = "-dirty"

_FXNORM = Path(__file__).parents[1]
_PACKAGE = _FXNORM.name

CHANGES_NO_RESULT = frozenset({
    "fxnorm.errors", "fxnorm.runtime.log",  # texts of errors and warnings
    "fxnorm.io.files", "fxnorm.io.object_store", "fxnorm.io.remote", "fxnorm.io.blocks",
    "fxnorm.data.published",  # how bytes come to a disk or a store or from there, and not which
    "fxnorm.data.parallel", "fxnorm.runtime.signals", "fxnorm.io.locks",  # which process does a song, and when
    "fxnorm.io.outputs", "fxnorm.data.shards",  # what is refused or reported before the work begins
    "fxnorm.training.checkpoints",  # where the state of a training is kept
    "fxnorm.training.interruption",  # when a training stops, to go on bit for bit
    "fxnorm.statistics.plots",  # pictures beside statistics and stems: drawn each time, and never kept
    "fxnorm.tracking.runs", "fxnorm.tracking.evaluations", "fxnorm.tracking.system_metrics",
    "fxnorm.tracking.searches", "fxnorm.tracking.errors",
    "fxnorm.tracking.kubeflow_runs",  # what is written of results to a tracking server
    "fxnorm.registry.registered", "fxnorm.registry.aliases", "fxnorm.registry.served_model",
    "fxnorm.registry.model_card",  # where a finished Mixer goes
    "fxnorm.registry.stored_weights",  # where weights are brought from, which count by what they are
    "fxnorm.data.demo_names",  # whether a training is told how large published ones are
    "fxnorm.data.provenance",  # whose songs a Mixer learnt from, said beside it
    "fxnorm.data.versions",  # this one: where a change of it counts other code, digests differ by themselves
})  # fmt: skip
"""Modules whose code is in nothing that is kept, and what they import neither, unless a module that counts imports it.

When in doubt leave a module out of this list: a result that is computed once more costs hours, a wrong one that is kept
makes all later results doubtful.
"""

_BY_VALUE = frozenset({"fxnorm.settings"})
"""Modules that are in results by their values, the defaults among them, which the keys of kept results hold."""

_DATA = {
    "fxnorm.catalogue.report": "catalogue/page",
    "fxnorm.evaluation.report": "evaluation/page",
    "fxnorm.quality.report": "quality/page",
    "fxnorm.demo.records.calibration": "demo/records/calibration.json",
    "fxnorm.listening_test.analyse": "listening_test/analysis.html",
    "fxnorm.listening_test.build": "listening_test/page/built",
}
"""Files beside the code that a module writes into what it makes, within the package."""

_NUMERIC = ("numba", "numpy", "scipy", "soundfile", "soxr", "torch")
"""Packages whose arithmetic is in the samples, weights and metrics."""

# A string that a quote or a # may stand in, or a comment. Strings of one kind of quote do not hold the same kind before
# Python 3.12, in f-strings neither, and this package is written for 3.11.
_STRING_OR_COMMENT = re.compile(
    r"""(?P<string>"{3}(?:[^\\]|\\.)*?"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"|(?P<comment>\#[^\n]*)",
    re.DOTALL,
)


def code_version() -> dict[str, str]:
    """Tags for the commit that the code is of, and whether a tracked file differs from it.

    In an image it is the one that ``FXNORM_COMMIT`` names, as ``git describe --dirty`` does; else that of the working
    directory's repository. Outside of both the version is unknown, and the result is empty; where git does not
    report whether a file differs, ``git.dirty`` is left out.
    """
    described = os.environ.get("FXNORM_COMMIT")
    if described:
        commit, differs = described.removesuffix(_DIRTY), described.endswith(_DIRTY)
        return {**_commit(commit), **_dirty(differs)}
    head = _git("rev-parse", "HEAD")
    if head is None:
        return {}
    # DVC writes dvc.lock after each stage, so in a pipeline it always differs
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    return {**_commit(head), **({} if changes is None else _dirty(bool(changes)))}


def files_of(*modules: str, whole: bool = False) -> tuple[str, ...]:
    """The files that DVC has to watch: those of modules and of all that they import, as paths such as
    ``fxnorm/io/audio.py``.

    Files that a module copies into its result (templates of pages) are among them.

    Args:
        modules: by their names.
        whole: with :data:`CHANGES_NO_RESULT`, which a registered model carries too; else these are left out.

    Raises:
        ModuleNotFoundError: as for :func:`code_digest`.
    """
    closure = _closure(modules, frozenset() if whole else CHANGES_NO_RESULT)
    code = [_source(module).path for module in closure]
    data = [_FXNORM / _DATA[module] for module in closure if module in _DATA]
    return tuple(sorted(_within_the_project(path) for path in [*code, *data]))


@functools.cache
def code_digest(*modules: str) -> str:
    """A hash of the code of modules and of all of this project's that they import, directly or through others.

    Imports within functions count, and the ``__init__`` of each package on the way; those for type checkers alone do
    not. Comments, docstrings, blank lines and the number of the release change nothing, nor does where the package
    lies and which Python reads it.

    Args:
        modules: by their names, such as ``fxnorm.normalization.normalizer``.

    Raises:
        ModuleNotFoundError: there is no such module. (Of a name that is no longer right, the hash of nothing would
            keep old results for good.)
    """
    total = hashlib.sha256()
    for module in _closure(modules, CHANGES_NO_RESULT | _BY_VALUE):
        total.update(f"{module}\0{_source(module).code}\0".encode())
        if module in _DATA:
            total.update(_digest_of(_FXNORM / _DATA[module]))
    return total.hexdigest()


@functools.cache
def packages_of(*modules: str) -> dict[str, str]:
    """The versions of the packages that compute for modules and all that they import.

    Build labels such as ``+cpu`` are left out: they name a way to install a version.
    """
    closure = _closure(modules, CHANGES_NO_RESULT | _BY_VALUE)
    used = {name.partition(".")[0] for module in closure for name in _source(module).imports}
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in _NUMERIC if name in used}
    if "av" in used and importlib.util.find_spec("av") is not None:
        versions["av"] = importlib.metadata.version("av")  # of an extra; its FFmpeg decodes
    if "soundfile" in used:
        import soundfile

        versions["libsndfile"] = soundfile.__libsndfile_version__  # it decodes, and may be the system's
    return versions


def made_by(*modules: str) -> str:
    """One hash of :func:`code_digest` and :func:`packages_of`."""
    return hashlib.sha256(f"{code_digest(*modules)} {packages_of(*modules)}".encode()).hexdigest()


def data_version(root: Path, songs: Iterable[Song]) -> dict[str, str]:
    """The hash of the songs' names and contents and, where DVC tracks them, the hash by which it does.

    DVC's is that of :func:`fxnorm.data.dvc_file.version_of`.
    """
    songs = list(songs)
    tracked = dvc_file.version_of(root, songs)
    return {"digest": dataset.digest(songs)} | ({} if tracked is None else {"dvc": tracked})


def _within_the_project(path: Path) -> str:
    """Of a checkout, where ``fxnorm/serving`` is a link to ``serving``, the place that is no link: DVC watches it."""
    root = _FXNORM.parent
    package = root.joinpath(*path.relative_to(root).parts[:2])
    if package.is_symlink():
        return Path(package.readlink().name, path.relative_to(package)).as_posix()
    return path.relative_to(root).as_posix()


def _commit(commit: str) -> dict[str, str]:
    return {"mlflow.source.git.commit": commit, "git.commit": commit}


def _dirty(differs: bool) -> dict[str, str]:
    return {"git.dirty": str(differs).lower()}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@dataclass(frozen=True)
class _Source:
    """A module: its file, its code without what does not count, and the names of all that it imports."""

    path: Path
    code: str
    imports: frozenset[str]


def _closure(modules: Iterable[str], without: frozenset[str]) -> list[str]:
    """Modules and all that they import of this project, in the order of their names."""
    waiting, counted = list(modules), set[str]()
    for module in waiting:
        if _path_of(module) is None:
            raise ModuleNotFoundError(f"{module}: expected a module of {_PACKAGE}, found none")
    while waiting:
        module = waiting.pop()
        if module not in counted and _path_of(module) is not None:
            counted.add(module)
            waiting += {module.rpartition(".")[0], *_source(module).imports} - without
    return sorted(counted)


@functools.cache
def _path_of(module: str) -> Path | None:
    """The file of a module of this project; None for what is another's, or no module."""
    parts = module.split(".")
    if parts[0] != _PACKAGE:
        return None
    path = _FXNORM.parent.joinpath(*parts)
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


@functools.cache
def _source(module: str) -> _Source:
    path = _path_of(module)
    assert path is not None
    text = path.read_text(encoding="utf-8-sig")
    statements = list(_statements(ast.parse(text, str(path))))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _Source(path, _code(text, statements), frozenset(_imports(statements, package)))


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """All statements, within functions and classes too, but for those that are for type checkers alone."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        type_checking = isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING"
        for field in ("orelse",) if type_checking else ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, field, None)
            waiting += below if isinstance(below, list) else []


def _imports(statements: Iterable[ast.stmt], package: str) -> Iterator[str]:
    """Names of imported modules, and of what is taken from them, which may be modules too."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*above, node.module] if node.module else above)
            yield source
            for name in node.names:
                yield _HOMES.get(name.name, "") if source == _FXNORM.name else ""
                yield f"{source}.{name.name}"


def _code(text: str, statements: Iterable[ast.stmt]) -> str:
    """A source without comments, docstrings, blank lines, spaces at the ends of lines, and the release's number."""
    lines = text.split("\n")
    for node in filter(_changes_nothing, statements):
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        before = lines[first].encode()[: node.col_offset].strip()
        after = lines[last - 1].encode()[node.end_col_offset :].strip()
        if not before and (not after or after.startswith(b"#")):
            lines[first:last] = [""] * (last - first)
    # line ends within strings are code: they are put aside while lines are looked at
    joined = _STRING_OR_COMMENT.sub(lambda match: (match["string"] or "").replace("\n", "\0"), "\n".join(lines))
    stripped = [line.rstrip() for line in joined.split("\n")]
    return "\n".join(line for line in stripped if line).replace("\0", "\n")


def _changes_nothing(node: ast.stmt) -> bool:
    """Whether a statement is a string by itself, as docstrings are, or the number of the release."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Assign) and _name(node.targets[0]) == "__version__"


def _name(node: ast.expr) -> str | None:
    """The last part of a (dotted) name; None for any other expression."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _digest_of(path: Path) -> bytes:
    """A hash of a text file or a folder of them, whatever its line ends are."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(f"{file.relative_to(path).as_posix()}\0".encode())
            total.update(hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).digest())
    return total.digest()
