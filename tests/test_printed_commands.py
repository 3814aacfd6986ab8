"""Commands that are printed run as they stand, in a shell in which nothing was activated.

What is printed: the blocks of the pages, what ``make`` says, and commands that help and error texts name.
"""

import ast
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from fxnorm.cli import main
from fxnorm.errors import EXTRAS
from tests import kernels, pages, prefork, servers
from tests.project import REPOSITORY, Project, after_make_demo
from tests.waiting import PATIENCE, until

PAGE_SECONDS = 4 * PATIENCE
"""For all that a page says."""
PORTS = (5000, 5001)  # that the pages' servers listen at
SHELL, PYTHON = "sh", "python"

# 'fxnorm listening test …' are kinds of files
_NAMED_IN_CODE = re.compile(
    r"['`](?!fxnorm listening test )((?:fxnorm|dvc|make|mlflow) [^'`\n]*)['`]|^(fxnorm (?!listening test ).*)",
    re.MULTILINE,
)
"""A command in quotes, or on a line of its own as in the card of a model."""

SHELL_BLOCKS = [block for page in pages.PAGES for block in pages.blocks(page) if block.language == SHELL]
PROGRAMS = [block for page in pages.PAGES for block in pages.blocks(page) if block.language in (SHELL, PYTHON)]
RUN = sorted({block.page for block in PROGRAMS if block.not_run is None})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which nothing is set up."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """Of a shell in which nothing was activated; on a machine of one core, where no second process has to start."""
    one = {"LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "1"}
    return {"HOME": str(home), "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"} | one


@pytest.fixture(scope="module")
def demo(original_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project as ``make demo`` leaves it, but for the sizes of data and network."""
    made = after_make_demo(original_project, tmp_path_factory.mktemp("demo") / "fxnorm")
    kernels.bring(made.folder / "mlartifacts")
    return made


@pytest.fixture
def folder(demo: Project, tmp_path: Path) -> Iterator[Path]:
    """A copy of that project, which a page may change."""
    copy = tmp_path / "fxnorm"
    shutil.copytree(demo.folder, copy, symlinks=True)
    yield copy
    shutil.rmtree(copy)


def run(command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> int:
    """Run to its end a command and all that it started; gives its status."""
    with open(log, "a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return process.wait(PAGE_SECONDS)
    finally:
        end_group(process.pid)
        process.wait()


def end_group(number: int) -> None:
    """End the processes that a page left, if any: politely, and then not."""
    with contextlib.suppress(ProcessLookupError):  # none is left
        os.killpg(number, signal.SIGTERM)
        for _ in range(100):
            os.killpg(number, 0)
            time.sleep(0.1)
        os.killpg(number, signal.SIGKILL)


_TAKES_MINUTES = ("docs/tutorial.md",)  # which goes through all stages once more


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page in _TAKES_MINUTES else ()) for page in RUN]
)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: str, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    taken = [port for port in PORTS if servers.listens(port)]
    assert not taken, f"another program listens at port {taken}, which the pages' servers need: end it"
    shown = [block for block in pages.blocks(page) if block.not_run is None]
    (folder / ".venv").unlink()
    prefork.make_environment(folder / ".venv")
    script, program, log, place = (tmp_path / name for name in ("page.sh", "page.py", "log", "place"))
    script.write_text(
        "\n".join(f"echo {block.place} > '{place}'\n{block.text}" for block in shown if block.language == SHELL)
    )
    assert run(["bash", "-eu", str(script)], folder, environment, log) == 0, f"{place.read_text()}{log.read_text()}"
    texts = [block.text for block in shown if block.language == PYTHON]
    if texts:
        program.write_text("\n".join(texts))
        assert run([".venv/bin/python", str(program)], folder, environment, log) == 0, log.read_text()


def test_a_block_that_is_not_run_has_one_of_few_reasons() -> None:
    reasons = {block.place: block.not_run for block in PROGRAMS if block.not_run is not None}
    assert {place: text for place, text in reasons.items() if text.partition(":")[0] not in pages.REASONS} == {}


def refused(words: list[str]) -> str | None:
    """What is wrong with a command, as far as it can be told without running it; None for what is not ours."""
    name, *rest = words
    name = name.removeprefix(".venv/bin/")
    if name == "fxnorm":
        return pages.refusal(main, rest)
    if name == "mlflow":
        from mlflow.cli import cli

        return pages.refusal(cli, rest)
    if name == "dvc":
        from dvc.cli.parser import get_main_parser

        return pages.refusal_by_parser(get_main_parser(), rest)
    if name == "make":
        targets = [word for word in rest if re.fullmatch(r"[a-z][a-z-]*", word)]
        made = subprocess.run(["make", "-n", *targets], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return None if made.returncode == 0 else made.stderr
    return None


@pytest.mark.parametrize("block", [block for block in SHELL_BLOCKS if block.not_run], ids=lambda block: block.place)
def test_commands_of_a_block_that_is_not_run_exist(block: pages.Block) -> None:
    assert not [(words, found) for words in pages.commands(block.text) if (found := refused(words))]


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_in_the_text_of_a_page_exist(page: str) -> None:
    named = [code.split() for code in pages.inline_code(page) if re.match(r"(fxnorm|make) ", code)]
    assert not [(words, found) for words in named if (found := refused(words))]


def texts_of(module: ast.Module) -> Iterator[str]:
    """Every string of a module's code; what an f-string puts in stands there as X."""
    parts = {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def test_commands_that_help_and_errors_name_exist() -> None:
    modules = [
        path for name in ("fxnorm", "serving", "components", "pipeline") for path in REPOSITORY.glob(f"{name}/**/*.py")
    ]
    found = {}
    for path in modules:
        for text in texts_of(ast.parse(path.read_text(encoding="utf-8"))):
            for found_in_text in _NAMED_IN_CODE.finditer(text):
                quoted = found_in_text[1] or found_in_text[2]
                found[quoted] = refused(quoted.split())
    assert len(found) >= 5
    assert {quoted: said for quoted, said in found.items() if said} == {}


def printed_by_make_demo() -> str:
    """What ``make demo`` says at its end."""
    made = subprocess.run(["make", "-n", "demo"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    echoes = "\n".join(line for line in made.splitlines() if re.match(r"echo\b", line))
    return subprocess.run(["bash", "-c", echoes], capture_output=True, text=True, check=True).stdout


def command_of(what: str) -> str:
    (line,) = (line for line in printed_by_make_demo().splitlines() if line.startswith(what))
    return line.removeprefix(what).strip()


def test_what_make_says_exists(demo: Project) -> None:
    said = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"\bmake ([a-z-]+)", said)
    assert len(targets) >= 8
    assert not [found for target in targets if (found := refused(["make", target]))]
    printed = printed_by_make_demo()
    assert not [found for words in map(str.split, re.findall(r"\.venv/bin/.*", printed)) if (found := refused(words))]
    results = re.findall(r"reports/\S+", printed)
    assert len(results) >= 3
    assert all((demo.folder / result).exists() for result in results)


def test_mlflows_pages_are_served_as_make_demo_says_until_a_signal(
    demo: Project, environment: dict[str, str], tmp_path: Path
) -> None:
    """``test_pipeline.py`` has the same of the endpoint."""
    port = servers.free_port()
    log = tmp_path / "log"
    with open(log, "w", encoding="utf-8") as output:
        server = subprocess.Popen(
            ["bash", "-c", f"exec {command_of('Experiments')} --port {port} --workers 1"],
            cwd=demo.folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: server.poll() is not None or servers.answers(f"http://127.0.0.1:{port}/health"), log.read_text)
        assert server.poll() is None, log.read_text()
        server.send_signal(signal.SIGTERM)  # to it alone: what it started ends with it
        server.wait(PATIENCE)
        until(lambda: not servers.listens(port))
    finally:
        end_group(server.pid)
        server.wait()


@pytest.mark.parametrize(
    "variables, arguments, timeout",
    [
        ({}, [], "600"),
        ({}, ["--timeout", "5"], "5"),
        ({"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "90"}, [], "90"),
        ({"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "90"}, ["--timeout", "5"], "5"),
    ],
)
def test_serve_hands_its_time_limit_the_store_and_the_programs_to_mlflow(
    variables: dict[str, str], arguments: list[str], timeout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fxnorm.cli import endpoint

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**variables, "PATH": "/usr/bin"}.items():
        monkeypatch.setenv(name, value)
    started: list[tuple[list[str], Mapping[str, str]]] = []
    monkeypatch.setattr(endpoint.runs, "configure", lambda: "sqlite:///mlflow.db")
    monkeypatch.setattr(endpoint, "_check_store", lambda address: None)
    monkeypatch.setattr(endpoint.registered, "check", lambda model: None)
    monkeypatch.setattr(os, "execve", lambda program, command, variables: started.append((command, variables)))
    main.main(["serve", "--port", "5003", *arguments], standalone_mode=False)
    ((command, passed),) = started
    options = dict(zip(command[-8::2], command[-7::2], strict=True))
    assert options == {
        "--model-uri": "models:/fxnorm-automix@champion",
        "--host": "127.0.0.1",
        "--port": "5003",
        "--timeout": timeout,
    }
    assert passed["MLFLOW_TRACKING_URI"] == "sqlite:///mlflow.db"
    assert passed["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"


@pytest.mark.parametrize(
    "model, said",
    [
        ("artifacts/mixer", "artifacts/mixer: expected default or a registered model, such as models:/NAME@champion"),
        ("models:/fxnorm-automix@champion", "mlflow.db: no MLflow store"),
    ],
)
def test_serve_says_in_one_line_what_is_not_there(
    model: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit) as ended:
        main.main(["serve", model], prog_name="fxnorm")
    assert ended.value.code == 1
    error = capfd.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_serve_names_a_model_that_the_registry_does_not_have(demo: Project) -> None:
    command = ["fxnorm", "serve", "models:/another@champion"]
    done = subprocess.run(
        command,
        cwd=demo.folder,
        env=demo.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if "INFO" not in line)
    assert line.startswith("fxnorm: models:/another@champion: not in the registry at sqlite:///mlflow.db")


def test_extras_that_errors_name_are_those_of_the_distribution() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert EXTRAS.keys() <= extras.keys()


def test_the_check_of_printed_commands_finds_what_does_not_exist() -> None:
    for words in (["mixx"], ["mix", "--dryer"], ["pipeline", "compiles"], ["train", "--set", "x", "--unset=1"]):
        assert pages.refusal(main, words), words
    for words in ([], ["--version"], ["COMMAND", "--help"], ["pipeline", "run", "--cache"], ["mix", "A", "--dry"]):
        assert pages.refusal(main, words) is None, words
    assert isinstance(main, click.Group)
    assert refused(["make", "nothing"])
    assert refused(["dvc", "nothing"])
    assert refused(["mlflow", "ui", "--nothing"])
    script = (
        "A=1 fxnorm mix \\\n  --dry 'a b' > log && dvc repro  # a comment\npython - <<'EOF'\nmake it\nEOF\nmake x &\n"
    )
    assert list(pages.commands(script)) == [
        ["fxnorm", "mix", "--dry", "a b"],
        ["dvc", "repro"],
        ["python", "-"],
        ["make", "x"],
    ]


@pytest.fixture
def archive(demo: Project, tmp_path: Path) -> Project:
    """The same project as an archive leaves it: no git repository."""
    shutil.copytree(demo.folder, tmp_path / "archive", symlinks=True, ignore=shutil.ignore_patterns(".git"))
    without = Project(tmp_path / "archive")
    without.environment["GIT_CEILING_DIRECTORIES"] = str(tmp_path)
    return without


def test_a_downloaded_archive_works_without_git(archive: Project) -> None:
    recipe = archive.run("make", "-n", "--assume-old=.venv/.installed", "demo")
    assert "no git repository here" in archive.run("make", "--silent", "check-repository")
    (configuring,) = (line for line in recipe.splitlines() if "dvc config" in line)
    archive.run("bash", "-c", configuring)
    archive.run("dvc", "add", "--quiet", "data")
    archive.set("register", margin=-2.0e6)
    assert archive.stages_run(archive.run("dvc", "repro")) == ["register"]
    # and as the page says, once it is a repository
    archive.run("git", "init", "--quiet")
    archive.run("dvc", "config", "--local", "--unset", "core.no_scm")
    archive.run("bash", "-c", configuring)
    assert "no_scm" not in (archive.folder / ".dvc/config.local").read_text()
    assert archive.run("make", "--silent", "check-repository") == ""
    archive.run("dvc", "status", "register")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile in a folder with what it looks at before it installs anything."""
    (tmp_path / "fxnorm").mkdir()
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("serving", "components", "pipeline"):
        (tmp_path / name).mkdir()
        (tmp_path / "fxnorm" / name).symlink_to(f"../{name}")
    return tmp_path


def make(folder: Path, *arguments: str) -> tuple[int, str]:
    command = ["make", "--silent", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return done.returncode, done.stderr.partition("make: ***")[0].strip()


def test_make_says_that_links_were_not_kept_before_it_installs(checkout: Path) -> None:
    assert make(checkout, "check-folder") == (0, "")
    (checkout / "fxnorm/serving").unlink()
    (checkout / "fxnorm/serving").write_text("../serving")
    status, said = make(checkout, "demo")
    assert status != 0
    assert said.startswith("fxnorm/serving: expected a link to ../serving, found none; unpack the archive with tar or")
    assert len(said.splitlines()) == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    "python, said",
    [
        ("exit 1", "Python 3.9.2: expected Python 3.11 or newer"),
        ('case "$2" in *version_info*) exit 0;; *) exit 1;; esac', "cannot make a virtual environment"),
        (None, "not found; expected Python 3.11 or newer"),
    ],
)
def test_make_says_that_python_does_not_do_before_it_installs(checkout: Path, python: str | None, said: str) -> None:
    program = checkout / "python"
    if python is not None:
        program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo Python 3.9.2; exit; }}\n{python}\n')
        program.chmod(0o755)
    status, line = make(checkout, "demo", f"PYTHON={program}")
    assert status != 0
    assert said in line
    assert len(line.splitlines()) == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("form, unpack", [("tar", ["tar", "-xf"]), ("zip", ["unzip", "-q"])])
def test_archives_keep_the_links_of_the_package(form: str, unpack: list[str], tmp_path: Path) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("an archive has no history to make an archive of")
    packed = tmp_path / f"archive.{form}"
    parts = ("Makefile", "fxnorm", "serving", "components", "pipeline")
    command = ["git", "archive", "--format", form, "--output", str(packed), "HEAD", *parts]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    subprocess.run([*unpack, packed], cwd=tmp_path, check=True)
    assert make(tmp_path, "check-folder") == (0, "")
    assert (tmp_path / "fxnorm/serving").is_symlink()
