"""A project as a user has one: a git repository with tiny data under DVC, settings to match, and commands run in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests import prefork

REPOSITORY = Path(__file__).parents[1]
STAGES = ("inputs", "check", "statistics", "normalize", "train", "evaluate", "register")
TINY = {
    "sizes": {"filters": 16, "bottleneck": 8, "hidden": 8, "skip": 8, "blocks": 2, "repeats": 1, "squeeze_ratio": 1},
    "sequence_seconds": 1.0,
    "batch_size": 2,
    "batches_per_epoch": 3,
    "warm_up_batches": 1,
    "schedule": [{"epochs": 2, "learning_rate": 1.0e-3}],
    "run_in_seconds": 1.0,
}


class Project:
    """A checkout with tiny data and settings, in which commands are run as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hidden = ("MLFLOW_", "DVC_")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        # fxnorm, and with it each of DVC's stages, starts in a moment
        paths = (prefork.programs(), Path(sys.executable).parent, os.environ["PATH"])
        self.environment["PATH"] = os.pathsep.join(map(str, paths))
        self.environment["DVC_NO_ANALYTICS"] = "1"
        self.environment["OMP_NUM_THREADS"] = "1"  # sums, and so metrics, depend on it in their last digits
        self.environment["LOKY_MAX_CPU_COUNT"] = "1"  # songs one after another: another process takes seconds to start
        self.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def stages_run(self, output: str) -> list[str]:
        return [stage for stage in STAGES if f"Running stage '{stage}'" in output]

    def settings(self) -> dict[str, dict[str, object]]:
        content: dict[str, dict[str, object]] = yaml.safe_load((self.folder / "params.yaml").read_text())
        return content

    def set(self, section: str, **values: object) -> None:
        content = self.settings()
        content[section] |= values
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", message)


def checkout(folder: Path) -> Project:
    """A new project with the code and DVC's files, and nothing else."""
    project = Project(folder)
    for name in ("fxnorm", "serving", "components", "pipeline"):
        # with what Numba has compiled, which lies beside the code
        ignored = shutil.ignore_patterns("node_modules")
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("params.yaml", "dvc.yaml", ".gitignore"):
        shutil.copy(REPOSITORY / name, folder / name)
    project.run("git", "init", "-q", "-b", "main")
    project.run("dvc", "init", "-q")
    shutil.copy(REPOSITORY / ".dvcignore", folder / ".dvcignore")
    return project


def reproduced(folder: Path) -> Project:
    """A new project in which all of DVC's stages have run once."""
    from tests import stores  # takes seconds to import

    project = checkout(folder)
    sizes = [text for split in ("train=2", "val=1", "test=1", "dry=1") for text in ("--songs", split)]
    project.run("fxnorm", "demo-data", "data", *sizes, "--seconds", "5", "6")
    project.run("dvc", "add", "-q", "data")
    project.set("train", **TINY)
    project.set("resources", threads=1, loader_workers=0)
    stores.new_database(folder / "mlflow.db")
    project.commit("start")
    assert project.stages_run(project.run("dvc", "repro")) == list(STAGES)
    return project


def after_make_demo(original: Project, folder: Path) -> Project:
    """A copy of a project in which all stages have run, with what else lies in a checkout after ``make demo``.

    It has a champion, its own MLflow store, and in ``.venv`` the environment that the tests run in.
    """
    shutil.copytree(original.folder, folder, symlinks=True)
    project = Project(folder)
    del project.environment["MLFLOW_TRACKING_URI"]
    for name in ("docs", "configs", "deploy"):
        shutil.copytree(REPOSITORY / name, folder / name, dirs_exist_ok=True)
    for name in ("Makefile", "README.md", "pyproject.toml", "constraints.txt", ".dvc/config"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    project.set("register", margin=-1.0e6)  # lets any candidate pass
    project.run("dvc", "repro")
    project.commit("as make demo leaves it")
    return project
